"""The asymmetric loss of many labels per image: by hand, at its limits, and what is refused."""
import math

import numpy as np
import pytest
from support.loss_reference import slope
import torch
from training.learning.asymmetric_loss import asymmetric_loss


def asymmetric(scores: np.ndarray, truth: np.ndarray, gamma_neg: float, gamma_pos: float,
               clip: float) -> float:
    loss = 0.0
    for score, present in zip(scores.flat, truth.flat, strict=True):
        if present:
            loss -= (1 - score) ** gamma_pos * math.log(score)
        else:
            lowered = max(score - clip, 0.0)
            loss -= lowered ** gamma_neg * math.log(1 - lowered)
    return loss / len(scores)


@pytest.mark.parametrize('numbers', [(2, 1, 0.05), (4, 0, 0.2), (0, 0, 0.0), (1, 2.5, 0.0)])
def test_asymmetric_loss(numbers: tuple[float, float, float]) -> None:
    random = np.random.default_rng(0)
    scores = random.uniform(0.01, 0.99, (4, 6)).astype(np.float32).astype(float)
    scores[0, :2] = 0.03125  # below the clip
    truth = random.random((4, 6)) < 0.4
    truth[0, :2] = True, False
    given = torch.tensor(scores, dtype=torch.float32, requires_grad=True)
    loss = asymmetric_loss(given, torch.tensor(truth), *numbers)
    loss.backward()
    assert loss.item() == pytest.approx(asymmetric(scores, truth, *numbers), rel=1e-5)
    expected = slope(lambda at: asymmetric(at, truth, *numbers), scores)
    np.testing.assert_allclose(given.grad.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_plain_asymmetric_loss_is_binary_cross_entropy() -> None:
    scores = torch.tensor([[0.2, 0.7], [0.9, 0.4]])
    truth = torch.tensor([[True, False], [True, True]])
    expected = -(math.log(0.2) + math.log(0.3) + math.log(0.9) + math.log(0.4)) / 2
    assert asymmetric_loss(scores, truth, 0, 0, 0.0).item() == pytest.approx(expected)


@pytest.mark.parametrize('clip', [0.05, 0.0])
def test_asymmetric_loss_of_certain_scores(clip: float) -> None:
    scores = torch.tensor([[0.0, 1.0, 0.0, 1.0]], requires_grad=True)
    right = asymmetric_loss(scores, torch.tensor([[False, True, False, True]]), clip=clip)
    wrong = asymmetric_loss(scores, torch.tensor([[True, False, True, False]]), clip=clip)
    (right + wrong).backward()
    assert right.item() == 0
    assert 1 < wrong.item() < math.inf
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize('field', [{'gamma_neg': 0.5}, {'gamma_pos': -1}, {'clip': 1.0}])
def test_asymmetric_loss_out_of_range_is_refused(field: dict) -> None:
    with pytest.raises(ValueError, match=f'{next(iter(field))}: expected'):
        asymmetric_loss(torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool), **field)
