"""A video whose frames are shown for unequal times, as those of phones and of screens are."""
from pathlib import Path

import cv2
import numpy as np

TIMES = (0, 1, 2, 10, 20, 21, 22, 30, 40, 50)  # of its frames [0.1 s]


def write(path: Path, width: int = 64, height: int = 48) -> Path:
    """Write *.mkv; frame n is grey of the level 20 n."""
    even = path.with_suffix('.mp4')
    writer = cv2.VideoWriter(str(even), cv2.VideoWriter_fourcc(*'mp4v'), 10, (width, height))
    for number in range(len(TIMES)):
        writer.write(np.full((height, width, 3), 20 * number, np.uint8))
    writer.release()
    packets = cv2.VideoCapture(str(even), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, int(packets.get(cv2.CAP_PROP_FOURCC)), 10,
                             (width, height), [cv2.VIDEOWRITER_PROP_RAW_VIDEO, 1])
    for time in TIMES:
        writer.set(cv2.VIDEOWRITER_PROP_PTS, time)
        writer.write(packets.read()[1])
    writer.release()
    even.unlink()
    return path
