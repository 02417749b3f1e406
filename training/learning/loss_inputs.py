"""The inputs of the loss terms: a batch of images with embeddings, labels and prototypes."""
from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Recalled:
    """
    The outputs of a backbone's own classifier for a batch, see memory.py.

    scores: (B, K) probabilities of its K classes.
    prototypes: (K, D) of these classes.
    stand_ins: (M, D) embeddings of features made up for images of these classes; M may be 0.
    stand_in_scores: (M, K) probabilities for these features.
    """

    scores: Tensor
    prototypes: Tensor
    stand_ins: Tensor
    stand_in_scores: Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """
    The inputs of the loss terms; a term raises ValueError if a field that it needs is None.

    labels: (B,) int64, columns of prototypes and of logits; for scenes (B, C) bool, the labels
    present.
    student: (B, D) embeddings of the student.
    teacher: (B, D) embeddings of the teacher, without gradient.
    prototypes: (C, D).
    absent: (C, D), for scenes, of prompts that a label is not in the image.
    logits: (B, C) of a closed-set linear head; cls and kd use them instead of similarities.
    captions: (B, D) text embeddings of a caption of each image.
    told: (B,) bool on the CPU, the images with a valid row in `teacher`; None: all.
    named: (B,) bool on the CPU, the images with a valid label; None: all.
    memory: outputs of the backbone's own classifier.
    """

    labels: Tensor
    student: Tensor
    teacher: Tensor | None = None
    prototypes: Tensor | None = None
    absent: Tensor | None = None
    logits: Tensor | None = None
    captions: Tensor | None = None
    told: Tensor | None = None
    named: Tensor | None = None
    memory: Recalled | None = None

    def __post_init__(self) -> None:
        """Check that the shapes fit together."""
        count, width = self.student.shape
        assert self.labels.shape[:1] == (count,) and self.labels.ndim <= 2, self.labels.shape
        for rows in (self.teacher, self.captions):
            assert rows is None or rows.shape == (count, width), rows.shape
        assert self.prototypes is None or self.prototypes.shape[1:] == (width,), (
            self.prototypes.shape)
        assert self.logits is None or self.logits.shape[:1] == (count,), self.logits.shape
        assert self.logits is None or self.prototypes is None or (
            self.logits.shape[1] == len(self.prototypes)), (
            self.logits.shape, self.prototypes.shape)
        assert self.teacher is None or not self.teacher.requires_grad, 'the teacher is frozen'

    def take(self, rows: Tensor) -> 'Batch':
        """Return the batch of some (T,) int64 rows, with `told` and `named` as None."""
        rows = rows.to(self.labels.device)
        return replace(self, told=None, named=None, **{
            name: value[rows] for name in ('labels', 'student', 'teacher', 'logits', 'captions')
            if (value := getattr(self, name)) is not None})
