"""What a hand-held camera sees of a photo: it moves, shakes, blurs, adapts and is noisy."""
from collections.abc import Iterator

import cv2
import numpy as np

ZOOM = 1.05, 1.7  # how near the view comes; at 1 it is as wide or as high as the photo
TURN = 0.7  # time from one aim of the camera to the next [s]
SHAKE = 0.005  # deviation of the hand's tremor, in widths of the view
EXPOSURE = 0.5  # part of the time between two frames in which the shutter is open
BRIGHTNESS = 0.25  # deviation of the logarithm of the gain
SOFT = 3.0  # blur where the focus is lost, which it is for 16 % of the time [px]
NOISE = 3.0, 12.0  # range of the deviation of the noise; one value per photo


def moved(photo: np.ndarray, size: tuple[int, int], frames: int, rate: float,
          rng: np.random.Generator) -> Iterator[np.ndarray]:
    """
    Yield (H, W, 3) uint8 views of an (H, W, 3) uint8 photo.

    :param size: W and H of the views [px].
    :param rate: views per second [Hz].
    """
    height, width = photo.shape[:2]
    least = max(size[0] / width, size[1] / height)  # pixels of the view per pixel of the photo
    zooms = least * np.exp(_path(rng, frames, rate, *np.log(ZOOM)))
    across, down = _path(rng, frames, rate, 0.1, 0.9), _path(rng, frames, rate, 0.1, 0.9)
    shake = [SHAKE * size[0] * _wander(rng, frames, rate, 8) for _ in range(2)]  # [px]
    lefts = across * (width - size[0] / zooms) + shake[0] / zooms  # [px of the photo]
    tops = down * (height - size[1] / zooms) + shake[1] / zooms
    gains = np.exp(BRIGHTNESS * _wander(rng, frames, rate, 0.1))
    soft = SOFT * (_wander(rng, frames, rate, 1) - 1)  # 0 and less is sharp [px]
    noise = rng.uniform(*NOISE)
    speeds = np.gradient(np.stack([lefts, tops]), axis=1) * zooms * EXPOSURE  # [px of the view]
    for zoom, left, top, gain, blur, (x, y) in zip(zooms, lefts, tops, gains, soft, speeds.T,
                                                   strict=True):
        matrix = np.array([[zoom, 0, -left * zoom], [0, zoom, -top * zoom]])
        view = cv2.warpAffine(photo, matrix, size, flags=cv2.INTER_LINEAR,
                              borderMode=cv2.BORDER_REPLICATE)
        if max(abs(x), abs(y)) > 1:
            view = cv2.filter2D(view, -1, _streak(x, y))
        if blur > 0.3:
            view = cv2.GaussianBlur(view, (0, 0), blur)
        grain = rng.standard_normal(view.shape, np.float32)
        yield (gain * view + noise * grain).clip(0, 255).astype(np.uint8)


def _path(rng: np.random.Generator, frames: int, rate: float, low: float, high: float
          ) -> np.ndarray:
    """Return (N,) values that go smoothly from one random aim to the next."""
    turns = np.arange(frames) / rate / TURN
    aims = rng.uniform(low, high, int(turns[-1]) + 2)
    number = turns.astype(int)
    part = (1 - np.cos(np.pi * (turns - number))) / 2
    return aims[number] + part * (aims[number + 1] - aims[number])


def _wander(rng: np.random.Generator, frames: int, rate: float, fast: float) -> np.ndarray:
    """Return (N,) values around 0 of deviation 1 that wander `fast` times a second."""
    keep = np.exp(-2 * np.pi * fast / rate)
    values = rng.standard_normal(frames)
    for number in range(1, frames):
        values[number] = keep * values[number - 1] + np.sqrt(1 - keep ** 2) * values[number]
    return values


def _streak(x: float, y: float) -> np.ndarray:
    """Return the kernel of a motion by x and y [px] while the shutter is open."""
    half = int(np.ceil(max(abs(x), abs(y)) / 2))
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    for part in np.linspace(-0.5, 0.5, 4 * half + 1):
        kernel[half + round(part * y), half + round(part * x)] += 1
    return kernel / kernel.sum()
