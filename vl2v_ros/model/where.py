"""Where: which labels an image shows, and in which boxes, found from its cells alone."""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
import math
from typing import NamedTuple

import cv2
import numpy as np
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.regions import Box, cut
from vl2v_ros.model.classifier import Classifier
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.model.runtime.matching import CellRuntime
from vl2v_ros.words.vocabulary import Vocabulary

# Chosen on the first halves of the photos and renders of docs/where.md.
TEMPERATURE = 0.02  # of the softmax over labels, at a cell and in a second look
COARSER = 2.8  # times by which the image is smaller in which things are looked for that are large
LEVELS = 0.3, 0.4  # of a label's highest value, where its coarse and its fine map are cut
LEAST = 0.15  # highest value that a label needs to be looked for, in [0, 1]
MOST_LABELS = 16  # labels that are looked for in an image; those with the highest values
MOST_BOXES = 32  # boxes that get a second look, which costs as much as an image each
NEAREST = 16  # labels between which a second look decides how sure it is
FINER = 4  # times as many pixels as cells along a side, where maps are cut into parts
SAME = 0.4  # overlap over union above which two boxes of a label are one
INSIDE = 0.7  # part of the smaller of two boxes of a label in the other, above which they are one


@dataclass(frozen=True)
class Found:
    """
    A box, and what a second look at its pixels has named; the label is that of the map.

    certainty: in [0, 1], by which boxes are sorted; less steep than the score.
    """

    box: Box
    prediction: Prediction
    certainty: float


class Maps(NamedTuple):
    """
    How much the cells of an image look like each label.

    coarse, fine: (h, w, C) float32 in [0, 1]: the softmax over labels and background prompts, of
    a smaller image, in which large things are found, and of the image.
    cosines: (C,) the highest cosine of a cell, mean of both.
    """

    coarse: np.ndarray
    fine: np.ndarray
    cosines: np.ndarray


class Proposed(NamedTuple):
    """
    A part of a map, before a second look.

    label: number of a label in the vocabulary.
    part: what the box shows, with a margin.
    """

    label: int
    box: Box
    part: Frame


class Where:
    """
    Finds labels in images; not thread-safe.

    Maps need the cells alone, so they may be made beside a classifier that is at work.
    """

    def __init__(self, classifier: Classifier, cells: CellRuntime) -> None:
        """Take a classifier and what its `open_cells` returned."""
        self._classifier, self._cells = classifier, cells

    def look(self, frame: Frame, size: int) -> list[np.ndarray]:
        """
        Return the (h, w, D) embeddings of the cells of a smaller image, and of the image.

        The first look compiles what is slow; any thread may take it, before all else.
        """
        return [self._cells(frame, side) for side in (round(size / COARSER), size)]

    def maps(self, frame: Frame, vocabulary: Vocabulary, size: int) -> Maps:
        """
        Compare each cell of a frame with all labels.

        :param size: the shorter side that the frame is resized to [px], see `resize_whole`; the
            smaller image has size / COARSER.
        """
        return maps_of(self.look(frame, size), vocabulary)

    def boxes(self, frame: Frame, maps: Maps, vocabulary: Vocabulary, margin: float,
              unknown_threshold: float | None = None) -> list[Found]:
        """
        Find boxes: connected parts of the maps that a second look calls by the same label.

        :param maps: what `maps` returned for the frame and the vocabulary.
        :param margin: of the second look, see `cut`.
        :param unknown_threshold: as for `Classifier.classify`.
        :return: the boxes, the surest first; those that overlap are of different labels.
        """
        proposed = propose(frame, maps, margin)
        return confirmed(proposed, self._classifier.classify(
            [one.part for one in proposed], vocabulary, 1, unknown_threshold
            ) if proposed else (), vocabulary)


def maps_of(cells: Sequence[np.ndarray], vocabulary: Vocabulary) -> Maps:
    """Return the maps of (h, w, D) embeddings of cells: of the smaller image, and of the image."""
    rows = np.concatenate([vocabulary.prototypes, vocabulary.background_rows])
    labels, shares, highest = len(vocabulary.labels), [], []
    for embedded in cells:
        similarities = embedded @ rows.T  # (h, w, C + K)
        highest.append(similarities[..., :labels].max((0, 1)))
        similarities -= similarities.max(2, keepdims=True)
        shared = np.exp(similarities / TEMPERATURE)
        shared /= shared.sum(2, keepdims=True)
        shares.append(shared[..., :labels])
    coarse, fine = shares
    return Maps(coarse, fine, np.mean(highest, axis=0))


