"""Frame: what it takes, what it refuses and how it becomes RGB."""
import re

import numpy as np
import pytest
from vl2v_ros.images.frame import CHANNELS, check_size, Frame, MAX_PIXELS, to_rgb

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
ALPHA = np.full((6, 8, 1), 77, np.uint8)
IN_ORDER = {
    'rgb': RGB,
    'bgr': RGB[..., ::-1],
    'rgba': np.dstack([RGB, ALPHA]),
    'bgra': np.dstack([RGB[..., ::-1], ALPHA]),
    'mono': RGB[..., :1],
}


def blank(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Return an array of any size that takes one byte of memory."""
    return np.broadcast_to(np.uint8(0), (height, width, channels))


@pytest.mark.parametrize('shape, dtype, order, expected', [
    ((6, 8), np.uint8, 'mono', "(H, W, 1) uint8 for 'mono', got (6, 8) uint8"),
    ((6, 8, 4), np.uint8, 'rgb', "(H, W, 3) uint8 for 'rgb', got (6, 8, 4) uint8"),
    ((6, 8, 3), np.uint8, 'bgra', "(H, W, 4) uint8 for 'bgra', got (6, 8, 3) uint8"),
    ((1, 6, 8, 3), np.uint8, 'bgr', "(H, W, 3) uint8 for 'bgr', got (1, 6, 8, 3) uint8"),
    ((6, 8, 3), np.float32, 'rgb', "(H, W, 3) uint8 for 'rgb', got (6, 8, 3) float32"),
    ((6, 8, 1), np.uint16, 'mono', "(H, W, 1) uint8 for 'mono', got (6, 8, 1) uint16"),
    ((6, 8, 3), np.int8, 'rgb', "(H, W, 3) uint8 for 'rgb', got (6, 8, 3) int8"),
])
def test_refusal_names_the_shape_and_type_that_came(
        shape: tuple[int, ...], dtype: type, order: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        Frame(np.zeros(shape, dtype), order)


@pytest.mark.parametrize('order', ['RGB', 'rgb8', 'hsv', ''])
def test_refusal_names_the_order_that_came_and_those_it_knows(order: str) -> None:
    with pytest.raises(ValueError, match='channel order') as refusal:
        Frame(RGB, order)
    assert str(refusal.value).endswith(f'got {order!r}')
    assert all(repr(known) in str(refusal.value) for known in CHANNELS)


@pytest.mark.parametrize('height, width', [(0, 8), (6, 0), (0, 0)])
def test_frame_without_pixels_is_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f'at least 1 x 1 px, got {width} x {height}'):
        Frame(blank(height, width))


@pytest.mark.parametrize('height, width', [(8193, 8192), (1, MAX_PIXELS + 1), (65536, 65536)])
def test_frame_above_max_pixels_is_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f'at most {MAX_PIXELS} px .*got {width} x {height}'):
        Frame(blank(height, width))


@pytest.mark.parametrize('height, width', [(8192, 8192), (1, MAX_PIXELS), (1, 1)])
def test_sizes_up_to_max_pixels_are_accepted(height: int, width: int) -> None:
    assert Frame(blank(height, width)).pixels.shape == (height, width, 3)


@pytest.mark.parametrize('width, height', [(-1, 8), (8, -1), (-8, -8)])
def test_negative_sizes_are_refused(width: int, height: int) -> None:
    with pytest.raises(ValueError, match=f'got {width} x {height}'):
        check_size(width, height)


@pytest.mark.parametrize('order', CHANNELS)
def test_to_rgb_puts_every_order_right(order: str) -> None:
    expected = np.repeat(RGB[..., :1], 3, axis=2) if order == 'mono' else RGB
    assert np.array_equal(to_rgb(Frame(IN_ORDER[order], order)), expected)


@pytest.mark.parametrize('order', CHANNELS)
def test_to_rgb_returns_new_contiguous_memory(order: str) -> None:
    source = np.ascontiguousarray(IN_ORDER[order])
    rgb = to_rgb(Frame(source, order))
    assert rgb.flags.c_contiguous
    assert not np.shares_memory(rgb, source)


@pytest.mark.parametrize('order', CHANNELS)
def test_padded_rows_are_taken_without_copy(order: str) -> None:
    channels = CHANNELS[order]
    padded = np.full((6, 8 * channels + 5), 99, np.uint8)  # 5 bytes after each row
    view = padded[:, :8 * channels].reshape(6, 8, channels)
    view[:] = IN_ORDER[order]
    assert not view.flags.c_contiguous
    frame = Frame(view, order)
    assert np.shares_memory(frame.pixels, padded)
    assert np.array_equal(to_rgb(frame), to_rgb(Frame(IN_ORDER[order].copy(), order)))
