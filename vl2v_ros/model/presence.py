"""Presence: which labels are in an image of many things, each by itself."""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from vl2v_ros.model.where import Maps, TEMPERATURE

LEAST = 1e-6  # of a map's value, and of what it lacks to 1, so that its logit is finite


@dataclass(frozen=True)
class Present:
    """
    Whether a label is in an image.

    probability: in [0, 1]; labels do not compete.
    place: where it is most likely, if it is there, (x, y) [px]; None: that is not known.
    """

    label: str
    probability: float
    place: tuple[float, float] | None


def by_prompts(row: np.ndarray, pairs: np.ndarray, temperature: float) -> np.ndarray:
    """
    Return the presence that a student was trained for (paper B's robot experiment).

    :param row: (D,) unit embedding of the image.
    :param pairs: (2, C, D) prototypes of labels that are present, and absent.
    :param temperature: of the softmax over both.
    :return: (C,) in [0, 1].
    """
    # The softmax over two, written so that nothing overflows.
    return (1 + np.tanh((pairs[0] - pairs[1]) @ row / (2 * temperature))) / 2


def by_maps(maps: Maps, line: Sequence[float]) -> np.ndarray:
    """
    Return the presence that maps tell of.

    :param line: see StudentSpec.presence_line.
    :return: (C,) in [0, 1].
    """
    return told(evidence(maps), line)


def evidence(maps: Maps) -> np.ndarray:
    """Return (C, 2) of each label: logit of the highest value of both maps, and cosine over T."""
    highest = np.maximum(maps.coarse.max((0, 1)), maps.fine.max((0, 1)))
    return np.stack([logit(highest), maps.cosines / TEMPERATURE], 1)


def told(found: np.ndarray, line: Sequence[float]) -> np.ndarray:
    """Return the logistic function of a * logit + b * cosine / T + c (after Platt, 1999)."""
    *slopes, offset = line
    return (1 + np.tanh((found @ np.array(slopes) + offset) / 2)) / 2


def logit(values: np.ndarray) -> np.ndarray:
    """Return log(v / (1 - v)) in float64, of values in [0, 1]."""
    inside = np.clip(values.astype(np.float64), LEAST, 1 - LEAST)
    return np.log(inside) - np.log1p(-inside)


def places(maps: np.ndarray, width: int, height: int) -> list[tuple[float, float]]:
    """
    Return the middle of the cell in which each label has its highest value [px].

    :param maps: (h, w, C). width, height: of the image [px].
    """
    rows, columns, labels = maps.shape
    down, across = np.unravel_index(maps.reshape(-1, labels).argmax(0), (rows, columns))
    return list(zip(((across + 0.5) / columns * width).tolist(),
                    ((down + 0.5) / rows * height).tolist(), strict=True))


def ordered(labels: Sequence[str], probabilities: np.ndarray,
            found: Sequence[tuple[float, float]] | None) -> list[Present]:
    """Return all labels, the most probable first; `found`: their places, if they are known."""
    return [Present(labels[number], float(probabilities[number]),
                    found[number] if found else None)
            for number in np.argsort(-probabilities, kind='stable').tolist()]
