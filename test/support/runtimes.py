"""Frames and prototypes to compare runtimes with."""

import numpy as np
import pytest
from support import shapes
import torch
from vl2v_ros.images.frame import Frame

CPU = torch.device('cpu')
TEMPERATURE = 0.07


def draw(label: str, width: int = 320, height: int = 240, seed: int = 0) -> Frame:
    return Frame(shapes.draw(label, width, height, np.random.default_rng(seed)))


def plain(colour: tuple[int, ...], order: str, height: int, width: int) -> Frame:
    return Frame(np.full((height, width, len(colour)), colour, np.uint8), order)


# Of several sizes, orders and strides, and far apart for any backbone.
FRAMES = [
    draw('red circle', 640, 480),
    Frame(draw('white star', 480, 640).pixels[..., ::-1].copy(), 'bgr'),
    Frame(draw('blue square', 300, 200).pixels[:, 20:280]),
    Frame(np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)),
    plain((250, 240, 30, 0), 'bgra', 97, 41),
    plain((5,), 'mono', 31, 57),
    plain((20, 220, 60), 'rgb', 1080, 1920),
]


def cosine_distances(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-3)
    return 1 - (rows.astype(np.float64) * others).sum(1)


def prototypes_of(embeddings: np.ndarray) -> np.ndarray:
    """
    Return unit rows of which row n is the one most similar to embedding n.

    What the embeddings have in common is left out, so that the similarities differ widely.
    """
    common = embeddings.mean(0) / np.linalg.norm(embeddings.mean(0))
    rows = embeddings - embeddings.mean(0)
    rows -= (rows @ common)[:, None] * common
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def random_unit_rows(count: int, width: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
