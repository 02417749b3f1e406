"""Read pictures from files: images, folders of images and videos (`bags.py` reads bags)."""
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vl2v_ros.files import shown
from vl2v_ros.images.encodings import decode, FILES
from vl2v_ros.images.folders import image_files, image_paths, IMAGES, is_pipe, other_images
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.videos import SECOND, USUAL_RATE, Video

VIDEOS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm', '.wmv')

Skip = Callable[[str], None]  # receives a text: what was skipped, and why


@dataclass(frozen=True)
class Picture:
    """
    One frame and its source.

    file: the file that holds it.
    stamp: time in the video, or in the header of the message [ns]; None: a still image.
    recorded: when the message was recorded [ns]; for a video the stamp.
    topic, frame_id: those of the message; empty if the source is no bag.
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
    The pictures of a file or a folder.

    pictures: iterator that reads one by one; raises ValueError if none can be read.
    count: number of pictures by the header; 0 if unknown.
    rate: pictures per second [Hz]; None for still images.
    still: whether these are still images.
    topics: image topics of a bag.
    """

    pictures: Iterator[Picture]
    count: int
    rate: float | None = None
    still: bool = False
    topics: tuple[str, ...] = ()


def read_image(path: Path) -> Frame:
    """
    Decode an image file.

    :raises ValueError: for another format, a damaged or too large image; without the file's name.
    """
    if is_pipe(path):
        raise ValueError('expected an image file, got a pipe or a device')
    try:
        return decode(path.read_bytes(), FILES)
    except OSError as error:
        raise ValueError('expected an image file, got a file that cannot be read: '
                         f'{error.strerror}') from error


def open_image(path: Path) -> Source:
    """Open one image; its errors name the file."""
    def pictures() -> Iterator[Picture]:
        try:
            yield Picture(read_image(path), path)
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error
    return Source(pictures(), 1, still=True)


def open_folder(folder: Path, skip: Skip, recursive: bool = False) -> Source:
    """
    Open the images in a folder.

    :param skip: receives a text for each image that cannot be read, and for kinds passed over.
    :param recursive: whether to read those in folders below it, too.
    :raises ValueError: if there is no image file; the iterator of pictures raises it if none can
        be read.
    """
    paths = image_paths(folder, recursive)
    below = None if recursive else next(
        (file for file in image_files(folder) if len(file.parts) > 1), None)
    video = next(image_files(folder, recursive, VIDEOS), None)
    passed = list(filter(None, (
        other_images(folder, recursive),
        below and f'images in folders below, such as {shown(below)}; --recursive reads them',
        video and f'videos, such as {shown(video)}; name each of them as an input')))
    if not paths:
        raise ValueError(f'{folder}: expected images ({", ".join(IMAGES)}), found none'
                         + ''.join(f'; passed over {what}' for what in passed))
    for what in passed:
        skip(f'{shown(folder)}: {what}')

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
            raise ValueError(f'{folder}: expected images, found {len(paths)} of which none can '
                             'be read')
    return Source(pictures(), len(paths), still=True)


def open_video(path: Path, skip: Skip) -> Source:
    """
    Open a video file.

    :param skip: receives a text for frames that cannot be read, and for the end of a cut video.
    :raises ValueError: if it cannot be opened; the iterator of pictures raises it if there is
        no frame.
    """
    video = Video(path)

    def pictures() -> Iterator[Picture]:
        stamp, lost = None, 0
        for shot in video.shots():
            stamp, lost = shot.stamp, lost + shot.lost
            yield Picture(Frame(shot.pixels, 'bgr'), path, stamp, stamp)
        if stamp is None:
            raise ValueError(f'{path}: expected a video, got a file without a frame that can be '
                             'read')
        if lost:
            skip(f'{path}: {lost} frames in it, which cannot be read')
        if stamp < 0.9 * video.duration - SECOND / (video.rate or USUAL_RATE):
            skip(f'{path}: its end, {(video.duration - stamp) / SECOND:.1f} of '
                 f'{video.duration / SECOND:.1f} s, which cannot be read')
    return Source(pictures(), video.count, video.rate)
