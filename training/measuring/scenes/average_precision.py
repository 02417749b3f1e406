"""Mean average precision of boxes, as PASCAL VOC 2010 and COCO define it, at one overlap."""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Boxed:
    """A label in a box; corners: left, top, right, bottom [px]; score: of what was found."""

    label: str
    corners: tuple[float, ...]
    score: float = 1.0


def overlaps(some: Sequence[Boxed], others: Sequence[Boxed]) -> np.ndarray:
    """Return the (N, M) overlaps over unions of boxes, in [0, 1]."""
    a = np.array([one.corners for one in some], float).reshape(-1, 1, 4)
    b = np.array([one.corners for one in others], float).reshape(1, -1, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared: np.ndarray = sides.clip(0).prod(2)
    areas = [(one[..., 2:] - one[..., :2]).prod(2) for one in (a, b)]
    return shared / (areas[0] + areas[1] - shared)


def mean_average_precision(
        answers: Sequence[Sequence[Boxed]],
        truth: Sequence[tuple[Sequence[Boxed], Sequence[Boxed]]],
        chosen: Sequence[int] | np.ndarray | None = None, overlap: float = 0.5) -> float:
    """
    Return the mean over labels of the area below precision over recall, in [0, 1].

    :param answers: what was found, per image.
    :param truth: per image what has to be found, and what may be found but counts as nothing.
    :param chosen: numbers of images, also several times the same; by default each once.
    :param overlap: overlap over union that a box needs.
    """
    chosen = range(len(answers)) if chosen is None else chosen
    labels = {one.label for image in chosen for one in truth[image][0]}
    return float(np.mean([_of_label(label, answers, truth, chosen, overlap) for label in labels]))


def _of_label(label: str, answers: Sequence[Sequence[Boxed]],
              truth: Sequence[tuple[Sequence[Boxed], Sequence[Boxed]]],
              chosen: Sequence[int] | np.ndarray, overlap: float) -> float:
    judged: list[tuple[float, bool]] = []  # score, whether it is right
    wanted = 0
    for image in chosen:
        objects, others = ([one for one in part if one.label == label] for part in truth[image])
        found = sorted((one for one in answers[image] if one.label == label),
                       key=lambda one: -one.score)
        wanted += len(objects)
        free = set(range(len(objects)))
        shared, apart = overlaps(found, objects), overlaps(found, others)
        for row, one in enumerate(found):
            best = max(free, key=lambda place: shared[row, place], default=None)
            if best is not None and shared[row, best] >= overlap:
                free.remove(best)
                judged.append((one.score, True))
            elif apart[row].max(initial=0) < overlap:
                judged.append((one.score, False))
    if not judged:
        return 0.0
    right = np.cumsum([one for _, one in sorted(judged, key=lambda pair: -pair[0])])
    precision = right / np.arange(1, len(right) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(right, prepend=0) * precision).sum() / wanted)
