"""Blur: a way or a disk, as long and as wide as asked, and nothing else."""
import math

import pytest
import torch
from training.data.blurring import blur, blur_some

SIDE = 40
NONE = torch.zeros(2)


@pytest.fixture
def dot() -> torch.Tensor:
    """Return two images of a white pixel in the middle."""
    images = torch.zeros(2, 3, SIDE, SIDE)
    images[..., SIDE // 2, SIDE // 2] = 1
    return images


def test_no_blur_is_the_image_itself() -> None:
    images = torch.rand(2, 3, SIDE, SIDE)
    torch.testing.assert_close(blur(images, NONE, NONE, NONE), images, atol=1e-5, rtol=0)
    assert blur_some(images, 0.4, lambda low, high: torch.full((2,), high)) is images


def test_a_motion_draws_a_line(dot: torch.Tensor) -> None:
    found = blur(dot, torch.full((2,), 0.5), torch.tensor([0, math.pi / 2]), NONE)
    torch.testing.assert_close(found.sum((2, 3)), torch.ones(2, 3))  # no light is lost
    assert (found[0, 0] > 0.01).sum(1).nonzero().flatten().tolist() == [SIDE // 2]
    assert 19 <= (found[0, 0, SIDE // 2] > 0.01).sum() <= 21
    torch.testing.assert_close(found[1], found[0].transpose(1, 2), atol=1e-6, rtol=0)


def test_a_wrong_focus_draws_a_disk(dot: torch.Tensor) -> None:
    found = blur(dot, NONE, NONE, torch.tensor([0.25, 0.5]))
    for image, radius in zip(found[:, 0], (5, 10), strict=True):
        assert (image > 0.5 * image.max()).sum().item() == pytest.approx(
            math.pi * radius ** 2, rel=0.1)
        torch.testing.assert_close(image[1:, 1:], image[1:, 1:].flip(0), atol=1e-6, rtol=0)


def test_borders_are_mirrored() -> None:
    grey = torch.full((2, 3, SIDE, SIDE), 0.3)
    found = blur(grey, torch.tensor([1.0, 0.2]), torch.tensor([0.5, 2.0]), NONE)
    torch.testing.assert_close(found, grey, atol=1e-5, rtol=0)


def test_half_of_a_batch_is_blurred_each_in_its_own_way() -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, SIDE, SIDE, generator=rng).repeat(200, 1, 1, 1)
    found = blur_some(images, 0.3, lambda low, high: low + (high - low) * torch.rand(
        200, generator=rng))
    changed = (found != images).flatten(1).any(1)
    assert 70 < changed.sum() < 130
    assert len(found[changed].flatten(1).unique(dim=0)) > 0.8 * changed.sum()  # some by < 1 px
    assert 0 <= found.min() and found.max() <= 1
