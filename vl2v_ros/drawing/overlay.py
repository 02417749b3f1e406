"""Draw predictions onto frames."""
import numpy as np
from PIL import Image, ImageDraw
from vl2v_ros.drawing.text import line
from vl2v_ros.images.frame import Frame, to_rgb
from vl2v_ros.model.prediction import Prediction

ROWS = 5  # labels drawn at most
BAR, UNKNOWN = (38, 128, 120), (170, 100, 20)  # RGB


def draw(frame: Frame, prediction: Prediction, font: str = '') -> np.ndarray:
    """
    Draw the best labels, each with its cosine similarity, on a bar as long as its score.

    :param font: font file that is tried first; '' for none.
    :return: a new (H, W, 3) uint8 RGB array.
    """
    rgb = to_rgb(frame)
    height, width = rgb.shape[:2]
    size = max(9, min(height // 28, width // 34))  # of the letters [px]
    step = size * 3 // 2
    rows = min(ROWS, len(prediction.labels), max(1, height // step - 1))
    panel = rgb[:min(height, step * rows + step // 2), :min(width, size * 16)]
    panel //= 3  # dark, so that the text reads on any picture
    image = Image.fromarray(panel)
    canvas = ImageDraw.Draw(image)
    for row in range(rows):
        label, unknown = prediction.labels[row], prediction.unknown and row == 0
        top, middle = step // 4 + row * step, step // 4 + row * step + (step - 2) // 2
        canvas.rectangle((0, top, round(prediction.scores[row] * panel.shape[1]), top + step - 3),
                         fill=UNKNOWN if unknown else BAR)
        number = line(f'{prediction.similarities[row]:.2f}', size, 3 * size)
        text = line(f'unknown ({label}?)' if unknown else label, size, panel.shape[1], font)
        top = middle - number.height // 2
        image.paste(number, (3 * size + 1 - number.width, top), number)
        image.paste(text, (4 * size, top), text)
    panel[:] = np.asarray(image)
    return rgb
