"""What `vl2v_classify` writes, chosen by the ending of a file: a table, a video or a bag."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager
import csv
import os
from pathlib import Path

import cv2
import numpy as np
from vl2v_ros.command import bags
from vl2v_ros.drawing.overlay import draw
from vl2v_ros.files import replacing, shown
from vl2v_ros.images.sources import Picture
from vl2v_ros.images.videos import SECOND
from vl2v_ros.model.prediction import Prediction

Write = Callable[[Picture, Prediction], None]

COLUMNS = ('file', 'topic', 'stamp', 'rank', 'label', 'similarity', 'score', 'unknown')
CODECS = {'.avi': 'MJPG', '.mkv': 'mp4v', '.mov': 'mp4v', '.mp4': 'mp4v', '.webm': 'VP80'}
ENDINGS = ('.csv', '.mcap', *CODECS)
LONGEST = 10 * SECOND  # that a picture is shown in a video [ns]


def check_ending(path: Path) -> None:
    """Raise ValueError for a name, or its ending, that nothing can be written as."""
    if shown(path.name) != path.name:
        raise ValueError(f'--out: expected a name in UTF-8, got {shown(path)}; choose another')
    if path.suffix.lower() not in ('', *ENDINGS):
        raise ValueError(f'--out {path}: expected a file that ends with {", ".join(ENDINGS)}, or '
                         f'a folder without an ending for a bag, got {path.suffix!r}')


@contextmanager
def writing(path: Path, unknown_threshold: float, rate: float, score_threshold: float = 0.0,
            font: str = '') -> Iterator[Write]:
    """
    Write the pictures that the block passes on; the ending of the path is the format.

    The file appears only if the block succeeds.

    :param unknown_threshold: cosine below which a bag's classification leaves a label out.
    :param rate: frame rate of a video, and of still images in a bag [Hz].
    :param score_threshold: score below which a bag's classification leaves a label out.
    :param font: font file for the labels in a video; '' for those of the system.
    """
    check_ending(path)
    ending = path.suffix.lower()
    with replacing(path) as temporary:
        if ending == '.csv':
            with _table(temporary) as write:
                yield write
        elif ending in CODECS:
            with _video(temporary, CODECS[ending], rate, font) as write:
                yield write
        elif ending == '':
            with bags.writing(temporary, unknown_threshold, rate, score_threshold) as write:
                yield write
        else:  # the file out of a bag's folder
            folder = temporary.parent / 'bag' / path.stem
            with bags.writing(folder, unknown_threshold, rate, score_threshold) as write:
                yield write
            os.replace(folder / f'{path.stem}.mcap', temporary)


@contextmanager
def _table(path: Path) -> Iterator[Write]:
    """Write a row for each label of each picture."""
    with open(path, 'w', encoding='utf-8', newline='') as file:
        table = csv.writer(file, lineterminator='\n')
        table.writerow(COLUMNS)

        def write(picture: Picture, prediction: Prediction) -> None:
            stamp = '' if picture.stamp is None else bags.seconds(picture.stamp)
            for rank, (label, similarity, score) in enumerate(
                    zip(prediction.labels, prediction.similarities, prediction.scores,
                        strict=True), 1):
                table.writerow((shown(picture.file), picture.topic, stamp, rank, label,
                                f'{similarity:.4f}', f'{score:.4f}', int(prediction.unknown)))
        yield write


@contextmanager
def _video(path: Path, codec: str, rate: float, font: str) -> Iterator[Write]:
    """
    Write the annotated pictures, all of the size of the first, each as long as it was shown.

    Of two that fall into one frame of the video the later is written. Where times go back, or a
    pause is longer than LONGEST, the next picture follows the last one.
    """
    video: cv2.VideoWriter | None = None
    size = 0, 0
    waiting: np.ndarray | None = None  # until it is known how long it is shown
    begin = last = frame = 0  # begin: of frame 0 [ns]; frame: number of the waiting one

    def write(picture: Picture, prediction: Prediction) -> None:
        nonlocal video, size, waiting, begin, last, frame
        pixels = cv2.cvtColor(draw(picture.frame, prediction, font), cv2.COLOR_RGB2BGR)
        now = picture.recorded
        if video is None:
            size = pixels.shape[1], pixels.shape[0]
            video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, size)
            begin = now or 0
        elif waiting is not None:
            if now is None or not 0 <= now - last <= LONGEST:  # begin with the next frame
                begin = (now or 0) - round((frame + 1) / rate * SECOND)
            after = round(((now or 0) - begin) * rate / SECOND)
            for _ in range(after - frame):
                video.write(waiting)
            frame = max(frame, after)
        waiting, last = _fitted(pixels, size), now or 0
    try:
        yield write
        if video is not None and waiting is not None:
            video.write(waiting)
    finally:
        if video is not None:
            video.release()
    # OpenCV reports no errors while it writes.
    if video is not None and not cv2.VideoCapture(str(path)).read()[0]:
        raise ValueError(f'a video *{path.suffix} ({codec}) of {size[0]} x {size[1]} px at '
                         f'{rate:g} Hz cannot be written by OpenCV; try .avi or another --rate')


def _fitted(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale (H, W, 3) pixels to fit into a size (W, H) [px], with black borders."""
    height, width = pixels.shape[:2]
    if (width, height) == size:
        return pixels
    factor = min(size[0] / width, size[1] / height)
    inner = max(1, round(width * factor)), max(1, round(height * factor))
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    canvas[top:top + inner[1], left:left + inner[0]] = cv2.resize(
        pixels, inner, interpolation=cv2.INTER_AREA)
    return canvas