def propose(frame: Frame, maps: Maps, margin: float) -> list[Proposed]:
    """
    Return the connected parts of the maps of a frame, cut out of it for a second look.

    :param margin: see `cut`.
    :return: at most MOST_BOXES, those with the highest values first.
    """
    height, width = frame.pixels.shape[:2]
    return [Proposed(label, box, cut(frame, box, margin, 0))
            for label, box in parts_of((maps.coarse, maps.fine), width, height)]


def parts_of(maps: Sequence[np.ndarray], width: int, height: int) -> list[tuple[int, Box]]:
    """
    Cut maps into connected parts.

    :param maps: (h, w, C) in [0, 1] each, coarse and fine. width, height: of the image [px].
    :return: label and box of each, at most MOST_BOXES, those with the highest values first.
    """
    found: dict[tuple[int, Box], float] = {}
    for one, level in zip(maps, LEVELS, strict=True):
        highest = one.max((0, 1))
        for label in np.argsort(-highest)[:MOST_LABELS].tolist():
            if highest[label] >= LEAST:
                for box, value in _parts(one[..., label], level, width, height):
                    found.setdefault((label, box), value)
    return sorted(found, key=lambda key: -found[key])[:MOST_BOXES]


def _parts(values: np.ndarray, level: float, width: int, height: int
           ) -> Iterator[tuple[Box, float]]:
    """Yield each part of a map above a level, as a box [px], and the highest value in it."""
    rows, columns = (FINER * side for side in values.shape)
    fine = cv2.resize(np.ascontiguousarray(values, np.float32), (columns, rows))
    _, parts, facts, _ = cv2.connectedComponentsWithStats(
        (fine >= level * fine.max()).astype(np.uint8))
    across, down = width / columns, height / rows
    for number, (left, top, wide, high, area) in enumerate(facts.tolist()):
        if number and area >= FINER * FINER:  # part 0 is what is below the level
            inside = slice(top, top + high), slice(left, left + wide)
            yield (Box((left + wide / 2) * across, (top + high / 2) * down, wide * across,
                       high * down), float(fine[inside][parts[inside] == number].max()))


def confirmed(proposed: Sequence[Proposed], predictions: Sequence[Prediction],
              vocabulary: Vocabulary) -> list[Found]:
    """
    Return the boxes that a second look calls by the label of their map, each thing once.

    :param predictions: what the part of each shows, by the vocabulary of the maps.
    :return: the surest first; those that overlap are of different labels.
    """
    return without_doubles([
        Found(one.box, prediction, certainty(np.sort(vocabulary.prototypes @ prediction.vector()
                                                     )[::-1][:NEAREST]))
        for one, prediction in zip(proposed, predictions, strict=True)
        if prediction.labels[0] == vocabulary.labels[one.label] and not prediction.unknown])


def certainty(similarities: Sequence[float] | np.ndarray) -> float:
    """Return the share of the first of some labels in their softmax, by their cosines."""
    first, *others = similarities
    return 1 / (1 + sum(math.exp((other - first) / TEMPERATURE) for other in others))


def without_doubles(found: Sequence[Found]) -> list[Found]:
    """Keep the surest of the boxes of a label that overlap; the surest first."""
    kept: list[Found] = []
    for one in sorted(found, key=lambda one: -one.certainty):
        if not any(one.prediction.labels[0] == other.prediction.labels[0]
                   and _are_one(one.box, other.box) for other in kept):
            kept.append(one)
    return kept


def overlap(one: Box, other: Box) -> float:
    """Return the area that two boxes that are not turned share [px ** 2]."""
    a, b = one.upright(), other.upright()
    sides = [min(a[end], b[end]) - max(a[end - 2], b[end - 2]) for end in (2, 3)]
    return max(sides[0], 0) * max(sides[1], 0)


def _are_one(one: Box, other: Box) -> bool:
    shared, areas = overlap(one, other), [box.width * box.height for box in (one, other)]
    return shared > SAME * (sum(areas) - shared) or shared > INSIDE * min(areas)
