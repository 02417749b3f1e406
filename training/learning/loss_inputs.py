"""What the terms of a loss are computed from: a batch of images, and what is known of them."""
from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Recalled:
    """
    What a backbone knew of a batch before it was distilled, see memory.py.

    scores: (B, K) probabilities of the classes it tells apart.
    prototypes: (K, D) of these.
    stand_ins: (M, D) embeddings of features that stand in for images; M may be 0.
    stand_in_scores: (M, K).
    """

    scores: Tensor
    prototypes: Tensor
    stand_ins: Tensor
    stand_in_scores: Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """
    What the terms are computed from; a term says if it misses something.

    labels: (B,) int64, columns of prototypes and of logits.
    student: (B, D) embeddings of the student.
    teacher: (B, D) embeddings of the teacher, without gradient.
    prototypes: (C, D).
    logits: (B, C) of a closed-set linear head; cls and kd use them instead of similarities.
    captions: (B, D) text embeddings of a caption of each image.
    told: (B,) bool on the CPU, the images whose `teacher` row is one; None: all.
    named: (B,) bool on the CPU, the images whose label is one; None: all.
    memory: what the backbone knew before.
    """

    labels: Tensor
    student: Tensor
    teacher: Tensor | None = None
    prototypes: Tensor | None = None
    logits: Tensor | None = None
    captions: Tensor | None = None
    told: Tensor | None = None
    named: Tensor | None = None
    memory: Recalled | None = None

    def __post_init__(self) -> None:
        """Check that the shapes fit together."""
        count, width = self.student.shape
        assert self.labels.shape == (count,), self.labels.shape
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
        """Return the images of some (T,) int64 rows, all of which count as told and named."""
        rows = rows.to(self.labels.device)
        return replace(self, told=None, named=None, **{
            name: value[rows] for name in ('labels', 'student', 'teacher', 'logits', 'captions')
            if (value := getattr(self, name)) is not None})
