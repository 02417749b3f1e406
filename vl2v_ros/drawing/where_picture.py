"""A picture of what `naming.py where` finds: boxes and maps of some images, side by side."""
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from vl2v_ros.drawing.heatmap import COLOURS, draw_maps
from vl2v_ros.drawing.text import line
from vl2v_ros.files import replacing
from vl2v_ros.images.frame import Frame, to_rgb
from vl2v_ros.images.regions import Box
from vl2v_ros.images.sources import read_image
from vl2v_ros.model.where import Found, Where
from vl2v_ros.words.vocabulary import Vocabulary

HEIGHT = 240  # of each image [px]
LETTERS = 15  # [px]


def draw_boxes(frame: Frame, found: Sequence[Found]) -> np.ndarray:
    """Return a new (H, W, 3) uint8 RGB array with boxes and their labels, the surest on top."""
    image = Image.fromarray(to_rgb(frame))
    for number, one in reversed(list(enumerate(found))):
        colour = COLOURS[number % len(COLOURS)]
        left, top, right, bottom = (round(side) for side in one.box.upright())
        pixels = np.array(image)
        cv2.rectangle(pixels, (left, top), (right - 1, bottom - 1), colour, 2)
        image = Image.fromarray(pixels)
        text = line(one.prediction.labels[0], LETTERS, image.width)
        place = max(0, min(left, image.width - text.width)), max(
            0, min(top, image.height - text.height))
        image.paste(colour, (*place, place[0] + text.width, place[1] + text.height))
        image.paste(text, place, text)
    return np.array(image)


def write_picture(finder: Where, paths: Sequence[Path], words: Vocabulary, size: int,
                  margin: float, path: Path) -> None:
    """
    Write a row per image: its boxes, and the maps of their labels; atomically, as JPEG.

    :param size, margin: as for `Where.maps` and `Where.boxes`.
    :raises ValueError: for an image that cannot be read.
    :raises OSError: if the picture cannot be written.
    """
    rows = []
    for source in paths:
        pixels = to_rgb(read_image(source))
        scale = HEIGHT / pixels.shape[0]
        maps = finder.maps(Frame(pixels), words, size)
        found = [replace(one, box=Box(one.box.x * scale, one.box.y * scale, one.box.width * scale,
                                      one.box.height * scale))
                 for one in finder.boxes(Frame(pixels), maps, words, margin)]
        frame = Frame(cv2.resize(pixels, (round(pixels.shape[1] * scale), HEIGHT)))
        labels = dict.fromkeys(one.prediction.labels[0] for one in found)
        rows.append(np.hstack([draw_boxes(frame, found), draw_maps(
            frame, {label: maps.fine[..., words.labels.index(label)] for label in labels})]))
    wide = max(row.shape[1] for row in rows)
    sheet = np.vstack([np.pad(row, ((0, 4), (0, wide - row.shape[1]), (0, 0)),
                              constant_values=255) for row in rows])
    with replacing(path) as temporary:
        Image.fromarray(sheet).save(temporary, 'JPEG', quality=88)
