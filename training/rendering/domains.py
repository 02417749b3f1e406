"""Domains: named settings of light, background, camera and sensor under which objects are seen."""
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np


@dataclass(frozen=True)
class Domain:
    """
    The look of a scene; pairs are ranges from which each image draws.

    description: text for the docs and dataset.json.
    key, fill: brightness of the lamp that casts shadows and of the light from everywhere, 0..1.
    shadows: whether the lamp casts shadows.
    textured: a patterned table instead of a plain one.
    distractors: number of other things around the object.
    elevation: elevation of the camera above the table [deg].
    sensor: (rgb, segment ids, rng) -> rgb, the effect of the camera; (H, W, 3) uint8.
    """

    description: str
    key: tuple[float, float]
    fill: tuple[float, float]
    shadows: bool
    textured: bool
    distractors: tuple[int, int]
    elevation: tuple[float, float] = (20.0, 75.0)
    sensor: Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray] = field(
        default=lambda rgb, ids, rng: rgb)


def exposure(rgb: np.ndarray, gain: np.ndarray | float, full_well: float, read_noise: float,
             rng: np.random.Generator) -> np.ndarray:
    """
    Expose a sensor to an image.

    :param gain: factor of the light, per channel or for all.
    :param full_well: number of photons of a white pixel; a smaller number makes more shot noise.
    :param read_noise: standard deviation, as a fraction of white.
    :return: (H, W, 3) uint8, gamma 2.2.
    """
    linear = np.power(rgb.astype(np.float32) / 255, 2.2) * np.asarray(gain, np.float32)
    noise = np.sqrt(linear / full_well + read_noise ** 2).astype(np.float32)
    linear += noise * rng.standard_normal(rgb.shape, np.float32)
    return (np.power(linear.clip(0, 1), 1 / 2.2) * 255 + 0.5).astype(np.uint8)


def daylight(rgb: np.ndarray, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vary white balance and exposure a little; hardly any noise."""
    return exposure(rgb, rng.uniform(0.85, 1.25) * rng.uniform(0.88, 1.12, 3), 4000, 0.004, rng)


def dim(rgb: np.ndarray, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Expose too little, with the noise of a high gain and the tint of a bulb."""
    tint = rng.uniform(0.3, 0.5) * np.array([1.15, 1.0, rng.uniform(0.5, 0.8)])
    return exposure(rgb, tint, rng.uniform(80, 200), rng.uniform(0.004, 0.01), rng)


def blur(rgb: np.ndarray, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move the camera during the exposure, or set its focus wrong."""
    side = rgb.shape[0] / 224
    if rng.random() < 0.5:
        length, angle = rng.uniform(8, 16) * side, rng.uniform(0, np.pi)
        reach = int(np.ceil(length / 2))
        kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
        step = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        first, last = (np.rint(16 * (reach + way * step)).astype(int).tolist() for way in (-1, 1))
        cv2.line(kernel, first, last, 1, lineType=cv2.LINE_AA, shift=4)
    else:
        radius = rng.uniform(2.5, 4.5) * side
        reach = int(radius) + 2
        distance = np.hypot(*np.mgrid[-reach:reach + 1, -reach:reach + 1])
        kernel = (radius + 0.5 - distance).clip(0, 1).astype(np.float32)
    seen = cv2.filter2D(rgb, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    return daylight(seen, ids, rng)


def toon(rgb: np.ndarray, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw as in a comic: few flat, strong colours, and black lines at edges."""
    flat = cv2.bilateralFilter(cv2.bilateralFilter(rgb, 7, 60, 5), 7, 60, 5)
    hsv = cv2.cvtColor(flat, cv2.COLOR_RGB2HSV).astype(np.float32)
    levels = int(rng.integers(4, 6))
    hsv[..., 2] = (np.rint(hsv[..., 2] / 255 * levels) / levels * 205 + 50)
    hsv[..., 1] = (np.rint((hsv[..., 1] * 1.6).clip(0, 255) / 255 * 4) / 4 * 255)
    hsv[..., 0] = np.rint(hsv[..., 0] / 10) * 10 % 180
    flat = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    lines = cv2.Canny(cv2.GaussianBlur(rgb, (0, 0), 1.2), 60, 140)
    outline = (cv2.morphologyEx(ids.astype(np.int16), cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0)
    flat[(lines > 0) | outline] = 0
    return flat


DOMAINS = {
    'studio': Domain(
        'plain light backdrop, soft light from everywhere, no shadows, clean sensor',
        key=(0.3, 0.5), fill=(0.5, 0.65), shadows=False, textured=False, distractors=(0, 0)),
    'tabletop': Domain(
        'patterned table, one lamp with hard shadows, other things around, slight sensor noise',
        key=(0.5, 0.9), fill=(0.15, 0.35), shadows=True, textured=True, distractors=(1, 3),
        sensor=daylight),
    'dim': Domain(
        'patterned table at night: underexposed, warm tint, strong shot and read noise',
        key=(0.4, 0.8), fill=(0.25, 0.4), shadows=True, textured=True, distractors=(0, 2),
        sensor=dim),
    'blur': Domain(
        'patterned table, the camera moves during the exposure or is out of focus',
        key=(0.5, 0.8), fill=(0.2, 0.4), shadows=True, textured=True, distractors=(0, 2),
        sensor=blur),
    'toon': Domain(
        'drawn: few flat, strong colours and black edges, no shadows',
        key=(0.2, 0.4), fill=(0.55, 0.7), shadows=False, textured=False, distractors=(0, 1),
        sensor=toon),
}


def pattern(rng: np.random.Generator, size: int) -> np.ndarray:
    """Make a tileable table pattern: wood, tiles, stripes, cloth or stone; (S, S, 3) uint8."""
    first, second = rng.integers(30, 226, 3), rng.integers(30, 226, 3)
    if rng.random() < 0.5:  # two shades of one colour are commoner than two colours
        second = (first * rng.uniform(0.55, 0.85)).astype(int)
    y, x = np.mgrid[:size, :size] / size
    smooth = [cv2.resize(rng.random((n, n), np.float32), (size, size),
                         interpolation=cv2.INTER_CUBIC) for n in (4, 16, 64)]
    cells = int(rng.integers(2, 7))
    kind = rng.integers(5)
    if kind == 0:  # wood
        mix = 0.5 + 0.5 * np.sin(2 * np.pi * (cells * 3 * x + 1.5 * smooth[0]))
    elif kind == 1:  # tiles
        mix = (np.floor(x * cells * 2) + np.floor(y * cells * 2)) % 2
    elif kind == 2:  # stripes
        mix = (np.floor((x + y * rng.integers(0, 2)) * cells * 4) % 2)
    elif kind == 3:  # cloth
        mix = 0.5 + 0.25 * (np.sin(2 * np.pi * 24 * x) + np.sin(2 * np.pi * 24 * y))
    else:  # stone
        mix = 0.5 * smooth[0] + 0.3 * smooth[1] + 0.2 * smooth[2]
    mix = (mix + 0.25 * (smooth[2] - 0.5)).clip(0, 1)[..., None]
    return (first * mix + second * (1 - mix)).astype(np.uint8)
