"""Classifier: what a prediction says, with prototypes at known angles to a frame's embedding."""
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapes
from vl2v_ros import checkpoint
from vl2v_ros.classifier import Classifier
from vl2v_ros.frame import Frame
from vl2v_ros.vocabulary import Vocabulary

FRAME = Frame(shapes.draw('red circle', 320, 240, np.random.default_rng(0)))
OTHER = Frame(shapes.draw('blue star', 200, 300, np.random.default_rng(1)))
COSINES = {'cup': 0.2, 'hammer': 0.9, 'pear': -0.4, 'mug': 0.6}  # of each label to FRAME


@pytest.fixture(scope='module')
def classifier(shapes_student: Path) -> Classifier:
    return Classifier(checkpoint.load(shapes_student), 'cpu')


@pytest.fixture(scope='module')
def vocabulary(classifier: Classifier) -> Vocabulary:
    """Return labels whose prototypes have COSINES to FRAME."""
    towards = classifier.runtime.embed([FRAME])[0]
    rng, rows = np.random.default_rng(0), []
    for cosine in COSINES.values():
        aside = rng.standard_normal(towards.size)
        aside -= (aside @ towards) * towards
        rows.append(cosine * towards + np.sqrt(1 - cosine ** 2) * aside / np.linalg.norm(aside))
    return Vocabulary(tuple(COSINES), ('',) * len(COSINES), np.array(rows, np.float32), 3)


@pytest.mark.parametrize('top_k', [1, 2, 4, 5, 100])
def test_labels_come_best_first(
        classifier: Classifier, vocabulary: Vocabulary, top_k: int) -> None:
    [prediction] = classifier.classify([FRAME], vocabulary, top_k)
    assert prediction.labels == ('hammer', 'mug', 'cup', 'pear')[:top_k]
    expected = [COSINES[label] for label in prediction.labels]
    assert prediction.similarities == pytest.approx(expected, abs=1e-4)


def test_five_labels_unless_told_otherwise(classifier: Classifier) -> None:
    rows = np.eye(classifier.spec.width, dtype=np.float32)[:9]
    many = Vocabulary(tuple('abcdefghi'), ('',) * 9, rows, 1)
    [prediction] = classifier.classify([FRAME], many)
    assert len(prediction.labels) == len(prediction.similarities) == len(prediction.scores) == 5


@pytest.mark.parametrize('top_k', [4, 5, 100])
def test_scores_of_all_labels_sum_to_one(
        classifier: Classifier, vocabulary: Vocabulary, top_k: int) -> None:
    for prediction in classifier.classify([FRAME, OTHER], vocabulary, top_k):
        assert sum(prediction.scores) == pytest.approx(1, abs=1e-4)
        assert list(prediction.scores) == sorted(prediction.scores, reverse=True)


def test_scores_are_a_softmax_over_all_labels_also_when_few_are_asked_for(
        classifier: Classifier, vocabulary: Vocabulary) -> None:
    [prediction] = classifier.classify([FRAME], vocabulary, 2)
    powers = {label: np.exp(cosine / classifier.spec.temperature)
              for label, cosine in COSINES.items()}
    expected = [powers[label] / sum(powers.values()) for label in ('hammer', 'mug')]
    assert prediction.scores == pytest.approx(expected, rel=1e-2)


def test_unknown_is_exactly_below_the_threshold(
        classifier: Classifier, vocabulary: Vocabulary) -> None:
    best = classifier.classify([FRAME], vocabulary)[0].similarities[0]
    at, above, below = (
        classifier.classify([FRAME], vocabulary, unknown_threshold=threshold)[0]
        for threshold in (best, float(np.nextafter(best, 1)), float(np.nextafter(best, -1))))
    assert (below.unknown, at.unknown, above.unknown) == (False, False, True)
    assert at.unknown_score == 0.5


@pytest.mark.parametrize('away', [-0.2, -0.05, 0.05, 0.2])
def test_unknown_score_rises_with_the_threshold(
        classifier: Classifier, vocabulary: Vocabulary, away: float) -> None:
    [prediction] = classifier.classify([FRAME], vocabulary, unknown_threshold=0.7 + away)
    expected = 1 / (1 + np.exp((0.9 - 0.7 - away) / classifier.spec.temperature))
    assert prediction.unknown_score == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize('threshold, unknown', [(0.8, False), (0.95, True)])
def test_threshold_of_the_spec_holds_unless_told_otherwise(
        shapes_student: Path, vocabulary: Vocabulary, threshold: float, unknown: bool) -> None:
    student = checkpoint.load(shapes_student)
    student.spec = replace(student.spec, unknown_threshold=threshold)
    classifier = Classifier(student, 'cpu')
    assert classifier.classify([FRAME], vocabulary)[0].unknown == unknown
    assert not classifier.classify([FRAME], vocabulary, unknown_threshold=0.0)[0].unknown


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('threshold, score', [(-1.0, 0.0), (1.0, 1.0)])
def test_extreme_thresholds_and_temperatures_do_not_overflow(
        shapes_student: Path, vocabulary: Vocabulary, threshold: float, score: float) -> None:
    student = checkpoint.load(shapes_student)
    student.spec = replace(student.spec, temperature=0.001)
    [prediction] = Classifier(student, 'cpu').classify([FRAME], vocabulary,
                                                       unknown_threshold=threshold)
    assert prediction.unknown_score == pytest.approx(score, abs=1e-6)
    assert prediction.scores[0] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize('version', [1, 41])
def test_version_of_the_vocabulary_is_carried(
        classifier: Classifier, vocabulary: Vocabulary, version: int) -> None:
    predictions = classifier.classify([FRAME, OTHER], replace(vocabulary, version=version))
    assert [prediction.vocabulary_version for prediction in predictions] == [version] * 2


def test_each_frame_gets_its_own_prediction_in_order(
        classifier: Classifier, vocabulary: Vocabulary) -> None:
    alone = [classifier.classify([frame], vocabulary)[0] for frame in (FRAME, OTHER)]
    together = classifier.classify([FRAME, OTHER, FRAME], vocabulary)
    assert [prediction.labels for prediction in together] == [
        alone[number].labels for number in (0, 1, 0)]
    for number, prediction in zip((0, 1, 0), together):
        assert prediction.similarities == pytest.approx(alone[number].similarities, abs=1e-4)
    assert alone[0].similarities != pytest.approx(alone[1].similarities, abs=1e-2)


def test_prediction_is_of_plain_python_numbers(
        classifier: Classifier, vocabulary: Vocabulary) -> None:
    [prediction] = classifier.classify([FRAME], vocabulary)
    assert {type(number) for number in (*prediction.similarities, *prediction.scores,
                                        prediction.unknown_score)} == {float}
    assert type(prediction.unknown) is bool
