"""Classifier: what a prediction says, with prototypes at known angles to a frame's embedding."""
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import shapes
from support.tiny_models import given
from vl2v_ros.images.frame import Frame
from vl2v_ros.model import checkpoint
from vl2v_ros.model.classifier import Classifier
from vl2v_ros.words.explain import reasons
from vl2v_ros.words.vocabulary import Vocabulary

FRAME = Frame(shapes.draw('red circle', 320, 240, np.random.default_rng(0)))
OTHER = Frame(shapes.draw('blue star', 200, 300, np.random.default_rng(1)))
COSINES = {'cup': 0.2, 'hammer': 0.9, 'pear': -0.4, 'mug': 0.6}  # of each label to FRAME
LIKE_TABLE = 0.75  # cosine of a background prompt to FRAME


@pytest.fixture(scope='module')
def classifier(shapes_student: Path) -> Classifier:
    return Classifier(checkpoint.load(shapes_student), 'cpu')


@pytest.fixture(scope='module')
def vocabulary(classifier: Classifier) -> Vocabulary:
    """Return labels whose prototypes have COSINES to FRAME."""
    return given({label: row_at(classifier, cosine) for label, cosine in COSINES.items()}, 3)


def row_at(classifier: Classifier, cosine: float) -> np.ndarray:
    """Return a (D,) unit row of a given cosine to FRAME, and otherwise of any direction."""
    towards = classifier.embed([FRAME])[0]
    aside = np.random.default_rng(int(1000 * cosine + 1000)).standard_normal(towards.size)
    aside -= (aside @ towards) * towards
    return cosine * towards + np.sqrt(1 - cosine ** 2) * aside / np.linalg.norm(aside)


def with_background(classifier: Classifier, *cosines: float) -> Vocabulary:
    """Return the same labels, beside background prompts of these cosines to FRAME."""
    return given({label: row_at(classifier, cosine) for label, cosine in COSINES.items()}, 3,
                 {f'prompt {number}': row_at(classifier, cosine)
                  for number, cosine in enumerate(cosines)})


@pytest.mark.parametrize('top_k', [1, 2, 4, 5, 100])
def test_labels_come_best_first(
        classifier: Classifier, vocabulary: Vocabulary, top_k: int) -> None:
    [prediction] = classifier.classify([FRAME], vocabulary, top_k)
    assert prediction.labels == ('hammer', 'mug', 'cup', 'pear')[:top_k]
    expected = [COSINES[label] for label in prediction.labels]
    assert prediction.similarities == pytest.approx(expected, abs=1e-4)
    assert prediction.vector() == pytest.approx(classifier.embed([FRAME])[0], abs=1e-6)


def test_five_labels_unless_told_otherwise(classifier: Classifier) -> None:
    many = given(dict(zip('abcdefghi', np.eye(classifier.spec.width), strict=False)))
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


@pytest.mark.parametrize(('cosines', 'unknown'), [
    ([0.1, LIKE_TABLE], False), ([-0.5], False), ([LIKE_TABLE, 0.95, -1.0], True), ([1.0], True)])
@pytest.mark.parametrize('top_k', [1, 3, 100])
def test_a_background_prompt_nearer_than_every_label_is_unknown(
        classifier: Classifier, cosines: list[float], unknown: bool, top_k: int) -> None:
    vocabulary = with_background(classifier, *cosines)
    [prediction] = classifier.classify([FRAME], vocabulary, top_k, unknown_threshold=-1.0)
    assert prediction.unknown is unknown
    # The background is no label, but takes part in the softmax.
    assert prediction.labels == ('hammer', 'mug', 'cup', 'pear')[:top_k]
    assert prediction.similarities[0] == pytest.approx(0.9, abs=1e-4)
    temperature = classifier.spec.temperature
    total = sum(np.exp(cosine / temperature) for cosine in (*COSINES.values(), *cosines))
    expected = [np.exp(COSINES[label] / temperature) / total for label in prediction.labels]
    assert prediction.scores == pytest.approx(expected, rel=1e-2)
    nearest = max(np.exp(cosine / temperature) for cosine in cosines)
    assert prediction.unknown_score == pytest.approx(
        nearest / (nearest + np.exp(0.9 / temperature)), abs=1e-3)


