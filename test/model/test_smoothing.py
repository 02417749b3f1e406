"""Smoothing: averages of known embeddings, time, and labels that hold on."""
from collections.abc import Sequence
import math
from pathlib import Path

import numpy as np
import pytest
from support.tiny_models import given
from vl2v_ros.images.frame import Frame
from vl2v_ros.model import checkpoint
from vl2v_ros.model.classifier import Classifier
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.model.smoothing import MOST, Smoother, Track
from vl2v_ros.words.vocabulary import Vocabulary

SECOND = 1_000_000_000
E = np.eye(4, dtype=np.float32)
WORDS = given({'a': E[0], 'b': E[1], 'c': E[2]})


@pytest.fixture(scope='module')
def classifier(shapes_student: Path) -> Classifier:
    return Classifier(checkpoint.load(shapes_student), 'cpu')


@pytest.fixture
def smoother(classifier: Classifier) -> Smoother:
    return Smoother(classifier)


def unit(*values: float) -> np.ndarray:
    row = np.array([*values, *[0] * (4 - len(values))], np.float32)
    return row / np.linalg.norm(row)


def see(smoother: Smoother, row: np.ndarray, stamp: float, arrival: float | None = None,
        key: str = 'camera', smoothing: float = 0.5, hysteresis: float = 0.0, top_k: int = 3,
        words: Vocabulary = WORDS, threshold: float = -1.0) -> tuple[np.ndarray, Prediction]:
    """Show one embedding; return the average in its place, and what is said."""
    rows = row[None].copy()
    track = Track(key, round(stamp * SECOND), round(
        (stamp if arrival is None else arrival) * SECOND))
    prediction, = smoother.label(rows, [track], words, top_k, threshold, smoothing, hysteresis)
    return rows[0], prediction


def test_an_embedding_counts_1_over_e_after_the_time(smoother: Smoother) -> None:
    assert see(smoother, E[0], 7.0)[0] == pytest.approx(E[0])  # nothing before it
    average, prediction = see(smoother, E[1], 7.5)
    assert average == pytest.approx(unit(1 / math.e, 1))
    assert prediction.vector() == pytest.approx(E[1])
    assert see(smoother, E[2], 7.6)[0] == pytest.approx(
        unit(math.exp(-1.2), math.exp(-0.2), 1), abs=1e-6)


def test_without_smoothing_each_embedding_stands_alone(smoother: Smoother) -> None:
    see(smoother, E[0], 7.0, smoothing=0, hysteresis=0.2)
    assert see(smoother, E[1], 7.01, smoothing=0, hysteresis=0.2)[0] == pytest.approx(E[1])


def test_time_is_that_of_arrival_where_stamps_stand_still(smoother: Smoother) -> None:
    see(smoother, E[0], 0, arrival=100)
    assert see(smoother, E[1], 0, arrival=100.5)[0] == pytest.approx(unit(1 / math.e, 1))
    assert see(smoother, E[1], 1, arrival=100.5)[0][0] < 0.1  # a stamp that rises counts


@pytest.mark.parametrize('stamp', [6.99, 0, 1e9])
def test_a_jump_in_time_starts_anew(smoother: Smoother, stamp: float) -> None:
    see(smoother, E[0], 7.0, hysteresis=0.4)
    row, prediction = see(smoother, unit(1, 1.01), stamp, arrival=7.1, hysteresis=0.4)
    assert row == pytest.approx(unit(1, 1.01))
    assert prediction.labels[0] == 'b'


def test_a_glitch_is_left_out_and_two_are_a_change(smoother: Smoother) -> None:
    for number in range(5):
        see(smoother, E[0], 7 + number / 10)
    said = [see(smoother, row, 7.5 + number / 10) for number, row in enumerate(
        (E[1], E[0], E[2], E[1]))]
    assert [prediction.labels[0] for _, prediction in said] == ['a', 'a', 'a', 'b']
    assert said[0][0] == pytest.approx(E[0])
    assert said[3][0] == pytest.approx(unit(0, 1, math.exp(-0.2)))


def test_a_slow_camera_is_followed_at_once(smoother: Smoother) -> None:
    for number in range(5):
        see(smoother, E[0], 7 + number)
    assert see(smoother, E[1], 12.0)[1].labels[0] == 'b'


def test_tracks_are_averaged_apart_and_images_without_one_stand_alone(smoother: Smoother) -> None:
    see(smoother, E[0], 7.0, key='front')
    see(smoother, E[1], 7.0, key='rear')
    rows = np.stack([E[2], E[2], E[2]])
    smoother.label(rows, [Track('rear', 7 * SECOND, 8 * SECOND), None,
                          Track('front', 7 * SECOND, 7 * SECOND)], WORDS, 3, -1.0, 0.5, 0.0)
    assert rows[0] == pytest.approx(unit(0, math.exp(-2), 1), abs=1e-6)
    assert rows[1] == pytest.approx(E[2])
    assert rows[2] == pytest.approx(unit(1, 0, 1))


