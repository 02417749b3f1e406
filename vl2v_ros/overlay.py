"""Draw predictions onto frames, for people."""
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from vl2v_ros.classifier import Prediction
from vl2v_ros.frame import Frame, to_rgb

ROWS = 5  # labels drawn at most
BEST, OTHER, UNKNOWN = (255, 255, 255), (190, 190, 190), (255, 190, 60)  # RGB


def draw(frame: Frame, prediction: Prediction) -> np.ndarray:
    """
    Draw the best labels with a bar for the score and their cosine similarity.

    :return: a new (H, W, 3) uint8 RGB array.
    """
    rgb = to_rgb(frame)
    height, width = rgb.shape[:2]
    size = max(10, min(height // 22, width // 28))  # of the letters [px]
    step = size * 3 // 2
    rows = min(ROWS, len(prediction.labels), max(1, height // step - 1))
    panel = rgb[:min(height, step * rows + step // 2), :min(width, size * 18)]
    panel //= 3  # dark, so that the text reads on any picture
    image = Image.fromarray(panel)
    canvas = ImageDraw.Draw(image)
    font = _font(size)
    for row in range(rows):
        label, score = prediction.labels[row], prediction.scores[row]
        colour = OTHER if row else BEST
        if prediction.unknown and row == 0:
            label, colour = f'unknown ({label}?)', UNKNOWN
        top = step // 4 + row * step
        canvas.rectangle((0, top, round(score * panel.shape[1]), top + step - size // 4),
                         fill=tuple(value // 3 for value in colour))
        canvas.text((size // 2, top), f'{prediction.similarities[row]:.2f}  {label}', colour, font)
    panel[:] = np.asarray(image)
    return rgb


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    try:  # on most Linux systems; it has Latin, Greek, Cyrillic and more
        return ImageFont.truetype('DejaVuSans.ttf', size)
    except OSError:
        return ImageFont.load_default(size)
