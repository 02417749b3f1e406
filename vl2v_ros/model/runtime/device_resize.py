"""
The resize of preprocess.py on a GPU, as two matrix products with the same weights.

The results differ only by the rounding to uint8; Pillow also rounds between its two steps.
"""
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import groupby

import numpy as np
import torch
from vl2v_ros import frame_profile
from vl2v_ros.images import open_clip_resize
from vl2v_ros.images.frame import CHANNELS, Frame, RGB_CHANNELS
from vl2v_ros.images.preprocess import crop, plan


class DeviceResize:
    """
    Frames in host memory -> images on a device; reuses its memory.

    On the host, the part of each frame that the model sees is copied once, into pinned memory.
    On the device, consecutive frames of one size are resized together by two matrix products:
    first rows, then columns with the colour order and the division by 255.

    In float16 the result is within 4 * 2 ** -11, half a level of uint8, of the exact mean: each
    product rounds its weights and its result by at most 2 ** -11, and sums in float32.
    """

    def __init__(self, size: int, resize_mode: str, device: torch.device, dtype: torch.dtype
                 ) -> None:
        """:param size: side S of the model's input [px]."""
        self._size, self._mode, self._device, self._dtype = size, resize_mode, device, dtype
        self._staging = torch.empty(0, dtype=torch.uint8)  # of all frames of one call
        self._weights = lru_cache(maxsize=16)(  # one entry per kind of camera
            partial(_device_weights, size, resize_mode, device, dtype))

    def __call__(self, frames: Sequence[Frame], images: torch.Tensor | None = None
                 ) -> torch.Tensor:
        """
        Resize B frames of any size; does not wait for the device.

        The next call overwrites the staging memory, so the caller has to wait for the device
        before it.

        :param images: memory for the result; None: new memory.
        :return: (B, 3, S, S) RGB in [0, 1] on the device, channels-last.
        """
        size, views = self._size, [crop(frame.pixels, self._mode) for frame in frames]
        if images is None:
            images = torch.empty(len(views), 3, size, size, device=self._device,
                                 dtype=self._dtype, memory_format=torch.channels_last)
        results = images.permute(0, 2, 3, 1).view(len(views) * size, size * 3)
        needed = sum(view.size for view in views)
        if len(self._staging) < needed:
            self._staging = torch.empty(needed, dtype=torch.uint8,
                                        pin_memory=self._device.type == 'cuda')
        kinds = [(view.shape, frame.order) for view, frame in zip(views, frames, strict=True)]
        start = first = 0
        for (shape, order), group in groupby(kinds):
            last = first + len(list(group))
            pixels = torch.empty(last - first, *shape, dtype=torch.uint8, device=self._device)
            for view, uploaded in zip(views[first:last], pixels, strict=True):
                staged = self._staging[start:start + view.size].view(shape)
                np.copyto(staged.numpy(), view)  # torch refuses what is reversed or read-only
                uploaded.copy_(staged, non_blocking=True)
                start += view.size
            rows, columns = self._weights(*shape[:2], order)
            mark('upload', self._device)
            # Rows first: the product runs over the pixels as they lie in memory.
            small = torch.bmm(rows.expand(last - first, -1, -1),
                              pixels.to(self._dtype).flatten(2))  # (B, S, W * C)
            torch.mm(small.flatten(0, 1), columns, out=results[first * size:last * size])
            if self._mode.endswith('bicubic'):  # which overshoots at edges
                results[first * size:last * size].clamp_(0, 1)
            mark('resize', self._device)
            first = last
        return images


def mark(stage: str, device: torch.device) -> None:
    """End a stage; waits for the device only if a recorder measures."""
    if frame_profile.recorder:
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        frame_profile.mark(stage)


def _device_weights(size: int, mode: str, device: torch.device, dtype: torch.dtype, height: int,
                    width: int, order: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (S, H), and (W * C, S * 3), which also orders the colours and divides by 255."""
    if mode in open_clip_resize.MODES:
        matrices = [open_clip_resize.weights(side, other, size, mode)
                    for side, other in ((height, width), (width, height))]
    else:
        count, by_areas = plan(height, width, size)
        matrices = [_resize_weights(side, size, by_areas, count) for side in (height, width)]
    rows, columns = (torch.from_numpy(matrix).to(device, torch.float32) for matrix in matrices)
    colours = torch.zeros(CHANNELS[order], 3)
    colours[RGB_CHANNELS[order], range(3)] = 1 / 255
    columns = torch.kron(columns.T.contiguous(), colours.to(device))
    return rows.to(dtype), columns.to(dtype)


def _resize_weights(source: int, target: int, by_areas: bool, halved: int
                    ) -> np.ndarray:
    """
    Return the (target, source) matrix of OpenCV's INTER_AREA or INTER_LINEAR along one axis.

    :param halved: how often the source is halved before.
    """
    if halved:
        return np.repeat(_resize_weights(source >> halved, target, by_areas, 0), 2**halved, 1
                         ) / 2**halved
    scale = source / target
    position = np.arange(source)
    if by_areas:  # overlap of source pixel [p, p + 1) with target pixel [t, t + 1) * scale
        start = np.arange(target)[:, None] * scale
        overlap = np.minimum(position + 1, start + scale) - np.maximum(position, start)
        return overlap.clip(0) / scale
    # A triangle around the target pixel's centre, clamped at the border.
    centre = ((np.arange(target)[:, None] + 0.5) * scale - 0.5).clip(0, source - 1)
    return (1 - np.abs(position - centre)).clip(0)