def test_what_is_not_seen_for_long_and_what_is_too_much_is_forgotten(smoother: Smoother) -> None:
    see(smoother, E[0], 0, arrival=10, key='old', smoothing=60)
    see(smoother, E[0], 0, arrival=400, key='new', smoothing=60)
    assert see(smoother, E[1], 0, arrival=400, key='old', smoothing=60)[0] == pytest.approx(E[1])
    for number in range(MOST):
        see(smoother, E[0], 0, arrival=401, key=str(number), smoothing=60)
    assert see(smoother, E[1], 0, arrival=401, key='old', smoothing=60)[0] == pytest.approx(E[1])
    assert see(smoother, E[1], 0, arrival=401, key=str(MOST - 1), smoothing=60)[0] == (
        pytest.approx(unit(1, 1)))


def test_opposites_and_what_is_no_number_do_not_stay(smoother: Smoother) -> None:
    see(smoother, E[0], 7.0)
    assert see(smoother, -E[0], 7.0, arrival=7.0)[0] == pytest.approx(-E[0])
    assert see(smoother, E[0] * np.nan, 7.1)[1].unknown
    row, prediction = see(smoother, E[1], 7.2)
    assert row == pytest.approx(E[1])
    assert not prediction.unknown


def beside(classifier: Classifier, probability: float) -> np.ndarray:
    """Return a row whose label b has this probability of those of a and b together."""
    gap = classifier.spec.temperature * math.log(probability / (1 - probability))
    middle = math.sqrt(0.5 - gap * gap / 4)
    return np.array([middle - gap / 2, middle + gap / 2, 0, 0], np.float32)


@pytest.mark.parametrize('top_k', [1, 2, 3])
def test_a_label_stays_until_another_one_is_clearly_better(
        classifier: Classifier, smoother: Smoother, top_k: int) -> None:
    def first(probability: float) -> Prediction:
        row = beside(classifier, probability)
        return see(smoother, row, 7.0, smoothing=0, hysteresis=0.2, top_k=top_k)[1]
    assert first(0.4).labels == ('a', 'b', 'c')[:top_k]
    for probability in (0.6, 0.69):
        said = first(probability)
        assert said.labels == ('a', 'b', 'c')[:top_k]
        row = beside(classifier, probability)
        assert said.similarities == pytest.approx(row[:top_k], abs=1e-6)  # as they are
    assert first(0.71).labels == ('b', 'a', 'c')[:top_k]
    assert first(0.4).labels[0] == 'b'
    assert first(0.29).labels[0] == 'a'


def test_another_vocabulary_keeps_the_average_and_lets_go_of_the_label(
        classifier: Classifier, smoother: Smoother) -> None:
    see(smoother, beside(classifier, 0.4), 7.0, hysteresis=0.2)
    again = given({'a': E[0], 'b': E[1], 'c': E[2]}, version=2)
    row, said = see(smoother, beside(classifier, 0.65), 7.0, hysteresis=0.2, words=again)
    assert row == pytest.approx(beside(classifier, 0.525), abs=1e-2)
    assert said.labels[0] == 'b'


def test_unknown_stays_until_something_is_clearly_known(
        classifier: Classifier, smoother: Smoother) -> None:
    threshold, temperature = 0.5, classifier.spec.temperature

    def show(cosine: float) -> Prediction:
        row = np.array([cosine, 0, 0, math.sqrt(1 - cosine * cosine)], np.float32)
        return see(smoother, row, 7.0, smoothing=0, hysteresis=0.2, threshold=threshold)[1]
    clearly = threshold + temperature * math.log(0.7 / 0.3)
    told = []
    for cosine in (threshold + 1e-3, threshold - 1e-3, threshold + 1e-3, clearly - 1e-3,
                   clearly + 1e-3, threshold + 1e-3, threshold - 1e-3):
        prediction = show(cosine)
        assert (prediction.unknown_score > 0.5) is prediction.unknown
        told.append(prediction.unknown)
    assert told == [False, True, True, True, False, False, True]


def test_a_label_that_would_be_unknown_does_not_hide_one_that_is_known(
        classifier: Classifier, smoother: Smoother) -> None:
    see(smoother, beside(classifier, 0.4), 7.0, smoothing=0, hysteresis=0.4)
    row = beside(classifier, 0.6)
    said = see(smoother, row, 7.0, smoothing=0, hysteresis=0.4, threshold=float(row.mean() * 2))
    assert said[1].labels[0] == 'b'
    assert not said[1].unknown


def test_off_is_the_classifier_alone(classifier: Classifier, smoother: Smoother) -> None:
    frames = [Frame(np.full((40, 60, 3), grey, np.uint8)) for grey in (20, 200)]
    width = classifier.spec.width
    words = given(dict(zip('abc', np.eye(width), strict=False)))
    tracks: Sequence[Track | None] = [Track('front', 0, 0), Track('rear', 0, 0)]
    plain = classifier.classify(frames, words, 2, 0.1)
    assert smoother.classify(frames, tracks, words, 2, 0.1, 0.0, 0.0) == plain
    held = smoother.classify(frames, tracks, words, 2, 0.1, 0.5, 0.2)
    assert [one.labels for one in held] == [one.labels for one in plain]
    assert held[0].similarities == pytest.approx(plain[0].similarities, abs=1e-6)
