"""
The resize of open_clip's models, as torchvision does it with Pillow.

'shortest bicubic' resizes a frame until its shorter side is S, and takes the centred square;
'squash bicubic' stretches it. Pillow's filters cover all pixels that a target pixel stands for.
They take longer than the resize of preprocess.py, which OpenCV does, but a model that was trained
with them gets what it knows.
"""
import numpy as np
from PIL import Image

FILTERS = {'bilinear': Image.Resampling.BILINEAR, 'bicubic': Image.Resampling.BICUBIC}
SUPPORT = {'bilinear': 1.0, 'bicubic': 2.0}  # of a filter, to each side [target px]
MODES = tuple(f'{part} {kind}' for part in ('shortest', 'squash') for kind in FILTERS)


def resize(pixels: np.ndarray, size: int, mode: str) -> np.ndarray:
    """
    Resize one frame.

    :param pixels: (H, W, C) uint8; of four channels the first three are used.
    :param mode: one of MODES.
    :return: (S, S, C) uint8, C at most 3.
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels[..., :3])
    (high, top), (wide, left) = (_target(side, other, size, mode)
                                 for side, other in (pixels.shape[:2], pixels.shape[1::-1]))
    if image.size != (wide, high):
        image = image.resize((wide, high), FILTERS[mode.split()[1]])
    whole = np.asarray(image).reshape(high, wide, -1)
    return whole[top:top + size, left:left + size]


def _target(side: int, other: int, size: int, mode: str) -> tuple[int, int]:
    """Return one side of the whole frame, once resized, and where its centred part starts."""
    long = size if mode.startswith('squash') else max(size, int(size * side / other))
    return long, round((long - size) / 2)  # as torchvision rounds them


def weights(side: int, other: int, size: int, mode: str) -> np.ndarray:
    """Return the (S, side) matrix that resizes one side of a frame; each row adds up to 1."""
    long, start = _target(side, other, size, mode)
    kind, step = mode.split()[1], side / long
    centres = (start + np.arange(size)[:, None] + 0.5) * step
    away = np.abs(np.arange(side) + 0.5 - centres) / max(step, 1.0)  # (S, side) [target px]
    if kind == 'bilinear':
        parts = 1 - away
    else:  # Keys' cubic with a = -0.5
        parts = np.where(away < 1, (1.5 * away - 2.5) * away**2 + 1,
                         ((-0.5 * away + 2.5) * away - 4) * away + 2)
    parts = np.where(away < SUPPORT[kind], parts, 0)
    result: np.ndarray = parts / parts.sum(1, keepdims=True)
    return result
