"""Regions of an image: the square of pixels that a box is labelled by, as a view."""
from collections.abc import Sequence
from dataclasses import dataclass
import math

from vl2v_ros.images.frame import Frame


@dataclass(frozen=True)
class Box:
    """
    A rectangle in an image, which may be turned and may reach over the border.

    x, y: its centre [px], from the upper left corner of the image.
    width, height: its sides [px], before it is turned.
    angle: how far it is turned about its centre [rad].
    """

    x: float
    y: float
    width: float
    height: float
    angle: float = 0.0

    def upright(self) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom of the smallest upright rectangle around it [px]."""
        cosine, sine = abs(math.cos(self.angle)), abs(math.sin(self.angle))
        wide = (self.width * cosine + self.height * sine) / 2
        high = (self.width * sine + self.height * cosine) / 2
        return self.x - wide, self.y - high, self.x + wide, self.y + high


def inside(box: Box, width: int, height: int, least: float) -> tuple[float, float, float, float]:
    """
    Return left, top, right and bottom of the part of a box that is inside an image [px].

    :param width, height: size of the image [px].
    :param least: the smallest side that the part must have [px].
    :raises ValueError: for a box without numbers or size, outside the image, or too small in it.
    """
    values = (box.x, box.y, box.width, box.height, box.angle)
    if not all(map(math.isfinite, values)) or min(box.width, box.height) <= 0:
        raise ValueError(f'expected a box with a centre and a size above 0, got {box}')
    left, top, right, bottom = box.upright()
    left, right = max(left, 0), min(right, width)
    top, bottom = max(top, 0), min(bottom, height)
    if min(right - left, bottom - top) < max(least, 1):
        raise ValueError(f'expected a box of at least {max(least, 1):g} px in an image of {width} '
                         f'x {height} px, got {box}')
    return left, top, right, bottom


def cut(frame: Frame, box: Box, margin: float, least: float) -> Frame:
    """
    Return the part of a frame that shows a box, without a copy.

    The part is a square, as the student sees squares: its side is the longer side of the upright
    rectangle around the box. It is moved, not cut, where it would reach over the border, and is
    smaller only where the image itself is.

    :param margin: how far the square reaches beyond the box on each side, as a part of its side.
    :param least: the smallest side that a box must have inside the image [px].
    :raises ValueError: as `inside` does.
    """
    height, width = frame.pixels.shape[:2]
    return Frame(frame.pixels[square(box, margin, least, width, height)], frame.order)


def square(box: Box, margin: float, least: float, width: int, height: int
           ) -> tuple[slice, slice]:
    """
    Return the rows and columns of the square that `cut` returns, in an image of a size [px].

    :raises ValueError: as `inside` does.
    """
    left, top, right, bottom = inside(box, width, height, least)
    side = max(right - left, bottom - top) * (1 + 2 * margin)
    return (_interval((top + bottom) / 2, side, height),
            _interval((left + right) / 2, side, width))


def _interval(middle: float, side: float, length: int) -> slice:
    """Return whole pixels of [0, length) with `side` around the middle, as far as there are."""
    count = min(math.ceil(side), length)
    start = round(middle - count / 2)
    start = min(max(start, 0), length - count)
    return slice(start, start + count)


def cut_all(frame: Frame, boxes: Sequence[Box], margin: float, least: float, most: int
            ) -> list[Frame | None]:
    """
    Return the part of each box; None where it has none (see `cut`), and after `most` parts.

    :return: as many as there are boxes, in their order.
    """
    parts: list[Frame | None] = []
    for box in boxes:
        try:
            parts.append(cut(frame, box, margin, least) if most > 0 else None)
            most -= 1
        except ValueError:
            parts.append(None)
    return parts
