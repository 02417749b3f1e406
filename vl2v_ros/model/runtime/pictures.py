"""Drawn pictures, the same on every machine: to compare what two ways to run a student make."""
import cv2
import numpy as np


def pictures(size: int) -> np.ndarray:
    """
    Return pictures of different kinds, (N, S, S, 3) uint8: scenes, a ramp, a board.

    They are the same at each call.
    """
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 255, size, dtype=np.float32)
    board = np.indices((size, size)).sum(0) // max(1, size // 14) % 2 * 255.0
    drawn = [scene(size, rng) for _ in range(6)]
    drawn += [np.dstack([ramp[:, None] + 0 * ramp, 0 * ramp[:, None] + ramp, 0 * board + 128]),
              np.dstack([board] * 3)]
    return np.stack(drawn).clip(0, 255).astype(np.uint8)


def scene(size: int, rng: np.random.Generator) -> np.ndarray:
    """Return (S, S, 3): smooth shades with a few coloured bodies and a sensor's noise."""
    shades = rng.uniform(60, 200, (3, 3, 3)).astype(np.float32)
    picture: np.ndarray = cv2.resize(shades, (size, size), interpolation=cv2.INTER_CUBIC)
    for _ in range(4):
        middle, axes = rng.integers(0, size, 2), rng.integers(1, max(2, size // 3), 2)
        cv2.ellipse(picture, middle.tolist(), axes.tolist(), rng.uniform(0, 180), 0, 360,
                    rng.uniform(0, 255, 3).tolist(), cv2.FILLED, cv2.LINE_AA)
    return picture + rng.normal(0, 4, picture.shape)
