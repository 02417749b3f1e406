"""Draw one page of pictures with their labels."""
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from vl2v_ros.drawing.overlay import BAR, UNKNOWN
from vl2v_ros.drawing.text import line, width

PAPER = (24, 26, 28)  # RGB
WIDTH = 240  # of a picture [px]
GAP, CAPTION, HEADING = 6, 30, 38  # between pictures, below each, above each part [px]
LETTERS = 17  # their size [px]


@dataclass(frozen=True)
class Tile:
    """
    One picture of the page.

    rgb: (H, W, 3) uint8.
    label, score: the best label and its probability.
    """

    rgb: np.ndarray
    label: str
    score: float
    unknown: bool = False


@dataclass(frozen=True)
class Part:
    """Pictures that were labelled with one vocabulary, and the heading above them."""

    heading: str
    tiles: Sequence[Tile]


def draw(parts: Sequence[Part], columns: int = 4, font: str = '') -> np.ndarray:
    """
    Draw a page; all pictures get the proportions of the first.

    :param font: font file that is tried first; '' for none.
    :return: (H, W, 3) uint8 RGB.
    """
    height, width = next(tile.rgb for part in parts for tile in part.tiles).shape[:2]
    size = WIDTH, round(WIDTH * height / width)
    step = size[1] + CAPTION + GAP
    rows = sum(-(-len(part.tiles) // columns) for part in parts)
    page = Image.new('RGB', (columns * (WIDTH + GAP) + GAP,
                             len(parts) * HEADING + rows * step + GAP), PAPER)
    canvas = ImageDraw.Draw(page)
    top = 0
    for part in parts:
        middle = top + (HEADING + GAP) // 2
        _write(page, part.heading, GAP, middle, page.width - 2 * GAP, font)
        top += HEADING
        for start in range(0, len(part.tiles), columns):
            for column, tile in enumerate(part.tiles[start:start + columns]):
                corner = GAP + column * (WIDTH + GAP), top + GAP
                _draw_tile(page, canvas, tile, corner, size, font)
            top += step
    return np.asarray(page)


def _draw_tile(page: Image.Image, canvas: ImageDraw.ImageDraw, tile: Tile, corner: tuple[int, int],
               size: tuple[int, int], font: str) -> None:
    left, top = corner
    page.paste(Image.fromarray(tile.rgb).resize(size, Image.Resampling.LANCZOS), corner)
    bottom, middle = top + size[1], top + size[1] + CAPTION // 2
    canvas.rectangle((left, bottom, left + round(tile.score * (WIDTH - 1)), bottom + CAPTION - 1),
                     fill=UNKNOWN if tile.unknown else BAR)
    score = f'{tile.score:.2f}'
    number = line(score, LETTERS - 4, WIDTH)
    page.paste(number, (left + WIDTH - GAP - number.width, middle - number.height // 2), number)
    label = f'unknown ({tile.label}?)' if tile.unknown else tile.label
    _write(page, label, left + GAP, middle, WIDTH - 3 * GAP - number.width, font)


def _write(page: Image.Image, text: str, left: int, middle: int, room: int, font: str) -> None:
    """Write a line whose middle is at a height; it is cut to fit into the room [px]."""
    if width(text, LETTERS, font) > room:
        count = bisect_right(range(len(text)), room,
                             key=lambda count: width(f'{text[:count]}…', LETTERS, font))
        text = f'{text[:max(0, count - 1)]}…'
    drawn = line(text, LETTERS, room + 1, font)
    page.paste(drawn, (left, middle - drawn.height // 2), drawn)
