"""
Frames -> (B, 3, S, S) in [0, 1]: the only resize, for running, evaluation and training alike.

A frame is cropped to its centred square ('shortest', as CLIP does) or kept whole and stretched
('squash'), then reduced to S x S by the mean over each target pixel's area, or enlarged
bilinearly. The CPU does it on uint8 with OpenCV; elsewhere the same weights are two matrix
products, so both ways agree to the rounding of uint8.
"""
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from vl2v_ros.frame import Frame, RGB_CHANNELS

RESIZE_MODES = ('shortest', 'squash')  # the names open_clip uses

_TO_RGB = {'bgr': cv2.COLOR_BGR2RGB, 'rgba': cv2.COLOR_RGBA2RGB, 'bgra': cv2.COLOR_BGRA2RGB,
           'mono': cv2.COLOR_GRAY2RGB}


def crop(pixels: np.ndarray, resize_mode: str) -> np.ndarray:
    """Return the part of (H, W, C) pixels that the model sees, as a view."""
    if resize_mode == 'squash':
        return pixels
    assert resize_mode == 'shortest', resize_mode
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top:top + side, left:left + side]


def resize_on_cpu(frames: Sequence[Frame], size: int, resize_mode: str) -> np.ndarray:
    """Resize frames to one (B, S, S, 3) uint8 RGB batch; one resize each, no full-size copy."""
    batch = np.empty((len(frames), size, size, 3), np.uint8)
    for frame, target in zip(frames, batch):
        pixels = crop(frame.pixels, resize_mode)
        shrinks = min(pixels.shape[:2]) >= size
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        if frame.order == 'rgb':
            cv2.resize(pixels, (size, size), dst=target, interpolation=interpolation)
        else:
            small = cv2.resize(pixels, (size, size), interpolation=interpolation)
            cv2.cvtColor(small, _TO_RGB[frame.order], dst=target)
    return batch


def resize_on_device(frame: Frame, size: int, resize_mode: str, device: torch.device,
                     dtype: torch.dtype) -> torch.Tensor:
    """
    Upload one frame as uint8 and resize it there.

    :return: (3, S, S) RGB in [0, 1] on the device.
    """
    view = crop(frame.pixels, resize_mode)
    height, width, channels = view.shape
    # The one copy on the host: torch reuses pinned blocks once the upload from them is done.
    staged = torch.empty(view.shape, dtype=torch.uint8, pin_memory=device.type == 'cuda')
    staged.numpy()[:] = view  # by numpy: torch refuses what is reversed or read-only
    pixels = staged.to(device, non_blocking=True)
    shrinks = min(height, width) >= size
    rows = _resize_weights(height, size, shrinks, device, dtype)  # (S, H)
    columns = _resize_weights(width, size, shrinks, device, dtype)  # (S, W)
    # Rows first: the product runs over the image as it lies in memory, then only S rows remain.
    flat = pixels.to(dtype).view(height, width * channels)
    small = (rows @ flat).view(size, width, channels)  # (S, W, C)
    small = torch.einsum('rwc,sw->crs', small, columns)  # (C, S, S)
    return torch.stack([small[channel] for channel in RGB_CHANNELS[frame.order]]) / 255


@lru_cache(maxsize=64)  # two entries per camera resolution
def _resize_weights(source: int, target: int, shrinks: bool, device: torch.device,
                    dtype: torch.dtype) -> torch.Tensor:
    """Return the (target, source) matrix of OpenCV's INTER_AREA or INTER_LINEAR along one axis."""
    scale = source / target
    position = np.arange(source)
    if shrinks:  # overlap of source pixel [p, p + 1) with target pixel [t, t + 1) * scale
        start = np.arange(target)[:, None] * scale
        overlap = np.minimum(position + 1, start + scale) - np.maximum(position, start)
        weights = overlap.clip(0) / scale
    else:  # a triangle around the target pixel's centre, clamped at the border
        centre = ((np.arange(target)[:, None] + 0.5) * scale - 0.5).clip(0, source - 1)
        weights = (1 - np.abs(position - centre)).clip(0)
    return torch.from_numpy(weights).to(device, dtype)


def to_unit_range(batch: torch.Tensor) -> torch.Tensor:
    """Convert a (B, S, S, 3) uint8 batch to (B, 3, S, S) float32 in [0, 1]."""
    return batch.permute(0, 3, 1, 2).float() / 255


def preprocess(frames: Sequence[Frame], size: int, resize_mode: str) -> torch.Tensor:
    """
    Prepare frames on the CPU.

    :param frames: B frames of any size.
    :param size: side S of the model's input [px].
    :return: (B, 3, S, S) float32 RGB in [0, 1].
    """
    return to_unit_range(torch.from_numpy(resize_on_cpu(frames, size, resize_mode)))
