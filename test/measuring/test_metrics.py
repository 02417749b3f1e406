"""Metrics against cases worked out by hand and against plain loops."""
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.classification import binary_f1_score, multiclass_calibration_error
from training.measuring import metrics


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def some_labels(count: int, classes: int, seed: int = 0) -> Tensor:
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(seed))


# Accuracy

SIMILARITIES = torch.tensor([[0.9, 0.1, 0.5], [0.2, 0.3, 0.4], [-0.1, -0.2, -0.3]])


@pytest.mark.parametrize('labels, expected', [
    ([0, 2, 0], 1), ([1, 0, 2], 0), ([0, 1, 1], 1 / 3), ([0, 2, 1], 2 / 3)])
def test_accuracy(labels: list[int], expected: float) -> None:
    found = metrics.accuracy(SIMILARITIES, torch.tensor(labels))
    assert isinstance(found, float)
    assert found == pytest.approx(expected)


def test_of_equals_the_first_label_is_chosen() -> None:
    flat = torch.full((4, 3), 0.25)
    assert metrics.accuracy(flat, torch.tensor([0, 0, 1, 2])) == 0.5
    assert metrics.restricted(flat, torch.tensor([2, 1, 2, 1]), [2, 1]) == 0.5


def test_restricted_accuracy_chooses_among_columns_only() -> None:
    labels = torch.tensor([2, 1, 2])
    assert metrics.accuracy(SIMILARITIES, labels) == 0
    assert metrics.restricted(SIMILARITIES, labels, [1, 2]) == pytest.approx(1 / 3)
    assert metrics.restricted(SIMILARITIES, labels, torch.tensor([2, 1])) == pytest.approx(1 / 3)
    assert metrics.restricted(SIMILARITIES, labels, [0, 1, 2]) == 0
    assert metrics.restricted(SIMILARITIES, torch.tensor([1, 1, 1]), [1]) == 1


def test_restricted_accuracy_against_a_loop() -> None:
    similarities, columns = noise(200, 9), [7, 2, 3, 8]
    labels = torch.tensor(columns)[some_labels(200, 4)]
    right = [max(columns, key=lambda column: row[column]) == label
             for row, label in zip(similarities.tolist(), labels.tolist(), strict=True)]
    assert 0 < sum(right) < 200
    assert metrics.restricted(similarities, labels, columns) == pytest.approx(sum(right) / 200)


def test_labels_that_cannot_be_chosen_are_refused() -> None:
    with pytest.raises(ValueError, match=r'among the columns \[0, 1\], got \[2, 5\]; leave'):
        metrics.restricted(noise(4, 6), torch.tensor([0, 5, 2, 5]), [0, 1])


# Order of labels

def turned_pairs(student: list[float], teacher: list[float], k: int) -> int:
    nearest = sorted(range(len(teacher)), key=lambda column: -teacher[column])[:k]
    return sum((teacher[a] - teacher[b]) * (student[a] - student[b]) < 0
               for a, b in itertools.combinations(nearest, 2))


@pytest.mark.parametrize('student, k, expected', [
    ([0.9, 0.5, 0.1, 0.0], 4, 0), ([0.0, 0.1, 0.5, 0.9], 4, 6), ([0.0, 0.1, 0.5, 0.9], 2, 1),
    ([0.5, 0.9, 0.1, 0.0], 3, 1), ([0.1, 0.5, 0.2, 0.9], 3, 2), ([0.0, 0.1, 0.5, 0.9], 1, 0)])
def test_alignment_counts_turned_pairs(student: list[float], k: int, expected: int) -> None:
    teacher = torch.tensor([[0.8, 0.6, 0.4, 0.2]])
    assert metrics.vl_alignment(torch.tensor([student]), teacher, k) == expected


@pytest.mark.parametrize('k', [1, 2, 3, 5, 8])
def test_alignment_against_a_loop(k: int) -> None:
    student, teacher = noise(50, 8, seed=1), noise(50, 8, seed=2)
    counts = [turned_pairs(*rows, k)
              for rows in zip(student.tolist(), teacher.tolist(), strict=True)]
    assert metrics.vl_alignment(student, teacher, k) == pytest.approx(sum(counts) / 50)


