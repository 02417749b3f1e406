"""
Frames -> (B, 3, S, S) in [0, 1]: the one resize of the robot, of evaluation and of training.

A frame is cropped to its centred square ('shortest', as in CLIP), or kept whole and stretched
('squash'). A frame of at least twice the size S is halved, by the mean of 2 x 2 pixels, until it
is less than twice S; the last step to S is bilinear, as between the levels of an image pyramid. A
frame that was not halved is reduced by the mean over the area of each target pixel, or enlarged
bilinearly. (The mean over areas would suit all frames, but takes OpenCV several times as long.)

For models of open_clip there are the resizes of open_clip_resize.py, with modes of their own.

This module works on the CPU, on uint8; runtime/device_resize.py does the same on a GPU.
"""
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from vl2v_ros.images import open_clip_resize
from vl2v_ros.images.frame import Frame

if TYPE_CHECKING:  # a robot without a GPU starts without torch, see model/runtime/choose.py
    import torch

RESIZE_MODES = ('shortest', 'squash')  # the names open_clip uses

# OpenCV would share a resize among one thread per core, which gains nothing up to 3840x2160; after
# it they keep looking for more work for half a millisecond, and take the cores from the student.
cv2.setNumThreads(1)

MOST_ASPECT = 4.0  # of the sides of what `resize_whole` makes; a strip would cost without limit

_TO_RGB = {'bgr': cv2.COLOR_BGR2RGB, 'rgba': cv2.COLOR_RGBA2RGB, 'bgra': cv2.COLOR_BGRA2RGB,
           'mono': cv2.COLOR_GRAY2RGB}


def crop(pixels: np.ndarray, resize_mode: str) -> np.ndarray:
    """Return the part of (H, W, C) pixels that the model sees, as a view."""
    if resize_mode == 'squash' or resize_mode in open_clip_resize.MODES:
        return pixels  # of which the latter see a part, and a little beyond
    assert resize_mode == 'shortest', resize_mode
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top:top + side, left:left + side]


def plan(height: int, width: int, size: int) -> tuple[int, bool]:
    """Return how often pixels are halved, and whether the last step is a mean over areas."""
    count = 0
    while min(height, width) >= 2 * size and height % 2 == width % 2 == 0:
        height, width, count = height // 2, width // 2, count + 1
    halved = count > 0 and max(height, width) < 2 * size
    return count, min(height, width) >= size and not halved


def resize_on_cpu(frames: Sequence[Frame], size: int, resize_mode: str,
                  batch: np.ndarray | None = None) -> np.ndarray:
    """
    Resize frames to one (B, S, S, 3) uint8 RGB batch, without a copy at full size.

    :param batch: memory for the result; None: new memory.
    """
    if batch is None:
        batch = np.empty((len(frames), size, size, 3), np.uint8)
    for frame, target in zip(frames, batch, strict=True):
        if resize_mode in open_clip_resize.MODES:
            _to_rgb(open_clip_resize.resize(frame.pixels, size, resize_mode), frame.order, target)
            continue
        pixels = crop(frame.pixels, resize_mode)
        count, by_areas = plan(pixels.shape[0], pixels.shape[1], size)
        for _ in range(count):
            pixels = cv2.resize(pixels, (pixels.shape[1] // 2, pixels.shape[0] // 2),
                                interpolation=cv2.INTER_AREA)
        interpolation = cv2.INTER_AREA if by_areas else cv2.INTER_LINEAR
        if frame.order == 'rgb':
            cv2.resize(pixels, (size, size), dst=target, interpolation=interpolation)
        else:
            small = cv2.resize(pixels, (size, size), interpolation=interpolation)
            cv2.cvtColor(small, _TO_RGB[frame.order], dst=target)
    return batch


def _to_rgb(small: np.ndarray, order: str, target: np.ndarray) -> None:
    """Write (S, S, C) pixels without alpha into (S, S, 3) RGB."""
    target[:] = small[..., ::-1] if order.startswith('bgr') else small


def resize_whole(frame: Frame, size: int, step: int, resize_mode: str) -> np.ndarray:
    """
    Resize a whole frame, without a crop, for a student that looks at each of its cells.

    :param size: the shorter side of the result [px]; the longer one keeps the aspect of the
        frame, up to MOST_ASPECT, unless the student sees all frames stretched to squares.
    :param step: both sides of the result are multiples of it [px], at least one.
    :return: (H', W', 3) uint8 RGB.
    """
    height, width = frame.pixels.shape[:2]
    short = min(height, width)
    sides = [min(side / short, MOST_ASPECT) if resize_mode.startswith('shortest') else 1.0
             for side in (width, height)]
    wide, high = (max(1, round(side * size / step)) * step for side in sides)
    by_areas = wide <= width and high <= height
    small = cv2.resize(frame.pixels, (wide, high),
                       interpolation=cv2.INTER_AREA if by_areas else cv2.INTER_LINEAR)
    return small if frame.order == 'rgb' else cv2.cvtColor(small, _TO_RGB[frame.order])


def to_unit_range(batch: 'torch.Tensor') -> 'torch.Tensor':
    """Convert a (B, S, S, 3) uint8 batch to (B, 3, S, S) float32 in [0, 1]."""
    return batch.permute(0, 3, 1, 2).float() / 255


def preprocess(frames: Sequence[Frame], size: int, resize_mode: str) -> 'torch.Tensor':
    """
    Prepare frames on the CPU.

    :param frames: B frames of any size.
    :param size: side S of the model's input [px].
    :return: (B, 3, S, S) float32 RGB in [0, 1].
    """
    import torch
    return to_unit_range(torch.from_numpy(resize_on_cpu(frames, size, resize_mode)))
