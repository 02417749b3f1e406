"""
Make a video from photos: the view moves over one photo after another.

python training/photo_sequence.py --list SEQUENCE.csv --photos PHOTOS --out SEQUENCE.mp4

The list has a row per photo with the columns stamp [s], label and photo, a path below PHOTOS. A
photo is shown until the stamp of the next one, the last photo as long as the one before it. Other
columns are ignored.
"""
import argparse
from collections.abc import Iterator, Sequence
import csv
from dataclasses import dataclass
from pathlib import Path
import sys

import cv2
import numpy as np
from vl2v_ros.files import brief, one_line
from vl2v_ros.images.sources import read_image

ZOOM = 1.02, 1.22  # how near the view comes; at 1 it is as wide or as high as the photo
RATE = 30.0  # [Hz]


@dataclass(frozen=True)
class View:
    """The part of a photo that the camera sees; left and top are in pixels of the photo."""

    left: float
    top: float
    scale: float
    """Pixels of the video per pixel of the photo."""

    def toward(self, other: 'View', part: float) -> 'View':
        """Return a view between this one (part 0) and another (part 1)."""
        here, there = np.array([(view.left, view.top, view.scale) for view in (self, other)])
        return View(*(here + part * (there - here)))


def draw_views(rng: np.random.Generator, photo: tuple[int, int], size: tuple[int, int]
               ) -> tuple[View, View]:
    """Draw the first and the last view at random; both sizes are width and height [px]."""
    zooms = rng.permutation(ZOOM)
    corners = rng.permutation([0.2, 0.8]), rng.permutation([0.35, 0.65])
    views = []
    for zoom, across, down in zip(zooms, *corners, strict=True):
        scale = zoom * max(size[0] / photo[0], size[1] / photo[1])
        room = photo[0] - size[0] / scale, photo[1] - size[1] / scale
        views.append(View(across * room[0], down * room[1], scale))
    return views[0], views[1]


def pan(photo: np.ndarray, size: tuple[int, int], frames: int, rng: np.random.Generator
        ) -> Iterator[np.ndarray]:
    """Yield (H, W, 3) views that move over an (H, W, 3) uint8 photo; size: their W and H [px]."""
    height, width = photo.shape[:2]
    start, end = draw_views(rng, (width, height), size)
    for part in np.linspace(0, 1, frames):
        view = start.toward(end, part)
        half = 0.5 * view.scale - 0.5  # a pixel's place is its middle
        matrix = np.array([[view.scale, 0, half - view.left * view.scale],
                           [0, view.scale, half - view.top * view.scale]])
        yield cv2.warpAffine(photo, matrix, size, flags=cv2.INTER_LANCZOS4,
                             borderMode=cv2.BORDER_REPLICATE)


def read_list(path: Path) -> list[tuple[float, str]]:
    """
    Return the stamp [s] and the photo of each row.

    :raises ValueError: for another kind of file, if there are fewer than two rows, or the stamps
        do not rise from 0.
    """
    try:
        with path.open(encoding='utf-8-sig') as file:
            rows = [(float(row['stamp']), row['photo']) for row in csv.DictReader(file)]
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise ValueError(f'{path}: expected a CSV file with the columns stamp [s] and photo '
                         f'({type(error).__name__}: {one_line(error)})') from error
    stamps = [stamp for stamp, _ in rows]
    if len(rows) < 2 or stamps[0] or not (np.diff(stamps) > 0).all():
        raise ValueError(f'expected two photos or more, with stamps that rise from 0, in {path}, '
                         f'got the stamps {brief(stamps)}')
    return rows


def shown_frames(stamps: Sequence[float], rate: float) -> list[int]:
    """Return the number of frames of each photo."""
    ends = [*stamps, 2 * stamps[-1] - stamps[-2]]
    return [int(count) for count in np.diff(np.round(rate * np.array(ends)))]


def main() -> None:
    """Write the video."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--list', type=Path, required=True, help='list of photos (see above)')
    parser.add_argument('--photos', type=Path, required=True,
                        help='folder that the paths in the list are relative to')
    parser.add_argument('--out', type=Path, required=True, help='video to write, *.mp4')
    parser.add_argument('--size', type=int, nargs=2, default=(480, 360),
                        metavar=('WIDTH', 'HEIGHT'), help='size of the video [px]')
    parser.add_argument('--seed', type=int, default=0, help='seed of the random movements')
    options = parser.parse_args()
    size = tuple(options.size)
    try:
        rows = read_list(options.list)
    except ValueError as error:
        sys.exit(f'photo_sequence: {error}')
    options.out.parent.mkdir(parents=True, exist_ok=True)
    video = cv2.VideoWriter(str(options.out), cv2.VideoWriter.fourcc(*'mp4v'), RATE, size)
    counts = shown_frames([stamp for stamp, _ in rows], RATE)
    for (_, name), count in zip(rows, counts, strict=True):
        try:
            photo = read_image(options.photos / name).pixels
        except ValueError as error:
            sys.exit(f'photo_sequence: {options.photos / name}: {error}')
        rng = np.random.default_rng([options.seed, *name.encode()])
        for picture in pan(photo, size, count, rng):
            video.write(picture)
    video.release()
    print(f'{sum(counts)} frames in {options.out}, {options.out.stat().st_size / 1e6:.2f} MB')


if __name__ == '__main__':
    main()