def test_alignment_of_equals() -> None:
    # Coarse similarities, so that most rows have pairs that one or both hold equal.
    student, teacher = ((2 * noise(60, 6, seed=seed)).round() for seed in (3, 4))
    counts = [turned_pairs(*rows, 4)
              for rows in zip(student.tolist(), teacher.tolist(), strict=True)]
    assert 0 < sum(counts)
    assert metrics.vl_alignment(student, teacher, 4) == pytest.approx(sum(counts) / 60)
    assert metrics.vl_alignment(torch.zeros(2, 4), noise(2, 4), 4) == 0
    assert metrics.vl_alignment(noise(2, 4), torch.zeros(2, 4), 4) == 0


@pytest.mark.parametrize('k', [0, 5])
def test_alignment_over_more_labels_than_there_are_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f'k: expected 1 to 4, the number of labels, got {k}'):
        metrics.vl_alignment(noise(2, 4), noise(2, 4), k)


# Distance

def test_distance_of_rows_at_known_angles() -> None:
    teacher = torch.tensor([[1.0, 0.0]]).repeat(4, 1)
    angles = torch.deg2rad(torch.tensor([0.0, 60.0, 90.0, 180.0]))
    student = torch.stack([angles.cos(), angles.sin()], dim=1)
    squared, angle = metrics.feature_distance(student, teacher)
    assert squared == pytest.approx((0 + 1 + 2 + 4) / 4, abs=1e-6)
    assert angle == pytest.approx((0 + 60 + 90 + 180) / 4, abs=1e-4)


@pytest.mark.parametrize('degrees', [1e-3, 180 - 1e-3])
def test_angles_are_exact_at_both_ends(degrees: float) -> None:
    student = torch.tensor([[math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]],
                           dtype=torch.float64)
    _, angle = metrics.feature_distance(student, torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    assert angle == pytest.approx(degrees, abs=1e-9)


def test_distance_against_a_loop() -> None:
    student, teacher = (functional.normalize(noise(30, 7, seed=seed), dim=1) for seed in (5, 6))
    pairs = list(zip(student.double().numpy(), teacher.double().numpy(), strict=True))
    squared, angle = metrics.feature_distance(student, teacher)
    assert squared == pytest.approx(sum(((s - t) ** 2).sum() for s, t in pairs) / 30)
    assert angle == pytest.approx(
        sum(math.degrees(math.acos(s @ t)) for s, t in pairs) / 30, abs=1e-4)


# Calibration

def test_calibration_by_hand() -> None:
    scores = torch.tensor([[0.8, 0.2], [0.7, 0.3], [0.1, 0.9], [1.0, 0.0]])
    error, bins = metrics.calibration(scores, torch.tensor([0, 1, 1, 0]), bins=4)
    assert [row.size for row in bins] == [0, 0, 1, 3]
    assert bins[0] == (0, 0, 0)
    assert bins[2] == pytest.approx((0.7, 0, 1))
    assert bins[3] == pytest.approx((0.9, 1, 3))
    assert error == pytest.approx((1 * 0.7 + 3 * 0.1) / 4)


def test_edges_of_bins() -> None:
    scores = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25], [0.75, 0.25, 0.0, 0.0],
                           [1.0, 0.0, 0.0, 0.0]])
    _, bins = metrics.calibration(scores, torch.zeros(4, dtype=torch.int64), bins=4)
    assert [row.size for row in bins] == [0, 1, 1, 2]


@pytest.mark.parametrize('labels, expected', [([0, 0], 0), ([1, 1], 1)])
def test_calibration_of_certainty(labels: list[int], expected: float) -> None:
    error, bins = metrics.calibration(torch.tensor([[1.0, 0.0]] * 2), torch.tensor(labels))
    assert error == expected
    assert bins[-1] == (1, 1 - expected, 2)


@pytest.mark.parametrize('bins', [1, 10, 15])
def test_calibration_agrees_with_torchmetrics(bins: int) -> None:
    scores, labels = (3 * noise(500, 5)).softmax(dim=1), some_labels(500, 5)
    error, rows = metrics.calibration(scores, labels, bins)
    assert error == pytest.approx(
        multiclass_calibration_error(scores, labels, 5, bins).item(), abs=1e-6)
    assert len(rows) == bins
    assert sum(row.size for row in rows) == 500
    assert error == pytest.approx(
        sum(row.size * abs(row.accuracy - row.confidence) for row in rows) / 500)
    for number, row in enumerate(rows):
        assert not row.size or number / bins <= row.confidence < (number + 1) / bins


