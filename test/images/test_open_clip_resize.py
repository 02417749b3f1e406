"""The resize of open_clip's models: the pixels that open_clip's own transform makes."""
import numpy as np
import open_clip
from PIL import Image
import pytest
import torch
from vl2v_ros.images.frame import CHANNELS, Frame, RGB_CHANNELS
from vl2v_ros.images.open_clip_resize import MODES
from vl2v_ros.images.preprocess import preprocess
from vl2v_ros.model.runtime.device_resize import DeviceResize

SIZES = [(480, 640, 224), (641, 480, 224), (97, 131, 48), (48, 48, 48), (31, 45, 64),
         (300, 20, 48), (1, 9, 4), (1, 1, 8)]


def draw(height: int, width: int) -> np.ndarray:
    """Return noise on a ramp with hard edges, where a cubic filter overshoots."""
    ramp = np.linspace(0, 255, width)[None, :, None] + np.zeros((height, 1, 3))
    ramp[height // 3:height // 2] = 255
    noise = np.random.default_rng(0).normal(0, 20, ramp.shape)
    return (ramp + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('height, width, size', SIZES)
def test_pixels_are_those_of_open_clip(height: int, width: int, size: int, mode: str) -> None:
    pixels = draw(height, width)
    part, kind = mode.split()
    wanted = open_clip.image_transform(size, False, (0, 0, 0), (1, 1, 1), part, kind)(
        Image.fromarray(pixels))
    found = preprocess([Frame(pixels)], size, mode)[0]
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
    device = DeviceResize(size, mode, torch.device('cpu'), torch.float32)([Frame(pixels)])[0]
    away = (device - wanted).abs()  # it neither rounds nor clips between its steps
    assert away.max() <= 6 / 255 and away.mean() <= 0.5 / 255
    assert 0 <= device.min() and device.max() <= 1 + 1e-6


@pytest.mark.parametrize('order', CHANNELS)
def test_any_order_of_channels_comes_out_as_rgb(order: str) -> None:
    rgb = draw(50, 70)
    pixels = np.full((50, 70, CHANNELS[order]), 7, np.uint8)
    for channel, place in enumerate(RGB_CHANNELS[order]):
        pixels[..., place] = rgb[..., 0 if order == 'mono' else channel]
    wanted = preprocess([Frame(rgb)], 24, MODES[0])[0]
    wanted = wanted[:1].expand(3, -1, -1) if order == 'mono' else wanted
    for frame in (Frame(pixels, order), Frame(np.repeat(pixels, 2, 1)[:, ::2], order)):
        assert torch.equal(preprocess([frame], 24, MODES[0])[0], wanted)
