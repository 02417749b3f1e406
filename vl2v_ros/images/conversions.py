"""
Convert raw images whose bytes are not RGB or grey pixels of 8 bits: Bayer, YUV, 16 bits, depth.

OpenCV converts the colours, as in cv_bridge: YUV is BT.601 of limited range, 16 bits are divided
by 257. Depth and heat images (16UC1, 32FC1) become grey, from their smallest value (black) to
their largest (white); pixels without a value (0 in 16UC1, not finite in 32FC1) are black.
"""
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Conversion:
    """
    How the bytes of an encoding become (H, W, 3) RGB or (H, W, 1) grey, uint8.

    row: bytes per pixel of a row of the message.
    convert: receives contiguous rows without padding, as (H, W, C) of the type `values`.
    values: numpy type of the values.
    channels: C.
    planes: rows of the message per row of the image; colours may follow the brightness.
    even: which of 'width' and 'height' must be even.
    """

    row: int
    convert: Callable[[np.ndarray], np.ndarray]
    values: str = 'u1'
    channels: int = 1
    planes: float = 1
    even: tuple[str, ...] = ()


def _by(code: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: cv2.cvtColor(pixels, code)


def _by_16_bits(code: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: _eight_bits(cv2.cvtColor(pixels, code))


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    return cv2.convertScaleAbs(pixels, alpha=255 / 65535).reshape(pixels.shape)


def _colours_of(order: tuple[int, int, int]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: _eight_bits(pixels)[..., order]


def _stretched(pixels: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return (H, W, 1) uint8: values from their smallest, 0, to their largest, 255."""
    if not there.any():
        return np.zeros(pixels.shape, np.uint8)
    known = pixels[there].astype(np.float64)
    least, span = known.min(), np.ptp(known) or 1.0
    grey = np.zeros(pixels.shape, np.uint8)
    grey[there] = np.round((known - least) * (255 / span))
    return grey


def _nv24(pixels: np.ndarray) -> np.ndarray:
    """Convert Y, and then U and V side by side, all of full size; OpenCV has no code for it."""
    height = len(pixels) // 3
    brightness, colours = pixels[:height], pixels[height:].reshape(height, -1, 2)
    return cv2.transform(np.concatenate([brightness, colours], axis=2), LIMITED)


LIMITED = np.array([  # BT.601 of limited range: (Y, U, V, 1) -> red, green, blue
    [1.164, 0.0, 1.596, -1.164 * 16 - 1.596 * 128],
    [1.164, -0.391, -0.813, -1.164 * 16 + (0.391 + 0.813) * 128],
    [1.164, 2.018, 0.0, -1.164 * 16 - 2.018 * 128]])
# OpenCV names a pattern by its second row's second and third pixel, ROS by its first two of both.
BAYER = {'rggb': cv2.COLOR_BayerBG2RGB, 'bggr': cv2.COLOR_BayerRG2RGB,
         'gbrg': cv2.COLOR_BayerGR2RGB, 'grbg': cv2.COLOR_BayerGB2RGB}
UYVY, YUYV = (Conversion(2, _by(code), channels=2, even=('width',))
              for code in (cv2.COLOR_YUV2RGB_UYVY, cv2.COLOR_YUV2RGB_YUY2))
NV12, NV21 = (Conversion(1, _by(code), planes=1.5, even=('width', 'height'))
              for code in (cv2.COLOR_YUV2RGB_NV12, cv2.COLOR_YUV2RGB_NV21))
CONVERSIONS = {
    **{f'bayer_{order}8': Conversion(1, _by(code)) for order, code in BAYER.items()},
    **{f'bayer_{order}16': Conversion(2, _by_16_bits(code), 'u2')
       for order, code in BAYER.items()},
    'mono16': Conversion(2, _eight_bits, 'u2'),
    '16UC1': Conversion(2, lambda pixels: _stretched(pixels, pixels > 0), 'u2'),
    '32FC1': Conversion(4, lambda pixels: _stretched(pixels, np.isfinite(pixels)), 'f4'),
    'rgb16': Conversion(6, _colours_of((0, 1, 2)), 'u2', 3),
    'bgr16': Conversion(6, _colours_of((2, 1, 0)), 'u2', 3),
    'rgba16': Conversion(8, _colours_of((0, 1, 2)), 'u2', 4),
    'bgra16': Conversion(8, _colours_of((2, 1, 0)), 'u2', 4),
    'yuv422': UYVY, 'uyvy': UYVY, 'yuv422_yuy2': YUYV, 'yuyv': YUYV,
    'nv12': NV12, 'nv21': NV21, 'nv24': Conversion(1, _nv24, planes=3)}