@pytest.mark.parametrize('scores', [[[1.7, 0.2]], [[-0.5, -0.2]], [[math.nan, 0.1]]])
def test_calibration_of_no_probabilities_is_refused(scores: list) -> None:
    with pytest.raises(ValueError, match='expected probabilities'):
        metrics.calibration(torch.tensor(scores), torch.tensor([0]))


# Unknown

def test_unknown_by_hand() -> None:
    known = torch.tensor([0.1, *[0.5 + number / 100 for number in range(19)]])
    found = metrics.unknown_detection(known, torch.tensor([0.05, 0.2, 0.5, 0.6]))
    assert found.threshold == known[1]  # 19 of 20 pass
    assert found.fpr95 == 0.5  # a tie passes
    below = [20, 19, 18 + 0.5, 8 + 0.5]
    assert found.auroc == pytest.approx(sum(below) / 80)


@pytest.mark.parametrize('known, unknown, auroc, fpr95', [
    ([0.5, 0.9], [-0.5, 0.4], 1, 0), ([-0.9, -0.2], [-0.1, 1.0], 0, 1),
    ([0.3, 0.3], [0.3], 0.5, 1), ([1.0000002], [-1.0000002], 1, 0)])
def test_unknown_at_the_ends(known: list[float], unknown: list[float], auroc: float, fpr95: float
                             ) -> None:
    found = metrics.unknown_detection(torch.tensor(known), torch.tensor(unknown))
    assert found == pytest.approx((auroc, fpr95, min(known)))


@pytest.mark.parametrize('count', [1, 7, 19, 20, 21, 40, 100, 101])
@pytest.mark.parametrize('step', [1e-6, 0.1])
def test_unknown_against_a_loop(count: int, step: float) -> None:
    known, unknown = (((noise(size, seed=size) + shift) / 2 / step).round() * step
                      for size, shift in ((count, 0.4), (60, -0.4)))
    found = metrics.unknown_detection(known, unknown)
    assert isinstance(found.threshold, float)
    pairs = [(a > b) + (a == b) / 2 for a in known.tolist() for b in unknown.tolist()]
    assert found.auroc == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)
    passing = [at for at in known.tolist()
               if 100 * sum(value >= at for value in known.tolist()) >= 95 * count]
    assert found.threshold == max(passing)
    assert found.fpr95 == pytest.approx(
        sum(value >= found.threshold for value in unknown.tolist()) / 60)


@pytest.mark.parametrize('known, unknown', [(0, 3), (3, 0)])
def test_unknown_without_images_is_refused(known: int, unknown: int) -> None:
    with pytest.raises(ValueError, match=f'got {known} and {unknown}'):
        metrics.unknown_detection(torch.zeros(known), torch.zeros(unknown))


# Temperature

def likelihood(similarities: Tensor, labels: Tensor, temperature: float) -> float:
    return functional.cross_entropy(similarities.double() / temperature, labels).item()


