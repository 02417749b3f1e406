"""
Resident images: decoded once, and kept on the device at the student's size.

Batches are cropped, mirrored and coloured on the device, all images at once. If a GPU waits for
files, this is many times faster than reading them in every epoch. An image needs 3 S^2 bytes.
"""
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
import math
import os

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm
from training.data.blurring import blur_some, Draw
from training.data.image_index import Index
from training.recipe import Augmentation
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.preprocess import resize_on_cpu

GREY = 0.299, 0.587, 0.114  # of RGB, as in torchvision
RATIO = 3 / 4, 4 / 3  # of a crop's sides, as in torchvision's RandomResizedCrop


def decode_all(indices: Sequence[Index], side: int, device: torch.device) -> torch.Tensor:
    """Return (N, 3, S, S) uint8 RGB on a device: the images of all indices, not augmented."""
    rows = [(index, row) for index in indices for row in range(len(index))]
    pixels = np.empty((len(rows), side, side, 3), np.uint8)

    def decode(place: int) -> None:
        index, row = rows[place]
        resize_on_cpu([Frame(index.read(row))], side, 'shortest', pixels[place:place + 1])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in tqdm(pool.map(decode, range(len(rows))), total=len(rows), desc='decoding',
                      unit='image', disable=None):
            pass
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)


def augment(pixels: torch.Tensor, how: Augmentation, seed: Sequence[int]) -> torch.Tensor:
    """
    Augment a batch as `images.transform` does with one image, but without RandAugment.

    :param pixels: (B, 3, S, S) uint8 RGB.
    :param seed: determines the augmentation completely.
    :return: (B, 3, S, S) float32 in [0, 1], channels last.
    """
    count, device = len(pixels), pixels.device
    rng = np.random.default_rng(seed)

    def draw(low: float, high: float) -> torch.Tensor:
        return torch.from_numpy(rng.uniform(low, high, count).astype(np.float32)).to(device)

    images = functional.grid_sample(
        pixels.float() / 255, functional.affine_grid(
            _crops(how, count, draw), list(pixels.shape), align_corners=False),
        padding_mode='reflection', align_corners=False)
    if how.blur:
        images = blur_some(images, how.blur, draw)
    return colour(images, how, draw).contiguous(memory_format=torch.channels_last)


def _crops(how: Augmentation, count: int, draw: Draw) -> torch.Tensor:
    """Return (B, 2, 3) affine maps from the unit square to a crop, mirrored or not."""
    area, ratio = draw(*how.scale), draw(math.log(RATIO[0]), math.log(RATIO[1])).exp()
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    left, top = draw(-1, 1) * (1 - width), draw(-1, 1) * (1 - height)
    mirror = torch.where(draw(0, 1) < how.flip, -1.0, 1.0)
    zero = torch.zeros_like(width)
    return torch.stack([width * mirror, zero, left, zero, height, top], 1).view(count, 2, 3)


def colour(images: torch.Tensor, how: Augmentation, draw: Draw) -> torch.Tensor:
    """Vary brightness, contrast, saturation and hue of (B, 3, S, S) in [0, 1]; make some grey."""
    weights = torch.tensor(GREY, device=images.device).view(1, 3, 1, 1)

    def grey(images: torch.Tensor) -> torch.Tensor:
        return (images * weights).sum(1, keepdim=True)  # (B, 1, S, S)

    def mix(images: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        part = draw(1 - how.jitter, 1 + how.jitter).view(-1, 1, 1, 1)
        return (part * images + (1 - part) * other).clamp(0, 1)

    if how.jitter:
        images = mix(images, torch.zeros_like(images[:, :1]))
        images = mix(images, grey(images).mean((2, 3), keepdim=True))
        images = mix(images, grey(images))
    if how.hue:
        images = _turn(images, draw(-how.hue, how.hue))
    return torch.where((draw(0, 1) < how.grey).view(-1, 1, 1, 1), grey(images), images)


def _turn(images: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Rotate colours about the grey axis by fractions of a full turn, almost a change of hue."""
    angle = (2 * math.pi * turns).view(-1, 1, 1)
    one = torch.ones(3, 3, device=images.device) / 3
    cross = torch.tensor([[0., -1, 1], [1, 0, -1], [-1, 1, 0]], device=images.device) / 3 ** 0.5
    turn = angle.cos() * (torch.eye(3, device=images.device) - one) + angle.sin() * cross + one
    return torch.einsum('bij,bjhw->bihw', turn, images).clamp(0, 1)
