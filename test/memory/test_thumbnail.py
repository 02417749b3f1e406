"""Thumbnails: small JPEG pictures of frames of any order, or of a box in one."""
import numpy as np
import pytest
from vl2v_ros.images.encodings import decode
from vl2v_ros.images.frame import Frame, to_rgb
from vl2v_ros.images.regions import Box
from vl2v_ros.memory.thumbnail import draw


@pytest.mark.parametrize(('order', 'colour'), [
    ('rgb', (200, 100, 50)), ('bgr', (50, 100, 200)), ('rgba', (200, 100, 50, 9)),
    ('mono', (200,))])
def test_a_frame_becomes_small_and_keeps_its_colours(order: str, colour: tuple[int, ...]) -> None:
    frame = Frame(np.full((120, 300, len(colour)), colour, np.uint8), order)
    small = to_rgb(decode(draw(frame, None, 96)))
    assert small.shape == (38, 96, 3)
    assert np.abs(small.mean((0, 1)) - to_rgb(frame)[0, 0]).max() < 6


def test_a_box_is_cut_out_and_nothing_is_enlarged() -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[40:60, 20:40] = 255
    small = to_rgb(decode(draw(Frame(pixels), Box(30, 50, 20, 20), 96)))
    assert small.shape[:2] == (24, 24) and small[4:20, 4:20].min() > 200
    with pytest.raises(ValueError, match='expected a box'):
        draw(Frame(pixels), Box(500, 50, 20, 20), 96)