@pytest.mark.parametrize('temperature', [0.02, 0.07, 0.3])
def test_temperature_that_labels_were_drawn_with_is_found(temperature: float) -> None:
    similarities = noise(20000, 6)
    labels = torch.multinomial((similarities / temperature).softmax(dim=1), 1,
                               generator=torch.Generator().manual_seed(0))[:, 0]
    found = metrics.fit_temperature(similarities, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    best = likelihood(similarities, labels, found)
    for other in np.geomspace(1e-3, 1, 40):
        assert best <= likelihood(similarities, labels, other) + 1e-12
    for near in (0.999, 1.001):
        assert best < likelihood(similarities, labels, near * found)


def test_temperature_beyond_the_range_ends_at_it() -> None:
    similarities = noise(100, 4)
    assert metrics.fit_temperature(similarities, similarities.argmin(dim=1)) == pytest.approx(1)
    # Better separated labels want an ever lower temperature.
    similarities = torch.tensor([[0.501, 0.5], [0.5, 0.501]])
    assert metrics.fit_temperature(similarities, torch.tensor([0, 1])) == 1e-3


def test_temperature_says_nothing_where_all_is_equal() -> None:
    assert metrics.fit_temperature(torch.zeros(3, 4), some_labels(3, 4)) == pytest.approx(1)


# Prototypes

def test_spread_by_hand() -> None:
    cosine, eigenvalues = metrics.prototype_spread(torch.eye(4))
    assert cosine == pytest.approx(0)
    assert eigenvalues == pytest.approx([0.25] * 4)
    cosine, eigenvalues = metrics.prototype_spread(torch.tensor([[0.6, 0.8]]).repeat(3, 1))
    assert cosine == pytest.approx(1)
    assert eigenvalues == pytest.approx([1, 0], abs=1e-7)
    cosine, _ = metrics.prototype_spread(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    assert cosine == pytest.approx(-1)


@pytest.mark.parametrize('classes, width', [(20, 30), (30, 12), (5, 40)])
def test_spread_against_a_loop(classes: int, width: int) -> None:
    prototypes = functional.normalize(noise(classes, width) + 0.3, dim=1)
    rows = prototypes.double().numpy()
    cosine, eigenvalues = metrics.prototype_spread(prototypes)
    pairs = [a @ b for a, b in itertools.combinations(rows, 2)]
    assert cosine == pytest.approx(sum(pairs) / len(pairs))
    expected = np.linalg.eigvalsh(rows @ rows.T / classes)[::-1][:10]
    assert eigenvalues == pytest.approx(expected.tolist(), abs=1e-9)


def test_spread_of_one_prototype_is_refused() -> None:
    with pytest.raises(ValueError, match='at least two prototypes, got 1'):
        metrics.prototype_spread(torch.ones(1, 3))


# Scenes

def test_presence_by_hand() -> None:
    truth = torch.tensor([[1, 0, 1, 0], [0, 0, 1, 1]], dtype=torch.bool)
    scores = torch.tensor([[0.9, 0.5, 0.2, 0.0], [0.1, 0.3, 0.7, 0.4]])
    accuracy, f1 = metrics.presence(scores, truth, [0, 1, 2, 3])
    assert accuracy == pytest.approx(5 / 8)
    assert f1 == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))  # 0.5 is a claim
    assert metrics.presence(scores, truth, [0]) == (1, 1)
    assert metrics.presence(scores, truth, torch.tensor([3])) == (0.5, 0)
    assert metrics.presence(scores, truth, [3], threshold=0.3) == (1, 1)
    assert metrics.presence(scores, ~truth, [0]) == (0, 0)


def test_presence_where_nothing_is() -> None:
    truth = torch.zeros(2, 3, dtype=torch.bool)
    assert metrics.presence(torch.zeros(2, 3), truth, [0, 1]) == (1, 1)
    assert metrics.presence(torch.ones(2, 3), truth, [0, 1]) == (0, 0)


@pytest.mark.parametrize('columns', [[0], [4, 1], [0, 1, 2, 3, 4]])
def test_presence_against_torchmetrics(columns: list[int]) -> None:
    scores, truth = noise(80, 5).abs(), noise(80, 5, seed=1) > 0.4
    accuracy, f1 = metrics.presence(scores, truth, columns)
    cells = [(scores[n, c].item() >= 0.5) == truth[n, c].item()
             for n in range(80) for c in columns]
    assert accuracy == pytest.approx(sum(cells) / len(cells))
    assert f1 == pytest.approx(binary_f1_score(scores[:, columns], truth[:, columns]).item())


@pytest.mark.parametrize('scenes, columns', [(0, [0]), (2, [])])
def test_presence_of_none_is_refused(scenes: int, columns: list[int]) -> None:
    with pytest.raises(ValueError, match='at least one image and one label'):
        metrics.presence(torch.zeros(scenes, 3), torch.zeros(scenes, 3, dtype=torch.bool), columns)


# No images

def test_means_over_no_images_are_refused() -> None:
    none, labels = torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)
    for measure in (lambda: metrics.accuracy(none, labels),
                    lambda: metrics.restricted(none, labels, [0]),
                    lambda: metrics.vl_alignment(none, none, 1),
                    lambda: metrics.feature_distance(none, none),
                    lambda: metrics.calibration(none, labels),
                    lambda: metrics.fit_temperature(none, labels)):
        with pytest.raises(ValueError, match='at least one image'):
            measure()


def test_labels_of_other_images_are_caught() -> None:
    for measure in (metrics.accuracy, metrics.calibration, metrics.fit_temperature):
        with pytest.raises(AssertionError):
            measure(torch.zeros(3, 4), torch.zeros(2, dtype=torch.int64))
