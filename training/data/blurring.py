"""Blur: images as a camera sees them that moves during the exposure, or is out of focus."""
from collections.abc import Callable
import math

import torch
from torch.nn import functional

Draw = Callable[[float, float], torch.Tensor]
"""(low, high) -> (B,) numbers drawn between them."""
STEP = 8  # the border's width is a multiple of it, as such sizes are transformed fast [px]


def blur_some(images: torch.Tensor, most: float, draw: Draw) -> torch.Tensor:
    """
    Blur half of the images, each in its own way: by a motion or by a wrong focus.

    :param images: (B, 3, S, S) in [0, 1].
    :param most: the largest length of a motion, or diameter of a disk, as a fraction of S.
    :return: (B, 3, S, S) in [0, 1].
    """
    extent, chance, kind, angle = draw(0, most), draw(0, 1), draw(0, 1), draw(0, math.pi)
    rows = (chance < 0.5).nonzero()[:, 0]
    if not len(rows):
        return images
    extent, moved = extent[rows], (kind[rows] < 0.5).float()
    return images.index_copy(0, rows, blur(
        images[rows], extent * moved, angle[rows], extent * (1 - moved)))


def blur(images: torch.Tensor, lengths: torch.Tensor, angles: torch.Tensor,
         diameters: torch.Tensor) -> torch.Tensor:
    """
    Blur each image by a disk that moves along a straight way; borders are mirrored.

    :param images: (B, 3, S, S) in [0, 1].
    :param lengths: (B,) of the way, as fractions of S. angles: (B,) of it to the rows [rad].
    :param diameters: (B,) of the disk, as fractions of S; 0 and a length of 0: unchanged.
    :return: (B, 3, S, S) in [0, 1].
    """
    side = images.shape[-1]
    most = (lengths + diameters).max().item() * side / 2 + 1
    border = min(math.ceil(most / STEP) * STEP, side - 1)
    size = side + 2 * border
    places = torch.fft.fftfreq(size, 1 / size, device=images.device)  # 0, 1 ... -2, -1 [px]
    x, y = places.view(1, 1, -1), places.view(1, -1, 1)
    half, radius = (value.view(-1, 1, 1) * side / 2 for value in (lengths, diameters))
    cosine, sine = angles.cos().view(-1, 1, 1), angles.sin().view(-1, 1, 1)
    beyond = ((x * cosine + y * sine).abs() - half).clamp(min=0)
    distance = torch.hypot(beyond, y * cosine - x * sine)
    kernel = (radius + 0.5 - distance).clamp(0, 1)  # (B, size, size)
    kernel = kernel / kernel.sum((1, 2), keepdim=True)
    wide = functional.pad(images, (border,) * 4, mode='reflect')
    seen = torch.fft.irfft2(torch.fft.rfft2(wide) * torch.fft.rfft2(kernel)[:, None],
                            s=(size, size))
    return seen[..., border:-border, border:-border].clamp(0, 1)
