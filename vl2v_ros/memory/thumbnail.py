"""Small pictures of what was seen."""
import cv2
import numpy as np
from vl2v_ros.images.frame import Frame, to_rgb
from vl2v_ros.images.regions import Box, cut

MARGIN, LEAST = 0.1, 1.0  # what is shown beyond a box, as a part of its side; smallest side [px]
QUALITY = 80  # of JPEG


def draw(frame: Frame, box: Box | None, size: int) -> bytes:
    """
    Return a frame, or a box in it, as a JPEG whose longer side has `size` px at most.

    :raises ValueError: for a box that is not in the frame.
    """
    shown = cut(frame, box, MARGIN, LEAST) if box else frame
    height, width = shown.pixels.shape[:2]
    scale = min(1.0, size / max(height, width))
    small = cv2.resize(shown.pixels, (max(1, round(scale * width)), max(1, round(scale * height))),
                       interpolation=cv2.INTER_AREA)
    rgb = to_rgb(Frame(small.reshape(*small.shape[:2], -1), shown.order))  # mono lost its channel
    _, data = cv2.imencode('.jpg', np.ascontiguousarray(rgb[..., ::-1]),
                           (cv2.IMWRITE_JPEG_QUALITY, QUALITY))
    return bytes(data)
