"""Boxes of pictures in COCO's format, as they are read for the robot and for training."""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import ExifTags
from PIL import Image as PillowImage
from vl2v_ros.files import one_line, read_json

MOST = 1e9  # of a size or a place in a picture [px]


@dataclass(frozen=True)
class CocoBox:
    """A box of a COCO file: its id there; left, top, width and height [px]."""

    id: int
    place: list[float]


@dataclass(frozen=True)
class BoxedImage:
    """
    One image of a COCO file.

    entry: what the file says of it: id, file_name, width, height and more.
    size: width and height [px].
    boxes: those of its annotations, without crowds.
    """

    entry: dict[str, object]
    size: tuple[int, int]
    boxes: list[CocoBox]

    @property
    def file(self) -> PurePosixPath:
        """Path of the picture, as the file names it."""
        return PurePosixPath(str(self.entry['file_name']))


def numbers(values: Sequence[float]) -> list[float]:
    """Return numbers of pixels; raises ValueError for others, and for what is not finite."""
    found = [float(value) for value in values]
    if not all(abs(number) <= MOST for number in found):  # NaN is none of these
        raise ValueError(f'expected numbers of pixels, got {found}')
    return found


def size(*sides: float) -> tuple[int, int]:
    """Return width and height [px]; raises ValueError for what is no size."""
    width, height = (int(side) for side in numbers(sides))
    if min(width, height) < 1:
        raise ValueError(f'expected a picture of at least 1 x 1 px, got {width} x {height}')
    return width, height


def upright(path: Path, said: tuple[int, int], boxes: Sequence[Sequence[float]]
            ) -> tuple[tuple[int, int], list[list[float]]]:
    """
    Turn boxes as the EXIF of a file turns its pixels, if they count those that are stored.

    :param said: width and height of the picture in the COCO file [px].
    :param boxes: left, top, width and height of each [px].
    :return: width and height of the picture as it is seen, and the boxes in it.
    """
    same = said, [list(box) for box in boxes]
    try:
        with PillowImage.open(path) as image:
            turn, stored = image.getexif().get(ExifTags.Base.Orientation, 1), image.size
    except Exception:  # noqa: BLE001 of Pillow's, any; told of when the file is checked or read
        return same
    if turn not in range(2, 9) or said != stored:  # else of an upright copy
        return same
    width, height = stored

    def turned(box: Sequence[float]) -> list[float]:
        left, top, wide, high = box
        left = width - left - wide if turn in (2, 3, 7, 8) else left
        top = height - top - high if turn in (3, 4, 6, 7) else top
        return [top, left, high, wide] if turn > 4 else [left, top, wide, high]
    return (height, width) if turn > 4 else stored, [turned(box) for box in boxes]


def read_boxes(path: Path) -> list[BoxedImage]:
    """
    Read the pictures of a COCO file with their boxes; their categories are ignored.

    :raises ValueError: for a file that is none.
    """
    try:
        coco = read_json(path)
        by_id = {entry['id']: BoxedImage(dict(entry), size(entry['width'], entry['height']), [])
                 for entry in coco['images']}
        for image in by_id.values():
            if not image.file.name or image.file.is_absolute() or '..' in image.file.parts:
                raise ValueError(f'expected the file_name of a picture, got {image.file}')
        for number, entry in enumerate(coco['annotations'], 1):
            if not entry.get('iscrowd'):
                left, top, width, height = numbers(entry['bbox'])
                by_id[entry['image_id']].boxes.append(
                    CocoBox(int(entry.get('id', number)), [left, top, width, height]))
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path}: expected COCO's images and annotations, got "
                         f'{type(error).__name__}: {one_line(error)}') from error
    if not by_id:
        raise ValueError(f'{path}: expected images, found none')
    return list(by_id.values())
