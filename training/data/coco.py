"""
Read COCO annotations: every object as a crop, or every picture as a scene.

Annotations are root/annotations.json, or one per domain: root/<domain>/annotations.json.
"""
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
import unicodedata

import numpy as np
from training.data.image_index import ANNOTATIONS, Index, make_index, without_corrupt
from vl2v_ros.files import one_line, read_json
from vl2v_ros.images.coco import numbers, size, upright
from vl2v_ros.images.regions import Box, square


@dataclass(frozen=True)
class CocoImage:
    """
    One image of a COCO file.

    size: width, height [px]. objects: (class; box as in the file: left, top, width, height [px];
    visible fraction) of each.
    """

    file: str
    domain: str
    size: tuple[int, int]
    objects: list[tuple[str, list[float], float]]


def _read_coco(root: Path) -> tuple[list[CocoImage], list[str]]:
    """Return the pictures of root/annotations.json or root/<domain>/annotations.json; classes."""
    paths = ([root / ANNOTATIONS] if (root / ANNOTATIONS).is_file()
             else sorted(root.glob(f'*/{ANNOTATIONS}')))
    if not paths:
        raise ValueError(f'expected {root}/{ANNOTATIONS} or {root}/<domain>/{ANNOTATIONS} in '
                         "COCO's format, found neither")
    pictures: list[CocoImage] = []
    classes: list[str] = []
    for path in paths:
        folder = '' if path.parent == root else f'{path.parent.name}/'
        try:
            coco = read_json(path)
            names = {entry['id']: unicodedata.normalize('NFC', entry['name'])
                     for entry in coco['categories']}
            by_id = {entry['id']: CocoImage(
                folder + entry['file_name'], path.parent.resolve().name,
                size(entry['width'], entry['height']), [])
                     for entry in coco['images']}
            for entry in coco['annotations']:
                if not entry.get('iscrowd'):
                    left, top, width, height = numbers(entry['bbox'])
                    visible, = numbers([entry.get('visible', 1.0)])
                    by_id[entry['image_id']].objects.append(
                        (names[entry['category_id']], [left, top, width, height], visible))
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ValueError(f"{path}: expected COCO's images, annotations and categories, got "
                             f'{type(error).__name__}: {one_line(error)}') from error
        pictures += by_id.values()
        classes += names.values()
    if not pictures:
        raise ValueError(f'{root}: expected images in its {ANNOTATIONS}, found none')
    return pictures, classes


def read_crops(root: Path, margin: float = 0.1, least_visible: float = 0.3, smallest: int = 8,
               check: bool = True, squares: bool = False) -> Index:
    """
    Read COCO annotations (root/ or root/<domain>/annotations.json), every object one image.

    Boxes count the pixels of a file as stored where its width and height do, as COCO's own tools
    do; else those of the picture as it is seen. Crowds (COCO's `iscrowd`) and small or hidden
    objects are left out.

    :param margin: added at each side of the box, as a fraction of its width or height, within the
        picture.
    :param least_visible: smallest `visible`, the part of an object that nothing covers, in [0, 1];
        an annotation without it counts as 1.
    :param smallest: smallest length of the shorter side of the box [px].
    :param squares: cut each box as the node cuts those of a detector (regions.py), with `margin`
        as a fraction of its longer side.
    :raises ValueError: if there are no annotations, or none is left.
    """
    pictures, class_names = _read_coco(root)
    pictures = [_upright(picture, root / picture.file) for picture in pictures]
    grow = _square if squares else _grow
    chosen = [(picture, name, grow(box, margin, picture.size)) for picture in pictures
              for name, box, visible in picture.objects
              if visible >= least_visible and min(box[2:]) >= smallest]
    chosen = [entry for entry in chosen if min(entry[2][2:]) > 0]  # some lie beside their picture
    if not chosen:
        count = sum(len(picture.objects) for picture in pictures)
        raise ValueError(f'{root}: none of its {count} objects is {smallest} px large and '
                         f'{least_visible:.0%} visible; lower smallest or least_visible')
    found, classes, boxes = zip(*chosen, strict=True)
    return without_corrupt(
        make_index(root, [picture.file for picture in found], classes,
               [picture.domain for picture in found], np.array(boxes, np.int64), class_names),
        check)


def _upright(picture: CocoImage, path: Path) -> CocoImage:
    """Turn boxes as the picture is turned that they are in."""
    seen, boxes = upright(path, picture.size, [box for _, box, _ in picture.objects])
    return replace(picture, size=seen, objects=[
        (name, box, visible) for (name, _, visible), box in zip(
            picture.objects, boxes, strict=True)])


def _grow(box: Sequence[float], margin: float, size: tuple[int, int]) -> list[int]:
    starts, lengths = [], []
    for start, length, most in zip(box[:2], box[2:], size, strict=True):
        first = max(0, int(np.floor(start - margin * length + 1e-6)))
        stop = min(most, int(np.ceil(start + length + margin * length - 1e-6)))
        starts.append(first)
        lengths.append(stop - first)
    return [*starts, *lengths]


def _square(box: Sequence[float], margin: float, size: tuple[int, int]) -> list[int]:
    left, top, width, height = box
    try:
        rows, columns = square(Box(left + width / 2, top + height / 2, width, height), margin, 0,
                               *size)
    except ValueError:  # beside its picture
        return [0, 0, 0, 0]
    return [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]


def read_scenes(root: Path, least_visible: float = 0.1, check: bool = True) -> Index:
    """
    Read COCO annotations, every picture one image; its labels are the (C,) classes present.

    :param least_visible: an object with a smaller visible part is not present, in [0, 1].
    :raises ValueError: if there are no annotations.
    """
    pictures, class_names = _read_coco(root)
    names = tuple(sorted(set(class_names)))
    index = make_index(root, [picture.file for picture in pictures], [names[0]] * len(pictures),
                   [picture.domain for picture in pictures], class_names=names)
    present = np.array([[any(name == wanted and visible >= least_visible
                             for name, _, visible in picture.objects) for wanted in names]
                        for picture in pictures], bool)
    return without_corrupt(replace(index, labels=present), check)
