"""Preprocess: the two ways of resizing agree, and colours and geometry stay what they are."""
from collections.abc import Callable
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from vl2v_ros.images.frame import CHANNELS, Frame
from vl2v_ros.images.preprocess import crop, preprocess, RESIZE_MODES, resize_on_cpu
from vl2v_ros.model.runtime.device_resize import DeviceResize

CPU = torch.device('cpu')
ALPHA = 200
Resize = Callable[[Frame, int, str], torch.Tensor]  # -> (3, S, S) in [0, 1]


def on_cpu(frame: Frame, size: int, mode: str) -> torch.Tensor:
    return preprocess([frame], size, mode)[0]


def on_device(frame: Frame, size: int, mode: str) -> torch.Tensor:
    return DeviceResize(size, mode, CPU, torch.float32)([frame])[0]


both_ways = pytest.mark.parametrize('resize', [on_cpu, on_device])
every_mode = pytest.mark.parametrize('mode', RESIZE_MODES)


def noise(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def in_order(rgb: np.ndarray, order: str, alpha: int = ALPHA) -> Frame:
    """Return RGB pixels as a camera with that order would deliver them; mono is the red."""
    if order == 'mono':
        return Frame(rgb[..., :1], order)
    colours = rgb if order.startswith('rgb') else rgb[..., ::-1]
    opaque = [np.full((*rgb.shape[:2], 1), alpha, np.uint8)] if order.endswith('a') else []
    return Frame(np.ascontiguousarray(np.dstack([colours, *opaque])), order)


@every_mode
@pytest.mark.parametrize('order', CHANNELS)
@pytest.mark.parametrize('height, width, size', [
    (480, 640, 224),
    (96, 96, 48),  # by exactly 2
    (97, 131, 48),
    (131, 97, 32),
    (49, 48, 48),
    (48, 48, 48),  # unchanged
    (31, 45, 64),
    (7, 5, 33),
    (40, 200, 64),  # squashed, one side shrinks and one grows
    (300, 20, 48),
    (1, 1, 8),
    (1, 9, 4),
])
def test_cpu_and_device_agree_to_the_rounding_of_uint8(
        height: int, width: int, size: int, order: str, mode: str) -> None:
    frame = Frame(noise(height, width, CHANNELS[order]), order)
    difference = (on_cpu(frame, size, mode) - on_device(frame, size, mode)).abs().max()
    assert difference <= 1 / 255 + 1e-6


@both_ways
@every_mode
@pytest.mark.parametrize('order', CHANNELS)
@pytest.mark.parametrize('size', [16, 128])
def test_colours_come_out_as_rgb(resize: Resize, order: str, mode: str, size: int) -> None:
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:, :32], rgb[:, 32:] = (200, 100, 30), (10, 60, 240)
    result = (resize(in_order(rgb, order), size, mode) * 255).round()
    for columns, colour in ((slice(0, size // 3), (200, 100, 30)),
                            (slice(-(size // 3), None), (10, 60, 240))):
        expected = torch.tensor(colour if order != 'mono' else colour[:1] * 3)
        assert torch.equal(result[:, :, columns],
                           expected.float().view(3, 1, 1).expand(3, size, size // 3))


@both_ways
@every_mode
@pytest.mark.parametrize('order', ['rgba', 'bgra'])
@pytest.mark.parametrize('size', [16, 100])
def test_alpha_changes_nothing(resize: Resize, order: str, mode: str, size: int) -> None:
    rgb = noise(50, 70, 3)
    clear, opaque = (in_order(rgb, order, alpha) for alpha in (0, 255))
    assert not np.array_equal(clear.pixels, opaque.pixels)
    assert torch.equal(resize(clear, size, mode), resize(opaque, size, mode))
    plain = resize(in_order(rgb, order[:3]), size, mode)
    torch.testing.assert_close(resize(clear, size, mode), plain, atol=1e-6, rtol=0)


@both_ways
@pytest.mark.parametrize('height, width', [(100, 160), (161, 101)])
@pytest.mark.parametrize('corner', [(0, 0), (0, -1), (-1, 0), (-1, -1)])
def test_a_corner_is_seen_only_when_the_frame_is_squashed(
        resize: Resize, height: int, width: int, corner: tuple[int, int]) -> None:
    plain = np.full((height, width, 3), 50, np.uint8)
    marked = plain.copy()
    rows, columns = (slice(0, 20) if end == 0 else slice(-20, None) for end in corner)
    marked[rows, columns] = 255
    results = {mode: (resize(Frame(plain), 32, mode), resize(Frame(marked), 32, mode))
               for mode in RESIZE_MODES}
    assert torch.equal(*results['shortest'])
    without, within = results['squash']
    changed = (within - without).abs().amax(0) > 0.5
    assert changed[corner]
    assert not changed[16, 16]


@both_ways
@every_mode
def test_a_marker_keeps_its_place(resize: Resize, mode: str) -> None:
    pixels = np.zeros((80, 80, 3), np.uint8)
    pixels[8:16, 56:64] = 255
    result = resize(Frame(pixels), 10, mode)
    assert result[:, 1, 7].min() > 0.99
    result[:, 1, 7] = 0
    assert result.max() < 0.01


@pytest.mark.parametrize('height, width, rows, columns', [
    (4, 10, slice(0, 4), slice(3, 7)),
    (10, 4, slice(3, 7), slice(0, 4)),
    (2, 5, slice(0, 2), slice(1, 3)),  # one more pixel goes on the right
    (5, 5, slice(0, 5), slice(0, 5)),
])
def test_shortest_takes_the_centred_square(height: int, width: int, rows: slice,
                                           columns: slice) -> None:
    pixels = noise(height, width, 3)
    assert np.array_equal(crop(pixels, 'shortest'), pixels[rows, columns])
    assert np.array_equal(crop(pixels, 'squash'), pixels)


@every_mode
def test_crop_shares_its_memory(mode: str) -> None:
    pixels = noise(20, 30, 3)
    part = crop(pixels, mode)
    part[0, 0] = pixels[0, 5] = 1, 2, 3
    assert np.shares_memory(part, pixels)
    assert np.array_equal(crop(pixels, mode)[0, 0], (1, 2, 3))


@both_ways
@every_mode
@pytest.mark.parametrize('order', CHANNELS)
def test_padded_rows_are_read_as_they_lie(resize: Resize, order: str, mode: str) -> None:
    wide = noise(60, 100, CHANNELS[order])
    view = wide[:, :80]
    assert not view.flags.c_contiguous
    assert torch.equal(resize(Frame(view, order), 24, mode),
                       resize(Frame(view.copy(), order), 24, mode))


@both_ways
@pytest.mark.parametrize('turn', [
    lambda pixels: pixels[::-1], lambda pixels: pixels[:, ::-1], lambda pixels: pixels[..., ::-1],
    lambda pixels: np.frombuffer(pixels.tobytes(), np.uint8).reshape(pixels.shape)],
    ids=['upside_down', 'mirrored', 'reversed_channels', 'read_only'])
@pytest.mark.filterwarnings('error')
def test_any_view_of_numpy_is_read(
        resize: Resize, turn: Callable[[np.ndarray], np.ndarray]) -> None:
    view = turn(noise(60, 80, 3))
    assert torch.equal(resize(Frame(view), 24, 'shortest'),
                       resize(Frame(view.copy()), 24, 'shortest'))


@every_mode
def test_resize_on_the_cpu_makes_no_copy_of_full_size(mode: str) -> None:
    pixels = np.zeros((3000, 4100, 3), np.uint8)[:, :4000]
    tracemalloc.start()
    try:
        resize_on_cpu([Frame(pixels), Frame(pixels, 'bgr')], 224, mode)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.clear_traces()
        resize_on_cpu([Frame(pixels[:, ::-1])], 224, mode)  # of this OpenCV needs one
        copied = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.4 * pixels.nbytes < 0.5 * pixels.nbytes < copied


@every_mode
def test_batch_has_its_shape_type_and_range(mode: str) -> None:
    frames = [Frame(noise(height, width, 3, seed))
              for seed, (height, width) in enumerate([(50, 70), (20, 20), (31, 17)])]
    batch = preprocess(frames, 24, mode)
    assert batch.shape == (3, 3, 24, 24)
    assert batch.dtype == torch.float32
    assert 0 <= batch.min() < 0.2
    assert 0.8 < batch.max() <= 1
    pixels = resize_on_cpu(frames, 24, mode)
    assert (pixels.shape, pixels.dtype) == ((3, 24, 24, 3), np.uint8)


@both_ways
@every_mode
@pytest.mark.parametrize('height, width', [(50, 70), (9, 5)])
@pytest.mark.parametrize('level, expected', [(0, 0.0), (255, 1.0), (51, 0.2)])
def test_a_plain_frame_stays_plain(resize: Resize, mode: str, height: int, width: int,
                                   level: int, expected: float) -> None:
    frame = Frame(np.full((height, width, 3), level, np.uint8))
    torch.testing.assert_close(resize(frame, 24, mode), torch.full((3, 24, 24), expected),
                               atol=1e-6, rtol=0)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_device_result_has_the_type_that_was_asked_for(dtype: torch.dtype) -> None:
    frame = Frame(noise(60, 80, 3))
    result = DeviceResize(24, 'shortest', CPU, dtype)([frame])[0]
    assert (result.shape, result.dtype) == ((3, 24, 24), dtype)


@every_mode
@pytest.mark.parametrize('height, width, size', [(720, 1280, 144), (97, 131, 48), (31, 45, 64),
                                                 (1500, 1501, 8)])
@pytest.mark.parametrize('level', [None, 255])
def test_half_precision_is_off_by_half_a_level_at_most(
        height: int, width: int, size: int, mode: str, level: int | None) -> None:
    pixels = noise(height, width, 3) if level is None else np.full((height, width, 3), level,
                                                                   np.uint8)
    half, single = (DeviceResize(size, mode, CPU, dtype)([Frame(pixels)]).float()
                    for dtype in (torch.float16, torch.float32))
    assert (half - single).abs().max() <= 4 * 2 ** -11


@every_mode
def test_device_resizes_a_batch_of_all_kinds_of_frames_as_one_by_one(mode: str) -> None:
    frames = [in_order(noise(height, width, 3, seed), order) for seed, (height, width, order) in
              enumerate([(50, 70, 'rgb'), (50, 70, 'rgb'), (50, 70, 'bgr'), (90, 60, 'mono'),
                         (20, 15, 'bgra'), (50, 70, 'rgb')])]
    resize = DeviceResize(24, mode, CPU, torch.float32)
    alone = torch.cat([resize([frame]) for frame in frames])
    images = torch.full((8, 3, 24, 24), torch.nan).contiguous(memory_format=torch.channels_last)
    assert resize(frames, images[1:7]).data_ptr() == images[1:7].data_ptr()
    torch.testing.assert_close(images[1:7], alone, atol=1e-6, rtol=0)
    assert images[[0, 7]].isnan().all()
    together = resize(frames)
    assert torch.equal(together, images[1:7])
    assert together.is_contiguous(memory_format=torch.channels_last)
    resize(frames[::-1])
    assert torch.equal(together, images[1:7])  # it stays what it is when the next come


@both_ways
def test_frame_is_left_as_it_was(resize: Resize) -> None:
    pixels = noise(60, 80, 3)
    before = pixels.copy()
    resize(Frame(pixels), 24, 'squash')
    assert np.array_equal(pixels, before)


def test_no_thread_is_left_looking_for_work() -> None:
    script = ('import os, numpy as np\n'
              'from vl2v_ros.images.frame import Frame\n'
              'from vl2v_ros.images.preprocess import resize_on_cpu\n'
              'before = len(os.listdir("/proc/self/task"))\n'
              'frame = Frame(np.zeros((720, 1280, 3), np.uint8), "bgr")\n'
              'resize_on_cpu([frame], 224, "shortest")\n'
              'print(len(os.listdir("/proc/self/task")) - before)')
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True,
                          check=True)
    assert done.stdout == '0\n'
