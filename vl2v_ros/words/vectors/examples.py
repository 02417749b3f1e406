"""
Examples: what a label was taught by, and the prototype that they make with its text.

Images are much nearer to each other than to any text: to the shipped student a photo has a cosine
of 0.28 with its own name, and of 0.59 with a photo of anything else. A plain mean of examples
would therefore win against every text, for every image. So examples count on the scale of texts:
see `scale_of`.
"""
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
import math

import numpy as np

MOST_EXAMPLES = 10_000  # of a vocabulary: 20 MB at a width of 512
TEXT_WEIGHT = 0.75  # by measurement, see docs/teaching.md
# Times the cosine from which on most images are known: by measurement, see docs/teaching.md.
NEARER = 1.375


@dataclass(frozen=True, eq=False)
class Examples:
    """
    What a label was taught by.

    rows: (N, D) float32 unit rows, the embeddings of N images, at least one.
    text_weight: w in [0, 1]; the prototype is w times the text's and 1 - w times the examples'.
    """

    rows: np.ndarray
    text_weight: float = TEXT_WEIGHT

    def prototype(self, text: np.ndarray | None, scale: float) -> np.ndarray:
        """
        Return the (D,) prototype; its length is at most 1.

        :param text: (D,) prototype of the words; None: there is none, it counts 0.
        :param scale: see `scale_of`.
        """
        mean = self.rows.mean(0)
        shown = scale * mean / max(np.linalg.norm(mean), 1e-6)
        if text is None:
            return shown.astype(np.float32)
        return (self.text_weight * text + (1 - self.text_weight) * shown).astype(np.float32)


def scale_of(unknown_threshold: float) -> float:
    """
    Return how much a cosine with examples counts, in (0, 1], against one with texts.

    :param unknown_threshold: the student's cosine below which an image is unknown; it says how
        near images are to their names. For a student without one, both count the same.
    """
    return min(1.0, NEARER * unknown_threshold) if unknown_threshold > 0 else 1.0


def check_weight(weight: float) -> float:
    """Return the weight of a text; raises ValueError unless it is in [0, 1]."""
    if not isinstance(weight, (int, float)) or not 0 <= weight <= 1 or math.isnan(weight):
        raise ValueError(f'text_weight: expected 0.0 to 1.0, got {weight!r:.80}')
    return float(weight)


def mixed(texts: np.ndarray, labels: Iterable[str], examples: Mapping[str, Examples], scale: float
          ) -> np.ndarray:
    """
    Return the (C, D) prototypes of labels, with what they were taught by.

    :param texts: (C, D) prototypes of the words; zeros where there are none.
    """
    prototypes = texts.copy()
    for label, text, prototype in zip(labels, texts, prototypes, strict=True):
        if label in examples:
            prototype[:] = examples[label].prototype(text if text.any() else None, scale)
    return prototypes
