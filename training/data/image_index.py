"""
Index: the images of a dataset with their classes and domains, as one table.

`read_folders` reads root/<domain>/<class>/* (PACS, OfficeHome, the renderer's `single`) and
root/<class>/*; `coco.py` reads COCO annotations beside their images.

Corrupt images: every file is decoded once while an index is read, as on a robot. A file that is
missing, empty, cut off or no image gets no row, and `Index.corrupt` names it with the reason. So
corrupt images are left out before training, for any number of workers, and the length of an index
is the number of valid images. A file that becomes corrupt later stops the run with an error that
names it.
"""
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
import os
from pathlib import Path
import re
import unicodedata

import numpy as np
from vl2v_ros.files import shown
from vl2v_ros.images.encodings import check_whole
from vl2v_ros.images.folders import image_files, IMAGES, is_pipe, other_images
from vl2v_ros.images.frame import to_rgb
from vl2v_ros.images.sources import read_image

ANNOTATIONS = 'annotations.json'
NUMBER = re.compile(r'\d{3}(-[a-z])?_(?=.)')  # of a YCB class


@dataclass(frozen=True, eq=False)
class Index:
    """
    The images of a dataset; row n of every column belongs to image n.

    root, files: the path of each image is root / file; files have '/' between folders.
    labels: (N,) int64, the class of each image; for scenes (N, C) bool, the classes present.
    domains: (N,) int64, the domain of each image.
    class_names, domain_names: names of the numbers in labels and domains; sorted.
    boxes: (N, 4) int64 left, top, width, height [px], the part of the file that is the image;
    None: all of it.
    corrupt: '<file>: <reason>' of each file that was left out.
    """

    root: Path
    files: tuple[str, ...]
    labels: np.ndarray
    domains: np.ndarray
    class_names: tuple[str, ...]
    domain_names: tuple[str, ...]
    boxes: np.ndarray | None = None
    corrupt: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that the columns fit together."""
        count = len(self.files)
        assert self.labels.shape in {(count,), (count, len(self.class_names))}, self.labels.shape
        assert self.domains.shape == (count,), self.domains.shape
        assert self.boxes is None or self.boxes.shape == (count, 4), self.boxes.shape

    def __len__(self) -> int:
        return len(self.files)

    def name(self, row: int) -> str:
        """Return the unique name of an image: its file, and its box if it has one."""
        if self.boxes is None:
            return self.files[row]
        return f'{self.files[row]}@{",".join(map(str, self.boxes[row].tolist()))}'

    def take(self, rows: np.ndarray | Sequence[int]) -> 'Index':
        """Return an index of some rows (numbers, or an (N,) mask), with the same classes."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        return replace(self, files=tuple(self.files[row] for row in rows),
                       labels=self.labels[rows], domains=self.domains[rows],
                       boxes=None if self.boxes is None else self.boxes[rows])

    def read(self, row: int) -> np.ndarray:
        """
        Read an image.

        :return: (H, W, 3) uint8 RGB.
        :raises ValueError: naming the file, if it changed since the index was read.
        """
        path = self.root / self.files[row]
        try:
            pixels = to_rgb(read_image(path))
        except ValueError as error:
            raise ValueError(f'{path}: {error}; it was whole when the index was read, or was '
                             'not checked: read the index again') from error
        if self.boxes is None:
            return pixels
        left, top, width, height = self.boxes[row].tolist()
        part = pixels[top:top + height, left:left + width]
        if part.shape[:2] != (height, width):
            raise ValueError(f'{path}: the box {self.boxes[row].tolist()} (left, top, width, '
                             f'height) is not within its {pixels.shape[1]} x {pixels.shape[0]} px;'
                             ' annotations and image do not belong together')
        return part


def label_of(class_name: str) -> str:
    """Return the words for a class: '011_banana' -> 'banana', 'alarm_clock' -> 'alarm clock'."""
    number = NUMBER.match(class_name)
    return class_name[number.end() if number else 0:].replace('_', ' ')


def _why_corrupt(path: Path) -> str:
    """Return why a file is corrupt, '' if it is not."""
    try:
        if is_pipe(path):
            raise ValueError('expected an image file, got a pipe or a device')
        check_whole(path.read_bytes())
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:
        return str(error)
    return ''


def without_corrupt(index: Index, check: bool) -> Index:
    """Leave out the corrupt files if `check` is true; raises ValueError if none is left."""
    files = list(dict.fromkeys(index.files))
    reasons = {}
    if check:
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV decodes outside Python's lock
            paths = [index.root / file for file in files]
            reasons = {file: why for file, why
                       in zip(files, pool.map(_why_corrupt, paths), strict=True) if why}
    corrupt = tuple(f'{shown(file)}: {why}' for file, why in reasons.items())
    if len(corrupt) == len(files):
        raise ValueError(f'{index.root}: none of its {len(files)} images can be read; the first: '
                         f'{corrupt[0]}')
    return replace(index.take([file not in reasons for file in index.files]), corrupt=corrupt)


def make_index(root: Path, files: Sequence[str], classes: Sequence[str], domains: Sequence[str],
          boxes: np.ndarray | None = None, class_names: Sequence[str] | None = None) -> Index:
    """
    Make an index; classes and domains are numbered in the order of their names.

    :param files, classes, domains: file, class and domain of each image.
    :param class_names: all classes; None: those that occur.
    """
    names = tuple(sorted(set(classes if class_names is None else class_names)))
    domain_names = tuple(sorted(set(domains)))
    numbers = {name: number for number, name in enumerate(names)}
    domain_numbers = {name: number for number, name in enumerate(domain_names)}
    return Index(root, tuple(files), np.array([numbers[name] for name in classes], np.int64),
                 np.array([domain_numbers[name] for name in domains], np.int64), names,
                 domain_names, boxes)


def read_folders(root: Path, check: bool = True) -> Index:
    """
    Read root/<domain>/<class>/*, or root/<class>/* as one domain with the name of the folder.

    Hidden files and files that are no images are ignored.

    :param check: decode every file once, to leave out corrupt ones.
    :raises ValueError: if there is no image, or images are in other places.
    """
    files = list(image_files(root))
    if not files:
        raise ValueError(f'expected images ({", ".join(IMAGES)}) as {root}/<domain>/<class>/* or'
                         f' {root}/<class>/*, found none'
                         + ('' if root.is_dir() else '; there is no such folder')
                         + (f'; passed over {others}' if (others := other_images(root)) else ''))
    depths = {len(file.parts) - 1: file for file in files}
    if len(depths) > 1 or not depths.keys() <= {1, 2}:
        raise ValueError(f'expected all images as {root}/<domain>/<class>/* or all as '
                         f'{root}/<class>/*, found '
                         f'{" and ".join(str(depths[depth]) for depth in sorted(depths))}; '
                         'name the folder of the domains or of the classes, or move the others')
    for folder in {file.parent for file in files}:
        if (root / folder / ANNOTATIONS).is_file():
            raise ValueError(f'expected folders of classes, found {root / folder} with '
                             f'{ANNOTATIONS} beside images; coco.py has read_crops, read_scenes')
    classes = [unicodedata.normalize('NFC', file.parts[-2]) for file in files]
    domains = [file.parts[0] if len(file.parts) == 3 else root.resolve().name for file in files]
    index = make_index(root, [str(file) for file in files], classes, domains)
    return without_corrupt(index, check)
