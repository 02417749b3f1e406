"""Classifier: frames and a vocabulary -> predictions."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from vl2v_ros import stages
from vl2v_ros.frame import Frame
from vl2v_ros.runtime import create
from vl2v_ros.vocabulary import Vocabulary

if TYPE_CHECKING:
    from vl2v_ros.checkpoint import Stored
    from vl2v_ros.student import Student


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


class Classifier:
    """One student, ready to run; not thread-safe, because its runtime is not."""

    def __init__(self, student: 'Student | Stored', device: str = 'auto', half: bool = True
                 ) -> None:
        """Prepare the student on a device, see `runtime.create`; raises ValueError."""
        self.spec = student.spec
        self.runtime = create(student, device, half)

    def embed(self, frames: Sequence[Frame]) -> np.ndarray:
        """Return (B, D) float32 unit rows, for what needs more of frames than their labels."""
        return self.runtime.embed(frames)

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
        matches = self.runtime.match(frames, vocabulary.prototypes, vocabulary.background_rows,
                                     top_k, temperature)
        scores = np.exp(matches.similarities / temperature - matches.log_partition[:, None])
        # What the best label has to reach; float64, which holds the threshold as it is.
        needed = np.maximum(matches.background.astype(np.float64), unknown_threshold)
        lacking = needed - matches.similarities[:, 0]
        # The logistic function, written so that nothing overflows far from its middle. Against a
        # background prompt it is the softmax over that and the best label.
        unknown_scores = (1 + np.tanh(lacking / (2 * temperature))) / 2
        predictions = [
            Prediction(tuple(vocabulary.labels[index] for index in indices), tuple(similarities),
                       tuple(row), unknown, unknown_score, vocabulary.version)
            for indices, similarities, row, unknown, unknown_score in zip(
                matches.indices.tolist(), matches.similarities.tolist(), scores.tolist(),
                (lacking > 0).tolist(), unknown_scores.tolist())]
        stages.mark('match')
        return predictions
