"""Regions: which pixels a box is labelled by."""
import math

import numpy as np
import pytest
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.regions import Box, cut, cut_all

HEIGHT, WIDTH = 60, 100
# Each pixel's value is its column, in the first channel, and its row, in the second.
PIXELS = np.dstack([*np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), np.zeros((HEIGHT, WIDTH))]
                   ).astype(np.uint8)
FRAME = Frame(PIXELS)


def place(part: Frame) -> tuple[int, int, int, int]:
    """Return left, top, width and height."""
    return (*part.pixels[0, 0, :2].tolist(), part.pixels.shape[1], part.pixels.shape[0])


@pytest.mark.parametrize('box, margin, expected', [
    (Box(50, 30, 20, 20), 0.0, (40, 20, 20, 20)),
    (Box(50, 30, 20, 10), 0.0, (40, 20, 20, 20)),  # a square, as the student sees
    (Box(50, 30, 20, 10), 0.25, (35, 15, 30, 30)),
    (Box(10, 5, 20, 10), 0.0, (0, 0, 20, 20)),  # moved into the image
    (Box(95, 55, 20, 20), 0.0, (85, 45, 15, 15)),  # only what is inside counts
    (Box(50, 30, 100, 20), 0.0, (0, 0, 100, 60)),  # the image is not that high
    (Box(50, 30, 20, 10, math.pi / 2), 0.0, (40, 20, 20, 20)),
    (Box(50, 30, 20, 20, math.pi / 4), 0.0, (36, 16, 29, 29)),
    (Box(50, 30, 1e9, 1e9), 0.0, (0, 0, 100, 60))],
    ids=['square', 'wide', 'margin', 'corner', 'over the border', 'whole width', 'turned by 90',
         'turned by 45', 'huge'])
def test_part_of_a_box(box: Box, margin: float, expected: tuple[int, ...]) -> None:
    part = cut(FRAME, box, margin, 0)
    assert place(part) == expected
    assert np.shares_memory(part.pixels, PIXELS)


@pytest.mark.parametrize('box', [
    Box(50, 30, 0, 10), Box(50, 30, 10, -1), Box(math.nan, 30, 10, 10), Box(50, 30, math.inf, 1),
    Box(50, 30, 10, 10, math.nan), Box(-50, 30, 20, 20), Box(50, 90, 20, 20),
    Box(50, 30, 7, 20), Box(100, 30, 14, 20)],
    ids=['no width', 'negative', 'nan', 'inf', 'nan angle', 'left of it', 'below it',
         'too narrow', 'too narrow inside'])
def test_box_that_shows_nothing_is_refused(box: Box) -> None:
    with pytest.raises(ValueError, match='expected a box'):
        cut(FRAME, box, 0, 8)


def test_parts_are_as_many_as_boxes_and_limited() -> None:
    good, bad = Box(50, 30, 20, 20), Box(0, 0, 0, 0)
    parts = cut_all(FRAME, [bad, good, good, bad, good], 0, 8, most=2)
    assert [part is not None for part in parts] == [False, True, True, False, False]
