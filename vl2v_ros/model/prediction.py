"""Prediction: what one frame shows; a leaf that needs neither torch nor numpy."""
from collections.abc import Iterator
from dataclasses import dataclass


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

    def reported(self, unknown_threshold: float, score_threshold: float
                 ) -> Iterator[tuple[str, float]]:
        """
        Yield label and score of what a classification reports; nothing if it is unknown.

        :param unknown_threshold: cosine in [-1, 1] that each label needs.
        :param score_threshold: score in [0, 1] that each label needs.
        """
        for label, similarity, score in zip(self.labels, self.similarities, self.scores,
                                            strict=True):
            if not self.unknown and similarity >= unknown_threshold and score >= score_threshold:
                yield label, score
