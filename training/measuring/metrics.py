"""
The measures of a student: tensors in, numbers out.

Similarities are cosines of unit rows, (N, C) for N images and C labels. If several labels have the
best similarity, the first of them counts. Sums are in float64.
"""
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc


class Bin(NamedTuple):
    """Images of similar confidence; confidence and accuracy are in [0, 1], 0 where size is 0."""

    confidence: float
    accuracy: float
    size: int


class UnknownDetection(NamedTuple):
    """
    How well the best similarity separates known from unknown images.

    auroc: how often it is higher for a known image than for an unknown one; ties count half.
    fpr95: part of the unknown images that reach the threshold.
    threshold: the highest similarity that at least 95 % of the known images reach.
    """

    auroc: float
    fpr95: float
    threshold: float


def accuracy(similarities: Tensor, labels: Tensor) -> float:
    """
    Return the accuracy: how often the most similar label is the true one, in [0, 1].

    :param similarities: (N, C); scores or logits are valid too.
    :param labels: (N,) int64, numbers of columns.
    """
    return _right(similarities, labels).mean().item()


def restricted(similarities: Tensor, labels: Tensor, columns: Sequence[int] | Tensor) -> float:
    """
    Return the accuracy when only some labels can be chosen, in [0, 1].

    :param similarities: (N, C).
    :param labels: (N,) int64, numbers in the full list.
    :param columns: numbers of the labels to choose from.
    :raises ValueError: for an image whose label is not among them.
    """
    columns = torch.as_tensor(columns, device=labels.device)
    outside = labels[~torch.isin(labels, columns)]
    if len(outside):
        raise ValueError(f'expected labels among the columns {columns.tolist()}, got '
                         f'{outside.unique().tolist()}; leave these images out')
    assert similarities.shape[:1] == labels.shape, (similarities.shape, labels.shape)
    _not_empty(similarities)
    chosen = columns[similarities[:, columns].argmax(dim=1)]
    return (chosen == labels).double().mean().item()


def vl_alignment(student: Tensor, teacher: Tensor, k: int) -> float:
    """
    Return M_vlalign(k) of Li, Fang et al. (ICCV 2023): pairs of labels in the wrong order.

    Among the teacher's k nearest labels of an image, it counts the pairs that the student has in
    the opposite order, at most k (k - 1) / 2; mean over images. Equal similarities have no order.

    :param student, teacher: (N, C) similarities.
    :raises ValueError: unless k is of 1 to C.
    """
    assert student.shape == teacher.shape, (student.shape, teacher.shape)
    _not_empty(student)
    if not 1 <= k <= student.shape[1]:
        raise ValueError(f'k: expected 1 to {student.shape[1]}, the number of labels, got {k!r}')
    nearest, columns = teacher.sort(dim=1, descending=True, stable=True)
    nearest = nearest[:, :k]  # (N, k), falling
    same = student.gather(1, columns[:, :k])  # (N, k)
    turned = torch.zeros(len(student), dtype=torch.int64, device=student.device)
    for first in range(k - 1):  # not all pairs at once: (N, k, k) can be large
        turned += ((nearest[:, first:first + 1] > nearest[:, first + 1:])
                   & (same[:, first:first + 1] < same[:, first + 1:])).sum(dim=1)
    return turned.double().mean().item()


def feature_distance(student: Tensor, teacher: Tensor) -> tuple[float, float]:
    """
    Return how far (N, D) unit rows are from the teacher's.

    :return: mean over images of the squared distance, summed over D, in [0, 4]; mean angle [deg].
    """
    assert student.shape == teacher.shape, (student.shape, teacher.shape)
    _not_empty(student)
    student, teacher = student.double(), teacher.double()
    apart, along = (student - teacher).norm(dim=1), (student + teacher).norm(dim=1)
    # The arc cosine loses half of the digits where rows are nearly equal.
    angle = torch.rad2deg(2 * torch.atan2(apart, along))
    return apart.square().mean().item(), angle.mean().item()


def calibration(scores: Tensor, labels: Tensor, bins: int = 15) -> tuple[float, list[Bin]]:
    """
    Return the expected calibration error (Guo et al., 2017) and the bins of its diagram.

    Images are sorted by their best score into equally wide bins; the lower edge belongs to a bin,
    and 1 to the last. (torchmetrics gives a score of exactly 1 a bin of its own, which counts
    differently as soon as float32 rounds scores to 1.)

    :param scores: (N, C), probabilities.
    :param labels: (N,) int64.
    :return: error in [0, 1]: the mean of |accuracy - confidence| over images; the bins, rising.
    """
    right = _right(scores, labels)  # (N,)
    confidence = scores.double().amax(dim=1)
    if not 0 <= confidence.min() <= confidence.max() <= 1 + 1e-5:
        raise ValueError(f'scores: expected probabilities in [0, 1], got best ones of '
                         f'{confidence.min():.4g} to {confidence.max():.4g}; apply a softmax')
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=scores.device)
    where = torch.bucketize(confidence, edges[1:-1].contiguous(), right=True)  # (N,)
    count = torch.bincount(where, minlength=bins)
    confidences = torch.bincount(where, confidence, minlength=bins)
    rights = torch.bincount(where, right, minlength=bins)
    error = (rights - confidences).abs().sum().item() / len(labels)
    size = count.clamp(min=1)
    return error, [Bin(*row) for row in zip(
        (confidences / size).tolist(), (rights / size).tolist(), count.tolist(), strict=True)]


