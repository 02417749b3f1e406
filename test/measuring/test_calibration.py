"""Calibration, the temperature, and what is unknown: by hand and against others."""
import math

import numpy as np
import pytest
from support.random_rows import noise, some_labels
import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.classification import multiclass_calibration_error
from training.measuring import metrics

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
