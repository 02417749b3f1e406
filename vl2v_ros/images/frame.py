"""Frame: a view of camera pixels and the order of their channels, without copy and without ROS."""
from dataclasses import dataclass

import numpy as np

# What each channel order becomes as RGB: the source channel of red, green and blue.
RGB_CHANNELS = {
    'rgb': (0, 1, 2),
    'bgr': (2, 1, 0),
    'rgba': (0, 1, 2),
    'bgra': (2, 1, 0),
    'mono': (0, 0, 0),
}
CHANNELS = {'rgb': 3, 'bgr': 3, 'rgba': 4, 'bgra': 4, 'mono': 1}

# Larger frames are refused before anything is allocated: 8192 x 8192, above any camera in use on
# robots, and 200 MB as rgb8.
MAX_PIXELS = 8192 * 8192

BLANK = 'expected an image that shows something, got one of one colour; is the lens covered?'
PROBES = 64  # along a side, by which an image is judged to be blank
CONTRAST = 8  # between the darkest and the brightest 1 % of a channel that shows something


def check_size(width: int, height: int) -> None:
    """
    Refuse sizes [px] that are no image or larger than MAX_PIXELS.

    :raises ValueError: with the size that came and the limit.
    """
    if width <= 0 or height <= 0:
        raise ValueError(f'expected an image of at least 1 x 1 px, got {width} x {height}; '
                         'check the camera driver')
    if width * height > MAX_PIXELS:
        raise ValueError(f'expected at most {MAX_PIXELS} px (8192 x 8192), got {width} x {height};'
                         ' lower the resolution of the camera')


@dataclass(frozen=True)
class Frame:
    """
    Pixels as a camera delivered them.

    pixels: (H, W, C) uint8, any row stride, values 0..255; a view, so the owner of the memory
    must not write to it while the frame is in use.
    order: a key of RGB_CHANNELS.
    """

    pixels: np.ndarray
    order: str = 'rgb'

    def __post_init__(self) -> None:
        """Check shape, type and order; raises ValueError that says what came."""
        if self.order not in CHANNELS:
            raise ValueError(f'expected a channel order of {sorted(CHANNELS)}, got {self.order!r}')
        shape, channels = self.pixels.shape, CHANNELS[self.order]
        if self.pixels.dtype != np.uint8 or len(shape) != 3 or shape[2] != channels:
            raise ValueError(f'expected (H, W, {channels}) uint8 for {self.order!r}, '
                             f'got {shape} {self.pixels.dtype}')
        check_size(shape[1], shape[0])

    def is_blank(self) -> bool:
        """Return whether it shows nothing: all but 1 % of it has nearly one colour."""
        height, width = self.pixels.shape[:2]
        probes = self.pixels[::max(1, height // PROBES), ::max(1, width // PROBES)]
        dark, bright = np.percentile(probes.reshape(-1, probes.shape[2]), (1, 99), axis=0)
        return bool((bright - dark).max() < CONTRAST)


def to_rgb(frame: Frame) -> np.ndarray:
    """Return the frame as a new (H, W, 3) uint8 RGB array."""
    return np.ascontiguousarray(frame.pixels[..., RGB_CHANNELS[frame.order]])