def test_without_background_nothing_but_the_threshold_makes_a_frame_unknown(
        classifier: Classifier, vocabulary: Vocabulary) -> None:
    away = replace(vocabulary, prototypes=-vocabulary.prototypes[1:2], labels=('hammer',))
    [prediction] = classifier.classify([FRAME], away, unknown_threshold=-1.0)
    assert prediction.similarities[0] == pytest.approx(-0.9, abs=1e-4)
    assert not prediction.unknown and prediction.scores == pytest.approx([1])


@pytest.mark.parametrize('threshold', [-1.0, -0.3, 0.3, 0.8, 0.9, 0.92, 1.0])
@pytest.mark.parametrize('cosines', [[], [0.2], [0.85, 0.1], [0.9], [0.95]])
def test_unknown_score_is_on_the_side_of_unknown(
        classifier: Classifier, cosines: list[float], threshold: float) -> None:
    vocabulary = with_background(classifier, *cosines)
    for prediction in classifier.classify([FRAME, OTHER], vocabulary, 5, threshold):
        assert 0 <= prediction.unknown_score <= 1
        if prediction.unknown:
            assert prediction.unknown_score >= 0.5
        else:
            assert prediction.unknown_score <= 0.5


def test_each_frame_is_compared_with_the_background_by_itself(classifier: Classifier) -> None:
    vocabulary = with_background(classifier, 1.0)  # it is FRAME itself
    frame, other, again = classifier.classify([FRAME, OTHER, FRAME], vocabulary, 5, -1.0)
    assert frame.unknown and again.unknown
    alone = classifier.classify([OTHER], vocabulary, 5, -1.0)[0]
    assert other.unknown == alone.unknown
    assert other.unknown_score == pytest.approx(alone.unknown_score, abs=1e-3)
    assert other.unknown_score != pytest.approx(frame.unknown_score, abs=1e-2)


def test_embeddings_are_what_labels_are_compared_with(
        classifier: Classifier, vocabulary: Vocabulary) -> None:
    rows = classifier.embed([FRAME, OTHER])
    assert rows.shape == (2, classifier.spec.width) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4)
    for row, prediction in zip(rows, classifier.classify([FRAME, OTHER], vocabulary), strict=True):
        found = {reason.label: reason.similarity
                 for reason in reasons(row, vocabulary, prediction.labels)}
        assert list(found) == list(prediction.labels)
        assert list(found.values()) == pytest.approx(prediction.similarities, abs=1e-4)


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
    for number, prediction in zip((0, 1, 0), together, strict=True):
        assert prediction.similarities == pytest.approx(alone[number].similarities, abs=1e-4)
    assert alone[0].similarities != pytest.approx(alone[1].similarities, abs=1e-2)


def test_prediction_is_of_plain_python_numbers(
        classifier: Classifier, vocabulary: Vocabulary) -> None:
    [prediction] = classifier.classify([FRAME], vocabulary)
    assert {type(number) for number in (*prediction.similarities, *prediction.scores,
                                        prediction.unknown_score)} == {float}
    assert type(prediction.unknown) is bool


@pytest.mark.parametrize('odd', ['label', 'all', 'background'])
def test_nothing_that_is_no_number_is_known(classifier: Classifier, odd: str) -> None:
    words = with_background(classifier, -0.5)
    prototypes, background = words.prototypes.copy(), words.background_rows.copy()
    if odd == 'background':
        background[:] = np.nan
    else:
        prototypes[0 if odd == 'label' else slice(None)] = np.nan
    [prediction] = classifier.classify(
        [FRAME], replace(words, prototypes=prototypes, background_rows=background))
    assert (prediction.unknown, prediction.unknown_score) == (True, 1)
