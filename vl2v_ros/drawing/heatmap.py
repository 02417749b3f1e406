"""Draw where labels are: a colour per label over the frame, and its name at its peak."""
from collections.abc import Mapping

import cv2
import numpy as np
from PIL import Image
from vl2v_ros.drawing.text import line
from vl2v_ros.images.frame import Frame, to_rgb

COLOURS = ((230, 60, 50), (60, 130, 240), (250, 200, 40), (60, 190, 90), (190, 80, 220),
           (250, 140, 40), (70, 210, 220), (240, 110, 170))  # RGB, of the labels in turn
STRONGEST = 0.75  # share of the colour where a map is 1


def draw_maps(frame: Frame, maps: Mapping[str, np.ndarray], font: str = '') -> np.ndarray:
    """
    Tint a frame by maps.

    :param maps: label -> (h, w) float, values in [0, 1]; it is spread over the whole frame.
    :param font: font file that is tried first; '' for none.
    :return: a new (H, W, 3) uint8 RGB array.
    """
    rgb = to_rgb(frame)
    height, width = rgb.shape[:2]
    grey = rgb.mean(2, keepdims=True)  # so that only maps have colours
    tinted = (rgb + 2 * grey) / 3
    colours = dict(zip(maps, COLOURS * (1 + len(maps) // len(COLOURS)), strict=False))
    for label, values in maps.items():
        share = STRONGEST * cv2.resize(values.astype(np.float32), (width, height)).clip(0, 1)
        tinted += share[..., None] * (np.array(colours[label]) - tinted)
    image = Image.fromarray(tinted.clip(0, 255).astype(np.uint8))
    size = max(9, min(height // 24, width // 32))  # of the letters [px]
    for label, values in maps.items():
        row, column = np.unravel_index(values.argmax(), values.shape)
        text = line(label, size, width, font)
        left = round((column + 0.5) / values.shape[1] * width - text.width / 2)
        top = round((row + 0.5) / values.shape[0] * height - text.height / 2)
        left = min(max(left, 0), max(width - text.width, 0))
        top = min(max(top, 0), max(height - text.height, 0))
        image.paste(colours[label], (left, top, left + text.width, top + text.height))
        image.paste(text, (left, top), text)
    return np.array(image)
