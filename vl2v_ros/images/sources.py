"""Pictures out of files: images, folders of images and videos; those out of bags: `bags.py`."""
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
from vl2v_ros.images.encodings import decode, FILES
from vl2v_ros.images.frame import Frame

IMAGES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
VIDEOS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm', '.wmv')

Skip = Callable[[str], None]  # is told what was left out, and why


@dataclass(frozen=True)
class Picture:
    """
    One frame and where it comes from.

    file: that holds it.
    stamp: time in the video, or of the message's header [ns]; None: a still image.
    recorded: when the message was recorded [ns]; for a video the stamp.
    topic, frame_id: of the message; empty for what comes from no bag.
    """

    frame: Frame
    file: Path
    stamp: int | None = None
    recorded: int | None = None
    topic: str = ''
    frame_id: str = ''


@dataclass(frozen=True)
class Source:
    """
    What a file or folder has to show.

    pictures: read one by one; raises ValueError if there is none in the end.
    count: how many there should be, as its header says; 0 if unknown.
    rate: pictures per second [Hz]; None for still images.
    still: whether these are images, each for itself.
    topics: of a bag.
    """

    pictures: Iterator[Picture]
    count: int
    rate: float | None = None
    still: bool = False
    topics: tuple[str, ...] = ()


def image_paths(folder: Path) -> list[Path]:
    """Return the files of a folder that are named as images, in the order of their names."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)


def read_image(path: Path) -> Frame:
    """
    Decode an image file.

    :raises ValueError: if it is none, damaged or too large; it does not name the file.
    """
    try:
        return decode(path.read_bytes(), FILES)
    except OSError as error:
        raise ValueError('expected an image file, got a file that cannot be read: '
                         f'{error.strerror}') from error


def open_image(path: Path) -> Source:
    """Offer one image; its errors name the file."""
    def pictures() -> Iterator[Picture]:
        try:
            yield Picture(read_image(path), path)
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error
    return Source(pictures(), 1, still=True)


def open_folder(folder: Path, skip: Skip) -> Source:
    """
    Offer the images that lie in a folder, not in folders below it.

    :param skip: is told of each file that is no image in spite of its name.
    :raises ValueError: if no file is named as an image, and by the pictures if none can be read.
    """
    paths = image_paths(folder)
    if not paths:
        raise ValueError(f'{folder}: expected images ({", ".join(IMAGES)}), found none')

    def pictures() -> Iterator[Picture]:
        shown = 0
        for path in paths:
            try:
                frame = read_image(path)
            except ValueError as error:
                skip(f'{path}: {error}')
                continue
            shown += 1
            yield Picture(frame, path)
        if not shown:
            raise ValueError(f'{folder}: expected images, got {len(paths)} image files that '
                             'cannot be read')
    return Source(pictures(), len(paths), still=True)


def open_video(path: Path, skip: Skip) -> Source:
    """
    Offer the frames of a video file.

    :param skip: is told of the end of a video that is cut.
    :raises ValueError: if it cannot be opened, and by the pictures if it has none.
    """
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise ValueError(f'{path}: expected a video, got a file that OpenCV cannot open; it may '
                         'be damaged, cut, or of an unknown codec')
    count = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    rate = capture.get(cv2.CAP_PROP_FPS)

    def pictures() -> Iterator[Picture]:
        shown = 0
        while True:
            good, pixels = capture.read()
            if not good:
                break
            stamp = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
            shown += 1
            yield Picture(Frame(pixels, 'bgr'), path, stamp, stamp)
        capture.release()
        if not shown:
            raise ValueError(f'{path}: expected a video, got a file without a frame that can be '
                             'read')
        if shown < 0.9 * count:  # headers count a few too many at times
            skip(f'{path}: the last {count - shown} of {count} frames cannot be read')
    return Source(pictures(), count, rate if rate > 0 else None)
