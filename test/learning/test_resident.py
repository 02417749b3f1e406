"""Resident images: decoded as on the robot, and varied on the device as a recipe asks for."""
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.tiny_data import write_images
import torch
from training.data import resident
from training.data.image_index import read_folders
from training.data.images import Images
from training.recipe import Augmentation

SIDE = 24
STILL = Augmentation(scale=(1.0, 1.0), flip=0, jitter=0, hue=0, grey=0)
MANY = Augmentation(scale=(0.3, 1.0), flip=0.5, jitter=0.4, hue=0.2, grey=0.2, blur=0.2)


@pytest.fixture
def pixels() -> torch.Tensor:
    """Return (8, 3, S, S) uint8 noise, smooth enough to be resized."""
    noise = torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(noise, (SIDE, SIDE), mode='bilinear')
    return (smooth * 255).round().byte()


@pytest.fixture
def square(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let crops have the sides of the image."""
    monkeypatch.setattr(resident, 'RATIO', (1.0, 1.0))


def test_images_are_what_the_robot_sees(tmp_path: Path) -> None:
    indices = [read_folders(write_images(tmp_path / name, count=2, domains=('day',)))
               for name in ('one', 'other')]
    found = resident.decode_all(indices, SIDE, torch.device('cpu'))
    expected = torch.stack([sample.image for index in indices for sample in Images(index, SIDE)])
    assert found.shape == (16, 3, SIDE, SIDE) and found.dtype == torch.uint8
    assert (found.float() / 255 - expected).abs().max() <= 0.5 / 255 + 1e-6


def test_the_seed_alone_decides(pixels: torch.Tensor) -> None:
    first = resident.augment(pixels, MANY, [1, 2, 3])
    torch.manual_seed(7)
    assert torch.equal(resident.augment(pixels, MANY, [1, 2, 3]), first)
    for seed in ([1, 2, 4], [1, 3, 3], [2, 2, 3]):
        assert not torch.equal(resident.augment(pixels, MANY, seed), first)
    assert first.dtype == torch.float32 and 0 <= first.min() and first.max() <= 1
    assert first.is_contiguous(memory_format=torch.channels_last)
    same = resident.augment(pixels[:1].repeat(8, 1, 1, 1), MANY, [0])
    assert all(not torch.equal(same[0], other) for other in same[1:])  # each in its own way


@pytest.mark.usefixtures('square')
def test_nothing_to_vary_is_the_image_itself(pixels: torch.Tensor) -> None:
    found = resident.augment(pixels, STILL, [0])
    torch.testing.assert_close(found, pixels.float() / 255, atol=1e-5, rtol=0)


@pytest.mark.usefixtures('square')
def test_images_are_mirrored(pixels: torch.Tensor) -> None:
    found = resident.augment(pixels, replace(STILL, flip=1.0), [0])
    torch.testing.assert_close(found, pixels.flip(3).float() / 255, atol=1e-5, rtol=0)
    half = resident.augment(pixels, replace(STILL, flip=0.5), [0])
    mirrored = torch.isclose(half, found, atol=1e-4).flatten(1).all(1)
    assert 0 < mirrored.sum() < 8


@pytest.mark.usefixtures('square')
def test_half_of_the_images_are_blurred(pixels: torch.Tensor) -> None:
    found = resident.augment(pixels.repeat(8, 1, 1, 1), replace(STILL, blur=0.4), [0])
    change = (found - pixels.repeat(8, 1, 1, 1) / 255).abs().flatten(1).amax(1)
    assert 16 < (change > 1e-3).sum() < 48


@pytest.mark.usefixtures('square')
def test_images_become_grey(pixels: torch.Tensor) -> None:
    found = resident.augment(pixels, replace(STILL, grey=1.0), [0])
    weights = np.array([0.299, 0.587, 0.114])
    expected = np.einsum('c,bchw->bhw', weights, pixels.numpy() / 255)
    for channel in range(3):
        np.testing.assert_allclose(found[:, channel], expected, atol=1e-5)


def test_crops_lie_within_the_image_and_are_as_large_as_asked() -> None:
    across = torch.linspace(0, 255, SIDE).round().byte().expand(64, 3, SIDE, SIDE)
    found = resident.augment(across, replace(STILL, scale=(0.25, 0.25)), [0]) * 255
    wide = (found[:, 0, 0, -1] - found[:, 0, 0, 0]) / 255 * SIDE / (SIDE - 1)
    low, high = 0.5 * 0.75 ** 0.5, 0.5 / 0.75 ** 0.5
    assert (wide > low - 0.06).all() and (wide < high + 0.06).all() and wide.std() > 0.02
    assert found[:, 0, 0, 0].std() > 20  # at many places


def test_hue_turns_by_parts_of_a_circle(pixels: torch.Tensor) -> None:
    images = pixels.float() / 255
    still = resident._turn(images, torch.zeros(8))
    torch.testing.assert_close(still, images, atol=1e-6, rtol=0)
    third = resident._turn(images, torch.full((8,), 1 / 3))  # red becomes green, green blue
    torch.testing.assert_close(third, images[:, [2, 0, 1]], atol=1e-5, rtol=0)
    grey = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(resident._turn(grey, torch.rand(8)), grey, atol=1e-6, rtol=0)


@pytest.mark.usefixtures('square')
def test_jitter_keeps_what_it_should(pixels: torch.Tensor) -> None:
    black = torch.zeros_like(pixels)
    assert not resident.augment(black, replace(STILL, jitter=0.5), [0]).any()
    found = resident.augment(pixels, replace(STILL, jitter=0.2), [0])
    change = (found - pixels.float() / 255).abs()
    assert 0.01 < change.mean() < 0.2 and change.flatten(1).amax(1).gt(0).all()
