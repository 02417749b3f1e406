"""Classifier: frames and a vocabulary -> predictions."""
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from vl2v_ros import frame_profile
from vl2v_ros.images.frame import Frame
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.model.runtime.choose import create
from vl2v_ros.model.runtime.matching import CellRuntime, Matches
from vl2v_ros.words.vocabulary import Vocabulary

if TYPE_CHECKING:
    from vl2v_ros.model.checkpoint import StoredStudent
    from vl2v_ros.model.student import Student


class Classifier:
    """One student, ready to run; not thread-safe, because its runtime is not."""

    def __init__(self, student: 'Student | StoredStudent', device: str = 'auto', half: bool = True
                 ) -> None:
        """Prepare the student on a device, see runtime/choose.py; raises ValueError."""
        self.spec = student.spec
        self.runtime = create(student, device, half)
        self._student = student

    def open_cells(self) -> CellRuntime:
        """
        Prepare what embeds each cell of an image; takes seconds, and any thread may do it.

        :raises ValueError: for a student without cells, such as a transformer.
        """
        return self.runtime.open_cells(self._student)

    def embed(self, frames: Sequence[Frame]) -> np.ndarray:
        """Return the (B, D) float32 unit embeddings of B frames."""
        return self.runtime.embed(frames)

    def classify(self, frames: Sequence[Frame], vocabulary: Vocabulary, top_k: int = 5,
                 unknown_threshold: float | None = None) -> list[Prediction]:
        """
        Label frames as one batch: the most similar prototype wins (as in VL2V-ADiP).

        :param top_k: number of labels in a prediction, at least 1.
        :param unknown_threshold: cosine in [-1, 1]; by default that of the checkpoint.
        """
        if unknown_threshold is None:
            unknown_threshold = self.spec.unknown_threshold
        matches = self.runtime.match(frames, vocabulary.prototypes, vocabulary.background_rows,
                                     top_k, self.spec.temperature)
        # float64 holds the threshold exactly.
        needed = np.maximum(matches.background.astype(np.float64), unknown_threshold)
        predictions = self.predictions(matches, vocabulary, needed)
        frame_profile.mark('match')
        return predictions

    def predictions(self, matches: Matches, vocabulary: Vocabulary, needed: np.ndarray
                    ) -> list[Prediction]:
        """
        Return what B matches say.

        :param needed: (B,) float64 cosines that the first labels have to reach to be known.
        """
        temperature = self.spec.temperature
        scores = np.exp(matches.similarities / temperature - matches.log_partition[:, None])
        lacking = needed - matches.similarities[:, 0]
        lacking[np.isnan(lacking)] = np.inf  # what is no number is nothing that is known
        # The logistic function, written so that nothing overflows far from its middle. Against a
        # background prompt it is the softmax over that and the best label.
        unknown_scores = (1 + np.tanh(lacking / (2 * temperature))) / 2
        return [
            Prediction(tuple(vocabulary.labels[index] for index in indices), tuple(similarities),
                       tuple(row), unknown, unknown_score, vocabulary.version, embedding)
            for indices, similarities, row, unknown, unknown_score, embedding in zip(
                matches.indices.tolist(), matches.similarities.tolist(), scores.tolist(),
                (lacking > 0).tolist(), unknown_scores.tolist(), matches.embeddings,
                strict=True)]
