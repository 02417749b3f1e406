"""Folders of images: which files are some, at any depth, the same for robot and training."""
from collections import Counter
from collections.abc import Iterator
import os
from pathlib import Path, PurePosixPath
import stat

IMAGES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')  # in any case
OTHERS = ('.arw', '.avif', '.cr2', '.cr3', '.dng', '.gif', '.heic', '.heif', '.jfif', '.jp2',
          '.jxl', '.mpo', '.nef', '.orf', '.pgm', '.ppm', '.psd', '.raf', '.rw2', '.svg', '.tga')


def image_files(root: Path, recursive: bool = True, endings: tuple[str, ...] = IMAGES
                ) -> Iterator[PurePosixPath]:
    """
    Yield the files that are named as images, relative to a folder, in the order of their names.

    Those of a folder come before those of folders below. Links are followed, but not in a circle;
    what is hidden is passed over, as are pipes and devices, which would be waited for.
    """
    for folder, files in _folders(root, frozenset(), recursive):
        for name in files:
            if name.lower().endswith(endings):
                yield PurePosixPath((folder / name).relative_to(root).as_posix())


def image_paths(folder: Path, recursive: bool = False) -> list[Path]:
    """Return the paths of the files that `image_files` finds."""
    return [folder / file for file in image_files(folder, recursive)]


def other_images(root: Path, recursive: bool = True) -> str:
    """Say which images of other kinds lie in a folder and are passed over; '' for none."""
    counts = Counter(Path(name).suffix.lower() for _, files in _folders(
        root, frozenset(), recursive) for name in files if name.lower().endswith(OTHERS))
    if not counts:
        return ''
    listed = ', '.join(f'{count} {ending}' for ending, count in sorted(counts.items()))
    return f'images of kinds that are not read ({listed}); convert them to JPEG or PNG'


def _folders(folder: Path, above: frozenset[tuple[int, int]], recursive: bool
             ) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and those below, with the names of their files; `above` are those around."""
    files, below = [], []
    try:
        here = os.stat(folder)
        names = sorted(name for name in os.listdir(folder) if not name.startswith('.'))
    except OSError:  # not there, or not ours
        return
    place = here.st_dev, here.st_ino
    if place in above:
        return
    for name in names:
        if os.path.isdir(folder / name):
            below.append(name)
        elif not is_pipe(folder / name):
            files.append(name)
    yield folder, files
    for name in below if recursive else ():
        yield from _folders(folder / name, above | {place}, recursive)


def is_pipe(path: Path) -> bool:
    """Tell whether a path is a pipe, a socket or a device: reading it may never end."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
