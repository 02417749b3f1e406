"""Draw labelled boxes into pictures."""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image
from vl2v_ros.drawing.overlay import BAR
from vl2v_ros.drawing.text import line
from vl2v_ros.images.regions import Box, inside

GREY = 140, 140, 140  # RGB, of boxes without a label
FARTHEST = 1 << 15  # corners beyond are moved here: OpenCV counts in small numbers [px]
MOST = 200  # boxes drawn, those with a label first


@dataclass(frozen=True)
class Mark:
    """
    A box to draw.

    label: its name; '' draws it thin and grey.
    distance: how far it is [m]; None: not known.
    """

    box: Box
    label: str = ''
    distance: float | None = None


def draw_boxes(rgb: np.ndarray, marks: Sequence[Mark], font: str = '') -> None:
    """
    Draw at most MOST boxes, each with its name and distance; those outside are left out.

    :param rgb: (H, W, 3) uint8, drawn into.
    :param font: font file that is tried first; '' for none.
    """
    height, width = rgb.shape[:2]
    shown = sorted(_visible(marks, width, height), key=lambda mark: not mark.label)[:MOST]
    shown.sort(key=lambda mark: (bool(mark.label), -mark.box.width * mark.box.height))  # on top
    thick = max(2, height // 240)
    for mark in shown:
        cv2.polylines(rgb, [_corners(mark.box)], True, BAR if mark.label else GREY,
                      thick if mark.label else 1)
    taken: list[tuple[int, int, int, int]] = []
    for mark in reversed(shown):  # small boxes choose first
        if mark.label:
            taken.append(_write(rgb, mark, font, taken))


def _visible(marks: Sequence[Mark], width: int, height: int) -> Iterator[Mark]:
    for mark in marks:
        try:
            inside(mark.box, width, height, 1)
            yield mark
        except ValueError:  # no numbers, no size, or outside
            pass


def _corners(box: Box) -> np.ndarray:
    """Return (4, 2) int32 corners [px]."""
    cosine, sine = np.cos(box.angle), np.sin(box.angle)
    sides = np.minimum((box.width, box.height), 2 * FARTHEST)  # what is larger could overflow
    half = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * sides / 2
    corners = half @ np.array([(cosine, sine), (-sine, cosine)]) + (box.x, box.y)
    return np.rint(corners.clip(-FARTHEST, FARTHEST)).astype(np.int32)


def _write(rgb: np.ndarray, mark: Mark, font: str, taken: Sequence[tuple[int, int, int, int]]
           ) -> tuple[int, int, int, int]:
    """
    Write a name above its box, else below or in it, where no other stands if there is room.

    :param taken: left, top, right, bottom of the names that stand there [px].
    :return: those of this name.
    """
    height, width = rgb.shape[:2]
    size = max(9, min(height // 34, width // 40))  # of the letters [px]
    texts = [line(mark.label, size, width, font)]  # parts of their own, as names are kept drawn
    if mark.distance is not None:
        texts.append(line(f'{mark.distance:.2f} m', size, width))
    gap = size // 3
    wide, high = sum(text.width + gap for text in texts) + gap, texts[0].height + 2
    box_left, box_top, _, box_bottom = inside(mark.box, width, height, 1)
    left = max(0, min(round(box_left), width - wide))
    places = [(left, top, left + wide, top + high)
              for top in (round(box_top) - high, round(box_bottom), round(box_top))]
    inner = [place for place in places if 0 <= place[1] and place[3] <= height] or places[-1:]
    chosen = next((place for place in inner if not any(_cross(place, other) for other in taken)),
                  inner[0])
    part = rgb[chosen[1]:chosen[3], left:left + wide]
    tag = Image.new('RGB', (part.shape[1], part.shape[0]), BAR)
    start = gap
    for text in texts:
        tag.paste(text, (start, 1), text)
        start += text.width + gap
    part[:] = np.asarray(tag)
    return chosen


def _cross(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return (one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3])
