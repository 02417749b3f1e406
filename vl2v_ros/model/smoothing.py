"""Smoothing: labels that change only when what is seen does."""
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
import math
from typing import NamedTuple

import numpy as np
from vl2v_ros import frame_profile
from vl2v_ros.images.frame import Frame
from vl2v_ros.model.classifier import Classifier
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.model.runtime.matching import match_embeddings, Matches
from vl2v_ros.words.vocabulary import Vocabulary

FORGET = 5.0  # what was not seen for so many seconds, or times `smoothing`, is forgotten
MOST = 1000  # tracks that are kept; those that were not seen for longest go first
ALIKE = 0.8  # by measurement, see docs/steady.md


class Track(NamedTuple):
    """
    What one image is the newest of: a camera, or a box that a tracker follows.

    stamp: time of the image by its header [ns].
    arrival: time at which it came by a steady clock [ns].
    """

    key: Hashable
    stamp: int
    arrival: int


@dataclass
class _State:
    """
    What is known of a track.

    total: (D,) sum of its embeddings, each with the weight that it still has.
    odd: (D,) the last embedding, if it was left out of the sum.
    version, label, unknown: the last answer: of which vocabulary, the number of its first label
    there, and whether it was unknown; version None: there is none yet.
    """

    last: Track
    total: np.ndarray
    odd: np.ndarray | None = None
    version: int | None = None
    label: int = 0
    unknown: bool = False


class Smoother:
    """
    Labels images with regard to those before of the same track; not thread-safe.

    A track's embeddings are averaged with exponential forgetting: after `smoothing` [s], an
    image counts 1/e = 37 % of what it did. The time between images is that between their stamps;
    where the stamp is the same, as with a driver that sets none, that between their arrivals. A
    stamp before the last one (a bag starts again, a clock is set back), or long after it, starts
    the track anew.

    An image that is far from the average of many is left out: it may be a glitch. If the next one
    is far from it too, what is seen has changed, and the average starts anew with these two.

    A new vocabulary keeps the average, which does not depend on words.
    """

    def __init__(self, classifier: Classifier, alike: float = ALIKE) -> None:
        """
        Start with no tracks.

        :param alike: cosine with the average below which an image is taken for something else;
            -1: never.
        """
        self._classifier, self._alike = classifier, alike
        self._states: dict[Hashable, _State] = {}  # the one seen last is last

    def classify(self, frames: Sequence[Frame], tracks: Sequence[Track | None],
                 vocabulary: Vocabulary, top_k: int, unknown_threshold: float | None,
                 smoothing: float, hysteresis: float) -> list[Prediction]:
        """
        Label frames as one batch, see `Classifier.classify`.

        :param tracks: the track of each frame, no track twice; None: the frame stands alone.
        :param smoothing: time after which an image counts 1/e of what it did [s]; 0: not at all.
        :param hysteresis: in [0, 0.5). The first label stays until another one has more than 0.5
            + hysteresis of the probability that both have together. What is unknown stays so until
            unknown_score is below 0.5 - hysteresis.
        """
        if not smoothing and not hysteresis:
            self._states.clear()
            return self._classifier.classify(frames, vocabulary, top_k, unknown_threshold)
        if unknown_threshold is None:
            unknown_threshold = self._classifier.spec.unknown_threshold
        predictions = self.label(self._classifier.embed(frames), tracks, vocabulary, top_k,
                                 unknown_threshold, smoothing, hysteresis)
        frame_profile.mark('match')
        return predictions

    def label(self, rows: np.ndarray, tracks: Sequence[Track | None], vocabulary: Vocabulary,
              top_k: int, unknown_threshold: float, smoothing: float, hysteresis: float
              ) -> list[Prediction]:
        """Label (B, D) unit embeddings as `classify` does; their averages take their place."""
        alone = rows.copy()
        states = [None if track is None else self._average(track, row, smoothing)
                  for track, row in zip(tracks, rows, strict=True)]
        self._forget(_horizon(smoothing))
        temperature = self._classifier.spec.temperature
        matches = replace(match_embeddings(
            rows, vocabulary.prototypes, vocabulary.background_rows, top_k, temperature),
            embeddings=alone)
        margin = temperature * math.log((0.5 + hysteresis) / (0.5 - hysteresis))
        needed = np.maximum(matches.background.astype(np.float64), unknown_threshold)
        for number, state in enumerate(states):
            if state and state.version == vocabulary.version:
                held = float(rows[number] @ vocabulary.prototypes[state.label])
                _hold(matches, number, state.label, held, margin, needed[number])
                needed[number] += margin * state.unknown
        predictions = self._classifier.predictions(matches, vocabulary, needed)
        for number, (state, prediction) in enumerate(zip(states, predictions, strict=True)):
            if state:
                state.version, state.unknown = vocabulary.version, prediction.unknown
                state.label = int(matches.indices[number, 0])
        return predictions

    def _average(self, track: Track, row: np.ndarray, smoothing: float) -> _State:
        """Put the average of a track in place of its (D,) newest embedding."""
        state = self._states.pop(track.key, None)
        if state:
            passed = track.stamp - state.last.stamp or track.arrival - state.last.arrival
            if not 0 <= passed <= _horizon(smoothing):
                state = None
        if state:
            past = math.exp(-passed / 1e9 / smoothing) if smoothing else 0.0
            state.last = track
            state.total, state.odd = _added(row, past * state.total, past, state.odd, self._alike)
        else:
            state = _State(track, row.copy())
        self._states[track.key] = state
        row[:] = state.total / np.linalg.norm(state.total)
        return state

    def _forget(self, horizon: float) -> None:
        """Forget the tracks that were not seen for a time [ns], and those that are too many."""
        for key, state in list(self._states.items()):
            newest = next(reversed(self._states.values())).last.arrival
            if len(self._states) <= MOST and newest - state.last.arrival <= horizon:
                return
            del self._states[key]


def _added(row: np.ndarray, before: np.ndarray, past: float, odd: np.ndarray | None,
           alike: float) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Add an embedding to a sum, or leave it out for now.

    :param before: (D,) sum before.
    :param past: what the last embedding still counts, in [0, 1].
    :param odd: the last embedding, if it was left out.
    :param alike: see `Smoother`.
    :return: (D,) sum, and the embedding if it was left out.
    """
    weight = np.linalg.norm(before)
    if weight > 1 and row @ before < alike * weight:
        return (before, row.copy()) if odd is None else (row + past * odd, None)
    total = row + before
    if 1e-3 < np.linalg.norm(total) < np.inf:
        return total, None
    return row.copy(), None  # opposites, or no numbers


def _horizon(smoothing: float) -> float:
    """Return the time after which a track that was not seen is forgotten [ns]."""
    return max(1.0, smoothing) * FORGET * 1e9


def _hold(matches: Matches, row: int, label: int, similarity: float, margin: float,
          needed: float) -> None:
    """
    Put the label of the last answer first in a row, if the best one is not much better.

    Not if it would be unknown and the best one is not: that would hide the one that is known.
    """
    indices, similarities = matches.indices[row], matches.similarities[row]
    best = similarities[0]
    if indices[0] == label or best - similarity > margin or similarity < needed <= best:
        return
    place = int(np.append(np.flatnonzero(indices == label), len(indices) - 1)[0])
    indices[1:place + 1], similarities[1:place + 1] = (
        indices[:place].copy(), similarities[:place].copy())
    indices[0], similarities[0] = label, similarity
