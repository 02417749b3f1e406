"""Compare embeddings with prototypes on the CPU; and the protocol of all runtimes."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TYPE_CHECKING

import numpy as np
from vl2v_ros.images.frame import Frame

if TYPE_CHECKING:
    from vl2v_ros.model.checkpoint import StoredStudent
    from vl2v_ros.model.student import Student

STRIDE = 32  # largest stride of a backbone [px]; images for cells are multiples of it


@dataclass(frozen=True)
class Matches:
    """
    The k labels nearest to each of B frames.

    indices: (B, k) rows of the prototypes, best first.
    similarities: (B, k) float32 cosines.
    background: (B,) float32 cosine of the nearest background prompt; -1 where there is none.
    log_partition: (B,) float32 log of the sum over all labels and background prompts of
    exp(similarity / temperature), so that score = exp(similarity / temperature - log_partition).
    embeddings: (B, D) float32 unit rows of the frames.
    """

    indices: np.ndarray
    similarities: np.ndarray
    background: np.ndarray
    log_partition: np.ndarray
    embeddings: np.ndarray


class Runtime(Protocol):
    """Executes one student; not thread-safe."""

    description: str
    """Device, precision and engine, and why they were chosen."""

    at_once: int
    """Number of frames in a batch from which on more gain little."""

    def embed(self, frames: Sequence[Frame]) -> np.ndarray:
        """Return (B, D) float32 unit rows."""

    def match(self, frames: Sequence[Frame], prototypes: np.ndarray, background: np.ndarray,
              k: int, temperature: float) -> Matches:
        """Compare frames with (C, D) and (K, D) unit rows; K may be 0."""

    def open_cells(self, student: 'Student | StoredStudent') -> 'CellRuntime':
        """Prepare the same student's cells in the same way; raises ValueError if it has none."""


class CellRuntime(Protocol):
    """Executes the cells of one student; not thread-safe, but apart from its `Runtime`."""

    def __call__(self, frame: Frame, size: int) -> np.ndarray:
        """Return (h, w, D) float32 unit rows of a whole frame, its shorter side `size` px."""


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
    return Matches(best, top, nearest, np.log(parts) + highest / temperature, embeddings)


def _sum_of_exponentials(cosines: np.ndarray, highest: np.ndarray, temperature: float
                         ) -> np.ndarray:
    """Return (B,) sums of exp((cosine - highest) / temperature); overwrites the cosines."""
    cosines -= highest[:, None]
    cosines /= temperature
    return np.exp(cosines, out=cosines).sum(1)