def unknown_detection(best_known: Tensor, best_unknown: Tensor) -> UnknownDetection:
    """
    Measure how well the best similarity separates known from unknown images.

    :param best_known: (N,) best cosines of images that show one of the labels.
    :param best_unknown: (M,) best cosines of images that show none of them.
    :raises ValueError: if there is no known or no unknown image.
    """
    assert best_known.ndim == best_unknown.ndim == 1, (best_known.shape, best_unknown.shape)
    if not len(best_known) or not len(best_unknown):
        raise ValueError(f'expected known and unknown images, got {len(best_known)} and '
                         f'{len(best_unknown)}')
    best = torch.cat([best_known, best_unknown]).double()
    known = torch.arange(len(best), device=best.device) < len(best_known)
    # torchmetrics takes cosines for logits; its logistic function keeps their order in float64.
    auroc = binary_auroc(best, known.long()).item()
    keep = -(-95 * len(best_known) // 100)  # 95 % of them, rounded up, in whole numbers
    threshold = best_known.double().sort(descending=True).values[keep - 1]
    fpr = (best_unknown.double() >= threshold).double().mean().item()
    return UnknownDetection(auroc, fpr, threshold.item())


def fit_temperature(similarities: Tensor, labels: Tensor, least: float = 1e-3, most: float = 1.0
                    ) -> float:
    """
    Return the temperature with which the scores softmax(similarity / temperature) fit best.

    The negative log-likelihood is convex in 1 / temperature. Bisection finds the zero of its
    slope, the mean of E[similarity] - similarity of the true label.

    :param similarities: (N, C).
    :param labels: (N,) int64.
    :param least, most: the range; its end is returned if the best temperature is beyond it.
    """
    assert similarities.shape[:1] == labels.shape, (similarities.shape, labels.shape)
    _not_empty(similarities)
    similarities = similarities.double()
    ahead = similarities - similarities.gather(1, labels[:, None])  # (N, C), of the true label

    def slope(inverse: float) -> float:
        return (torch.softmax(inverse * ahead, dim=1) * ahead).sum(dim=1).mean().item()

    low, high = 1 / most, 1 / least
    if slope(high) < 0:
        return least
    for _ in range(40):  # of at most 10 octaves, that is about 1e-11
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / low


def prototype_spread(prototypes: Tensor, count: int = 10) -> tuple[float, list[float]]:
    """
    Return how well labels are apart in text space (Li, Fang et al., table 6 and figure 4).

    :param prototypes: (C, D) unit rows.
    :param count: number of eigenvalues; there are never more than C or D.
    :return: mean cosine of two different prototypes, lower is better; the largest eigenvalues of
        W W^T / C, falling. All eigenvalues add up to 1, so they show how many directions are used.
    :raises ValueError: for fewer than two prototypes.
    """
    size = len(prototypes)
    if size < 2:
        raise ValueError(f'expected at least two prototypes, got {size}')
    prototypes = prototypes.double()
    # All products of two rows are those of the sum with itself.
    squares = prototypes.square().sum()
    cosine = (prototypes.sum(dim=0).square().sum() - squares) / (size * (size - 1))
    eigenvalues = torch.linalg.svdvals(prototypes).square() / size
    return cosine.item(), eigenvalues[:count].tolist()


def presence(scores: Tensor, truth: Tensor, columns: Sequence[int] | Tensor,
             threshold: float = 0.5) -> tuple[float, float]:
    """
    Compare the objects that are predicted in scenes with those that are present.

    These are the two numbers of the robot experiment of Li, Fang et al. Each object in each scene
    is one decision. F1 is 2 TP / (2 TP + FP + FN), and 1 if no object is present or predicted.

    :param scores: (N, C) of presence, in [0, 1]; an object is predicted from the threshold on.
    :param truth: (N, C) bool.
    :param columns: numbers of the objects that are looked at.
    :return: accuracy over the objects, F1 over the objects present; both in [0, 1].
    :raises ValueError: if there is no scene or no object.
    """
    assert scores.shape == truth.shape, (scores.shape, truth.shape)
    assert truth.dtype == torch.bool, truth.dtype
    columns = torch.as_tensor(columns, dtype=torch.int64, device=scores.device)
    claimed, truth = scores[:, columns] >= threshold, truth[:, columns]
    _not_empty(claimed)
    found, wrong = (claimed & truth).sum().item(), (claimed != truth).sum().item()
    f1 = 2 * found / (2 * found + wrong) if found or wrong else 1.0
    return 1 - wrong / truth.numel(), f1


def _right(similarities: Tensor, labels: Tensor) -> Tensor:
    """Return 1 for each image whose best column is its label, else 0; (N,) float64."""
    assert similarities.shape[:1] == labels.shape, (similarities.shape, labels.shape)
    _not_empty(similarities)
    return (similarities.argmax(dim=1) == labels).double()


def _not_empty(rows: Tensor) -> None:
    assert rows.ndim == 2, rows.shape
    if not rows.numel():
        raise ValueError(f'expected at least one image and one label, got {tuple(rows.shape)}; '
                         'a mean over none is no number')
