"""Prediction: what one frame shows; a leaf that needs neither torch nor numpy."""
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Prediction:
    """
    What one frame shows.

    labels: the k most similar, best first.
    similarities: their cosines to the frame, in [-1, 1].
    scores: their probabilities in [0, 1]; all labels and background prompts together give 1.
    unknown: whether no label is meant: the best similarity is below the threshold or below that
    of a background prompt.
    unknown_score: in [0, 1]; at least 0.5 if unknown, at most 0.5 if not.
    vocabulary_version: of the vocabulary all of this was made with.
    """

    labels: tuple[str, ...]
    similarities: tuple[float, ...]
    scores: tuple[float, ...]
    unknown: bool
    unknown_score: float
    vocabulary_version: int
