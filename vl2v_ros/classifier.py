"""Classifier: frames and a vocabulary -> predictions."""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from vl2v_ros.frame import Frame
from vl2v_ros.runtime import create
from vl2v_ros.student import Student
from vl2v_ros.vocabulary import Vocabulary


@dataclass(frozen=True)
class Prediction:
    """
    What one frame shows.

    labels: the k most similar, best first.
    similarities: their cosines to the frame, in [-1, 1].
    scores: their probabilities in [0, 1]; all labels of the vocabulary together give 1.
    unknown: whether the best similarity is below the threshold, so that no label is meant.
    unknown_score: in [0, 1]; 0.5 at the threshold.
    vocabulary_version: of the vocabulary all of this was made with.
    """

    labels: tuple[str, ...]
    similarities: tuple[float, ...]
    scores: tuple[float, ...]
    unknown: bool
    unknown_score: float
    vocabulary_version: int


class Classifier:
    """One student, ready to run; not thread-safe, because its runtime is not."""

    def __init__(self, student: Student, device: str = 'auto', half: bool = True) -> None:
        """Prepare the student on a device, see `runtime.create`; raises ValueError."""
        self.spec = student.spec
        self.runtime = create(student, device, half)

    def classify(self, frames: Sequence[Frame], vocabulary: Vocabulary, top_k: int = 5,
                 unknown_threshold: float | None = None) -> list[Prediction]:
        """
        Name what frames show, as one batch.

        The predict stage of VL2V-ADiP: the most similar text prototype wins.

        :param top_k: how many labels a prediction holds, at least 1.
        :param unknown_threshold: cosine in [-1, 1]; by default the student's own.
        """
        if unknown_threshold is None:
            unknown_threshold = self.spec.unknown_threshold
        temperature = self.spec.temperature
        matches = self.runtime.match(frames, vocabulary.prototypes, top_k, temperature)
        scores = np.exp(matches.similarities / temperature - matches.log_partition[:, None])
        best = matches.similarities[:, 0]
        # The logistic function, written so that nothing overflows far from the threshold.
        unknown_scores = (1 - np.tanh((best - unknown_threshold) / (2 * temperature))) / 2
        return [
            Prediction(tuple(vocabulary.labels[index] for index in indices), tuple(similarities),
                       tuple(row), similarities[0] < unknown_threshold, unknown_score,
                       vocabulary.version)
            for indices, similarities, row, unknown_score in zip(
                matches.indices.tolist(), matches.similarities.tolist(), scores.tolist(),
                unknown_scores.tolist())]
