"""Metrics but those of calibration, worked out by hand and against plain loops."""
import itertools
import math

import numpy as np
import pytest
from support.random_rows import noise, some_labels
import torch
from torch.nn import functional
from torchmetrics.functional.classification import binary_f1_score
from training.measuring import metrics

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
