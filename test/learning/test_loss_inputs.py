"""What losses are given: parts that are missing, weights and settings that are refused."""
from dataclasses import replace
import math

import numpy as np
import pytest
from support.loss_reference import (
    ALL_PARTS,
    arrays,
    batch,
    gradient_of,
    learner,
    NEEDS,
    reference,
    SETTINGS,
    slope,
    value,
)
import torch
from training.learning import losses

# Images of which not all is known


@pytest.mark.parametrize('term', NEEDS)
def test_terms_learn_from_the_images_they_can(term: str) -> None:
    made = arrays(14)
    told = np.array([True, False, True, True, False, True])
    named = np.array([True, True, False, True, False, False])
    use = np.ones(6, bool)
    if term in losses.NEED_TEACHER:
        use &= told
    if term in losses.NEED_LABELS:
        use &= named
    given = batch({**made, 'labels': np.where(named, made['labels'], -1)}, learner(term))
    loss, _ = losses.total({term: 1.0}, replace(
        given, told=torch.tensor(told), named=torch.tensor(named)), SETTINGS)
    kept = {name: rows if name in {'prototypes', 'columns'} else rows[use]
            for name, rows in made.items()}
    assert loss.item() == pytest.approx(reference(term, kept, SETTINGS), rel=1e-5)
    loss.backward()
    gradient = gradient_of(given, learner(term))
    assert gradient[use].any() and not gradient[~use].any()


@pytest.mark.parametrize('term', NEEDS)
def test_no_image_to_learn_from_is_no_loss(term: str) -> None:
    given = batch({**arrays(15), 'labels': np.full(6, -1)})
    nothing = torch.zeros(6, dtype=torch.bool)
    none = replace(given, told=nothing, named=nothing, memory=replace(
        given.memory, stand_ins=torch.empty(0, 5), stand_in_scores=torch.empty(0, 4)))
    for one in (none, replace(none, student=none.student.bfloat16())):
        loss, terms = losses.total({term: 1.0}, one, SETTINGS)
        loss.backward()
        assert loss.dtype == torch.float32 and given.student.grad.isfinite().all()
        if term in losses.NEED_TEACHER | losses.NEED_LABELS | {'stand_in'}:
            assert loss.item() == terms[term].item() == 0 and not given.student.grad.any()


def test_a_batch_is_taken_apart() -> None:
    given = replace(batch(arrays(16)), told=torch.tensor([True, False] * 3))
    part = given.take(torch.tensor([0, 2, 4]))
    assert len(part.labels) == len(part.student) == len(part.captions) == 3 and part.told is None
    assert torch.equal(part.teacher, given.teacher[::2]) and part.logits is None
    assert part.prototypes is given.prototypes and part.memory is given.memory


# Sums

def test_total_is_the_weighted_sum() -> None:
    weights = {'img_cos': 0.3, 'txt_cos': 0.7, 'cls': 2, 'mse': 0.0}
    made = arrays(12)
    given = batch(made)
    loss, terms = losses.total(weights, given, SETTINGS)
    assert list(terms) == list(weights)
    assert not any(term.requires_grad for term in terms.values())
    for name in weights:
        assert terms[name].item() == pytest.approx(reference(name, made, SETTINGS), rel=1e-5)
    loss.backward()

    def summed(rows: np.ndarray) -> float:
        return sum(weight * reference(name, {**made, 'student': rows}, SETTINGS)
                   for name, weight in weights.items())
    assert loss.item() == pytest.approx(summed(made['student']), rel=1e-5)
    np.testing.assert_allclose(given.student.grad.numpy(), slope(summed, made['student']),
                               rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize('weights, message', [
    ({'cls': 1, 'im_cts': 1}, r"terms of cls, .*stand_in, .*got 'im_cts'"),
    ({}, r'above 0 for at least one term of cls, .*, got \{\}'),
    ({'cls': 0.0}, 'above 0 for at least one term'),
    ({'cls': -1}, '0 or more for cls, got -1'), ({'cls': math.nan}, 'for cls, got nan'),
    ({'cls': math.inf}, 'for cls, got inf'), ({'cls': '1'}, "for cls, got '1'"),
    ({'cls': True}, 'for cls, got True')])
def test_wrong_weights_are_refused(weights: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        losses.check_weights(weights)
    with pytest.raises(ValueError, match=message):
        losses.total(weights, batch(arrays(0)), SETTINGS)


@pytest.mark.parametrize('term', NEEDS)
def test_missing_parts_are_named(term: str) -> None:
    whole = batch(arrays(0))
    for part in ALL_PARTS:
        if part in NEEDS[term]:
            with pytest.raises(ValueError, match=f'{term} needs .*{part}.* has no {part}'):
                value(term, replace(whole, **{part: None}))
        else:
            assert value(term, replace(whole, **{part: None})).isfinite()
    if 'memory' in NEEDS[term]:
        with pytest.raises(ValueError, match=f'{term} needs a backbone with a classifier; name'):
            value(term, replace(whole, memory=None))


@pytest.mark.parametrize('field', [{'temperature': 0.0}, {'temperature': math.nan}, {'k': 0},
                                   {'k': 2.5}, {'kd_temperature': -1.0}])
def test_settings_out_of_range_are_refused(field: dict) -> None:
    with pytest.raises(ValueError, match=f'{next(iter(field))}: expected'):
        losses.LossSettings(**field)


@pytest.mark.parametrize('part, shape', [
    ('labels', (5,)), ('teacher', (5, 5)), ('captions', (6, 4)), ('prototypes', (7, 4)),
    ('logits', (5, 7)), ('logits', (6, 8))])
def test_shapes_that_do_not_fit_are_caught(part: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(AssertionError):
        replace(batch(arrays(0)), **{part: torch.zeros(shape)})


def test_teacher_that_learns_is_caught() -> None:
    with pytest.raises(AssertionError, match='frozen'):
        batch(arrays(0), learned='teacher')
