"""Prediction: what one frame shows; this module imports neither torch nor numpy."""
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Prediction:
    """
    What one frame shows.

    labels: the k most similar labels, best first.
    similarities: their cosines to the frame, in [-1, 1].
    scores: their probabilities in [0, 1]; those of all labels and background prompts add up to 1.
    unknown: whether no label fits: the best similarity is below the threshold or below that of a
    background prompt.
    unknown_score: in [0, 1]; at least 0.5 if unknown, at most 0.5 if not.
    vocabulary_version: version of the vocabulary that was used.
    embedding: (D,) float32 unit vector of this frame alone, also where labels are smoothed.
    """

    labels: tuple[str, ...]
    similarities: tuple[float, ...]
    scores: tuple[float, ...]
    unknown: bool
    unknown_score: float
    vocabulary_version: int
    embedding: 'np.ndarray | None' = field(default=None, compare=False, repr=False)

    def vector(self) -> 'np.ndarray':
        """Return the embedding of a prediction that a `Classifier` made."""
        assert self.embedding is not None, 'only a Classifier gives it'
        return self.embedding

    def reported(self, unknown_threshold: float, score_threshold: float
                 ) -> Iterator[tuple[str, float]]:
        """
        Yield label and score of the labels that reach both thresholds; none if unknown.

        :param unknown_threshold: cosine in [-1, 1] that each label needs.
        :param score_threshold: score in [0, 1] that each label needs.
        """
        for label, similarity, score in zip(self.labels, self.similarities, self.scores,
                                            strict=True):
            if not self.unknown and similarity >= unknown_threshold and score >= score_threshold:
                yield label, score
