"""Draw one page of pictures with their labels."""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from vl2v_ros.drawing.overlay import BAR, font, TEXT, UNKNOWN

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


def draw(parts: Sequence[Part], columns: int = 4) -> np.ndarray:
    """Return the page as (H, W, 3) uint8 RGB; all pictures get the proportions of the first."""
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
        canvas.text((GAP, middle), _fit(part.heading, page.width - 2 * GAP), TEXT, font(LETTERS),
                    'lm')
        top += HEADING
        for start in range(0, len(part.tiles), columns):
            for column, tile in enumerate(part.tiles[start:start + columns]):
                _draw_tile(page, canvas, tile, (GAP + column * (WIDTH + GAP), top + GAP), size)
            top += step
    return np.asarray(page)


def _draw_tile(page: Image.Image, canvas: ImageDraw.ImageDraw, tile: Tile, corner: tuple[int, int],
               size: tuple[int, int]) -> None:
    left, top = corner
    page.paste(Image.fromarray(tile.rgb).resize(size, Image.Resampling.LANCZOS), corner)
    bottom, middle = top + size[1], top + size[1] + CAPTION // 2
    canvas.rectangle((left, bottom, left + round(tile.score * (WIDTH - 1)), bottom + CAPTION - 1),
                     fill=UNKNOWN if tile.unknown else BAR)
    score = f'{tile.score:.2f}'
    canvas.text((left + WIDTH - GAP, middle), score, TEXT, font(LETTERS - 4), 'rm')
    room = WIDTH - 3 * GAP - round(font(LETTERS - 4).getlength(score))
    label = f'unknown ({tile.label}?)' if tile.unknown else tile.label
    canvas.text((left + GAP, middle), _fit(label, room), TEXT, font(LETTERS), 'lm')


def _fit(text: str, width: int) -> str:
    """Cut a line so that it fits into a width [px]."""
    if font(LETTERS).getlength(text) <= width:
        return text
    while text and font(LETTERS).getlength(text + '…') > width:
        text = text[:-1]
    return text + '…'
