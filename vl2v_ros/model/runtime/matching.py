"""Compare embeddings with prototypes on the CPU; and the protocol of all runtimes."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from vl2v_ros.images.frame import Frame


@dataclass(frozen=True)
class Matches:
    """
    The k labels nearest to each of B frames.

    indices: (B, k) rows of the prototypes, best first.
    similarities: (B, k) float32 cosines.
    background: (B,) float32 cosine of the nearest background prompt; -1 where there is none.
    log_partition: (B,) float32 log of the sum over all labels and background prompts of
    exp(similarity / temperature), so that score = exp(similarity / temperature - log_partition).
    """

    indices: np.ndarray
    similarities: np.ndarray
    background: np.ndarray
    log_partition: np.ndarray


class Runtime(Protocol):
    """Executes one student; not thread-safe."""

    description: str
    """Device, precision and engine, and why they were chosen."""

    def embed(self, frames: Sequence[Frame]) -> np.ndarray:
        """Return (B, D) float32 unit rows."""

    def match(self, frames: Sequence[Frame], prototypes: np.ndarray, background: np.ndarray,
              k: int, temperature: float) -> Matches:
        """Compare frames with (C, D) and (K, D) unit rows; K may be 0."""


def check_numbers(rows: np.ndarray) -> None:
    """Raise ValueError if a student makes embeddings that are no numbers."""
    if not np.isfinite(rows).all():
        raise ValueError('student: expected embeddings that are numbers, got NaN or infinity; its '
                         'training diverged, or its file is damaged: take another checkpoint')


def match_embeddings(embeddings: np.ndarray, prototypes: np.ndarray, background: np.ndarray,
                     k: int, temperature: float) -> Matches:
    """Compare (B, D) with (C, D) and (K, D) unit rows, on the CPU; K may be 0."""
    similarities = embeddings @ prototypes.T  # (B, C)
    labels = len(prototypes)
    k = min(k, labels)
    # Only the k best are sorted, where they are few among many.
    frames = np.arange(len(similarities))[:, None]
    if labels > 64:
        best = np.argpartition(similarities, labels - k, axis=1)[:, labels - k:]
        best = best[frames, similarities[frames, best].argsort(axis=1)[:, ::-1]]
    else:
        best = similarities.argsort(axis=1)[:, :-k - 1:-1]
    top = similarities[frames, best]  # (B, k)
    highest, nearest = top[:, 0], np.full(len(frames), -1, np.float32)
    if len(background):
        elsewhere = embeddings @ background.T  # (B, K)
        nearest = elsewhere.max(1)
        highest = np.maximum(highest, nearest)
    parts = _sum_of_exponentials(similarities, highest, temperature)
    if len(background):
        parts += _sum_of_exponentials(elsewhere, highest, temperature)
    return Matches(best, top, nearest, np.log(parts) + highest / temperature)


def _sum_of_exponentials(cosines: np.ndarray, highest: np.ndarray, temperature: float
                         ) -> np.ndarray:
    """Return (B,) sums of exp((cosine - highest) / temperature); overwrites the cosines."""
    cosines -= highest[:, None]
    cosines /= temperature
    return np.exp(cosines, out=cosines).sum(1)
