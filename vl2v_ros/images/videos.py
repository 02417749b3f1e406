"""Video files: all frames that can be read, and times that rise."""
from collections.abc import Iterator, Sequence
from itertools import pairwise
import math
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from vl2v_ros.files import shown

SECOND = 10 ** 9  # [ns]
USUAL_RATE = 25.0  # of a video that tells none [Hz]
ATTEMPTS = 1000  # reads that may fail one after the other; each passes by a damaged packet
SAMPLED = 30  # frames whose times tell the rate
SAME = 0.2  # rates that differ by a smaller part are one: times may be rounded, or unsteady


class Shot(NamedTuple):
    """
    One frame of a video.

    stamp: its time in the video [ns], above that of the frame before.
    pixels: (H, W, 3) uint8 BGR.
    lost: how many frames before it cannot be read.
    """

    stamp: int
    pixels: np.ndarray
    lost: int


class Video:
    """A video file, opened; its frames are read once."""

    def __init__(self, path: Path) -> None:
        """
        Open a file.

        rate: of its frames [Hz], but for pauses; None if unknown.
        count: of its frames, as far as its header tells, by which a variable rate may be counted
        wrongly; else 0.
        duration: as its header tells [ns], else 0.

        :raises ValueError: if it cannot be opened as one.
        """
        if shown(path) != str(path):  # OpenCV would end the process
            raise ValueError(f'{shown(path)}: expected a video whose name is UTF-8; rename it')
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise ValueError(f'{path}: expected a video, got a file that cannot be opened as one; '
                             'it may be damaged, cut, or of a codec that OpenCV lacks')
        told = _told(self._capture, cv2.CAP_PROP_FPS)
        self.count = max(0, int(_told(self._capture, cv2.CAP_PROP_FRAME_COUNT)))
        self.duration = round(self.count / told * SECOND) if told > 0 else 0
        self.rate = usual_rate(_first_stamps(path), max(0, told))

    def shots(self) -> Iterator[Shot]:
        """Yield the frames; what cannot be read is passed by."""
        stamp: int | None = None
        lost = 0
        while lost < ATTEMPTS:
            try:
                good, pixels = self._capture.read()
            except cv2.error:  # a part that claims to be long
                good = False
            if not good:
                lost += 1
                continue
            stamp = _next_stamp(self._capture, stamp, self.rate)
            yield Shot(stamp, pixels, lost)
            lost = 0
        self._capture.release()


def _told(capture: cv2.VideoCapture, what: int) -> float:
    """Return a number in a video's headers; 0 for one that is none, as in a damaged file."""
    told: float = capture.get(what)
    return told if math.isfinite(told) else 0.0


def _next_stamp(capture: cv2.VideoCapture, before: int | None, rate: float | None) -> int:
    """Return the time of the frame just read [ns]; some formats tell none of their last ones."""
    told = round(_told(capture, cv2.CAP_PROP_POS_MSEC) * 1e6)
    if before is None or told > before:
        return told
    return before + round(SECOND / (rate or USUAL_RATE))


def _first_stamps(path: Path) -> list[int]:
    capture = cv2.VideoCapture(str(path))
    stamps: list[int] = []
    try:
        while len(stamps) < SAMPLED and capture.grab():
            stamps.append(_next_stamp(capture, stamps[-1] if stamps else None, None))
    except cv2.error:  # as in `shots`
        pass
    return stamps


def usual_rate(stamps: Sequence[int], mean: float) -> float | None:
    """
    Return the rate at which pictures come, but for pauses [Hz]; None if unknown.

    :param stamps: of the first ones, rising [ns].
    :param mean: mean rate that the file states, which pauses lower [Hz]; 0 if it states none.
    """
    steps = sorted(after - before for before, after in pairwise(stamps) if after > before)
    usual = SECOND / steps[len(steps) // 5] if steps else mean
    return mean if mean > 0 and abs(usual / mean - 1) < SAME else usual or None
