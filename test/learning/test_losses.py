"""Terms of the loss against explicit float64 sums: values, gradients, limits, two processes."""
from collections.abc import Callable
from dataclasses import replace
import math
from pathlib import Path

import numpy as np
import pytest
from support import warm  # noqa: F401 (so that processes find the libraries loaded)
from support.loss_reference import (
    ALL_PARTS,
    Arrays,
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
from torch import distributed, Tensor
from torch.distributed.nn.functional import all_gather
from training.learning import losses
from training.learning.loss_inputs import Batch, Recalled


def check(term: str, made: Arrays, settings: losses.LossSettings = SETTINGS,
          learned: str = '') -> None:
    """Compare value and gradient with the reference."""
    learned = learned or learner(term)
    given = batch(made, learned)
    loss = value(term, given, settings)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(reference(term, made, settings), rel=1e-5, abs=2e-6)
    loss.backward()
    expected = slope(lambda rows: reference(term, {**made, learned: rows}, settings),
                     made[learned])
    np.testing.assert_allclose(gradient_of(given, learned), expected, rtol=1e-4, atol=2e-5)


def first_is_right(made: Arrays) -> np.ndarray:
    return (made['teacher'] @ made['prototypes'].T).argmax(axis=1) == made['labels']


# Terms

def test_every_term_is_tested() -> None:
    assert set(losses.TERMS) == {*NEEDS, 'presence'}  # of many labels per image: test_presence.py


@pytest.mark.parametrize('term', NEEDS)
@pytest.mark.parametrize('seed', range(3))
def test_values_and_gradients(term: str, seed: int) -> None:
    made = arrays(seed)
    assert 0 < first_is_right(made).sum() < 6  # both cases of vlprox
    check(term, made)


@pytest.mark.parametrize('term', NEEDS)
@pytest.mark.parametrize('settings', [
    losses.LossSettings(0.02, 1, 1.0), losses.LossSettings(1.0, 6, 4.0), losses.LossSettings()])
def test_settings(term: str, settings: losses.LossSettings) -> None:
    check(term, arrays(3), settings)


@pytest.mark.parametrize('term', NEEDS)
def test_one_image(term: str) -> None:
    made = arrays(4, count=1)
    assert first_is_right(made).all()
    check(term, made)
    if term in {'im_cst', 'caption', 'centred'}:
        assert value(term, batch(made)).item() == 0


@pytest.mark.parametrize('term', ['cls', 'kd'])
def test_linear_head_replaces_similarities(term: str) -> None:
    made = arrays(5)
    made['logits'] = np.random.default_rng(5).normal(size=(6, 7)).astype(np.float32).astype(float)
    check(term, made, learned='logits')
    loss = value(term, replace(batch(made), student=torch.full((6, 5), math.nan)))
    assert loss.isfinite()


def test_linear_head_needs_no_prototypes() -> None:
    made = {'labels': np.array([0, 1]), 'student': np.eye(2),
            'logits': np.array([[0.0, 0.0], [0.0, math.log(3)]])}
    assert value('cls', batch(made)).item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)


def test_prototypes_can_learn_too() -> None:
    check('cls', arrays(6), learned='prototypes')


@pytest.mark.parametrize('term, k', [('vlprox', 7), ('vlprox', 8), ('vlprox', 10 ** 9)])
def test_k_of_all_labels_and_beyond(term: str, k: int) -> None:
    made = arrays(7)
    check(term, made, replace(SETTINGS, k=k))
    right = first_is_right(made)
    full = batch({name: rows if name in {'prototypes', 'columns'} else rows[right]
                  for name, rows in made.items()})
    whole = value('kd', full, replace(SETTINGS, kd_temperature=1.0)).item()
    assert value(term, batch(made), replace(SETTINGS, k=k)).item() == pytest.approx(
        whole * right.mean(), rel=1e-5)


def test_vlprox_is_nothing_where_the_teacher_errs() -> None:
    made = arrays(8)
    near = made['teacher'] @ made['prototypes'].T
    given = batch({**made, 'labels': near.argsort(axis=1)[:, -2]})
    loss = value('vlprox', given)
    loss.backward()
    assert loss.item() == 0
    assert not given.student.grad.any()


@pytest.mark.parametrize('temperature', [0.07, 0.001])
@pytest.mark.parametrize('sign', [1, -1])
@pytest.mark.parametrize('term', NEEDS)
def test_identical_and_opposite_embeddings(term: str, sign: int, temperature: float) -> None:
    made = arrays(9)
    made['captions'] = made['teacher'] = made['prototypes'][made['labels']]
    made['student'] = sign * made['teacher']
    made['columns'] = made['prototypes'][:4]
    made['stand_ins'] = sign * made['columns'][made['labels'] % 4]
    given = batch(made, learner(term))
    settings = replace(SETTINGS, temperature=temperature)
    loss = value(term, given, settings)
    loss.backward()
    assert np.isfinite(gradient_of(given, learner(term))).all()
    expected = {'mse': 2 - 2 * sign, 'img_cos': -sign, 'txt_cos': -sign}
    if sign == 1:
        expected |= {'kd': 0, 'vlprox': 0}
    if term == 'centred':
        assert loss.item() == pytest.approx(-1, abs=1e-5) if sign == 1 else loss.item() > 0
    elif term in expected:
        assert loss.item() == pytest.approx(expected[term], abs=1e-5)
    else:
        assert 0 <= loss.item() < settings.kd_temperature * 2 / temperature + math.log(7)


def test_all_embeddings_the_same() -> None:
    rows = np.tile([[1.0, 0.0]], (4, 1))
    given = batch({'labels': np.zeros(4, int), **dict.fromkeys(('student', *ALL_PARTS), rows)})
    found = {term: value(term, given).item() for term in NEEDS if 'memory' not in NEEDS[term]}
    assert found == pytest.approx({'cls': math.log(4), 'im_cst': math.log(4), 'mse': 0, 'kd': 0,
                                   'caption': math.log(4), 'vlprox': 0, 'img_cos': -1,
                                   'txt_cos': -1, 'centred': 0}, abs=1e-6)


@pytest.mark.parametrize('term', NEEDS)
def test_autocast_changes_nothing(term: str) -> None:
    made = arrays(10)
    plain, cast = batch(made, learner(term)), batch(made, learner(term))
    losses.total({term: 1.0}, plain, SETTINGS)[0].backward()
    with torch.autocast('cpu', torch.bfloat16):
        loss, _ = losses.total({term: 1.0}, cast, SETTINGS)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == value(term, plain).item()
    np.testing.assert_array_equal(gradient_of(plain, learner(term)),
                                  gradient_of(cast, learner(term)))


@pytest.mark.parametrize('term', NEEDS)
def test_half_precision_is_widened(term: str) -> None:
    full = batch(arrays(11), '')

    def of(change: Callable[[Tensor], Tensor]) -> Batch:
        parts = {name: change(getattr(full, name)) for name in ('student', *ALL_PARTS)}
        memory = Recalled(*map(change, vars(full.memory).values()))
        return Batch(full.labels, **parts, memory=memory)
    half, wide = of(Tensor.half), of(lambda rows: rows.half().float())
    assert value(term, half).dtype == torch.float32
    assert value(term, half).item() == value(term, wide).item()


# Several processes

def all_ranks(rows: Tensor) -> Tensor:
    return torch.cat(all_gather(rows))


def learn(made: Arrays, gather: losses.Gather) -> tuple[Tensor, Tensor]:
    """Return loss and gradient of a linear layer that makes the student's embeddings."""
    layer = torch.nn.Linear(5, 5)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(5) + 0.1)
        layer.bias.fill_(0.1)
    fixed = batch(made, learned='')
    embeddings, stand_ins = (torch.nn.functional.normalize(layer(rows), dim=1)
                             for rows in (fixed.student, fixed.memory.stand_ins))
    loss, _ = losses.total(dict.fromkeys(NEEDS, 0.5), replace(
        fixed, student=embeddings, memory=replace(fixed.memory, stand_ins=stand_ins)), SETTINGS,
        gather)
    loss.backward()
    return loss.detach(), torch.cat([layer.weight.grad.flatten(), layer.bias.grad])


def rank_learns(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group('gloo', init_method=f'file://{folder / "meet"}', rank=rank,
                                   world_size=2)
    mine = slice(3 * rank, 3 * rank + 3)
    made = {name: rows if name in {'prototypes', 'columns'} else rows[mine]
            for name, rows in arrays(13).items()}
    results = torch.stack([torch.cat([loss[None], gradient]) for loss, gradient in (
        learn(made, all_ranks), learn(made, losses.of_one_rank))])  # (2, 1 + parameters)
    distributed.all_reduce(results)  # the mean, as DistributedDataParallel takes of gradients
    torch.save(results / 2, folder / f'{rank}.pt')
    distributed.destroy_process_group()


def test_two_processes_learn_as_one(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(rank_learns, (tmp_path,), nprocs=2,
                                          start_method='forkserver')
    loss, gradient = learn(arrays(13), losses.of_one_rank)
    for rank in range(2):
        gathered, alone = torch.load(tmp_path / f'{rank}.pt')
        assert gathered[0].item() == pytest.approx(loss.item(), abs=1e-5)
        assert torch.allclose(gathered[1:], gradient, rtol=0, atol=1e-5)
        # Without gathering it is another loss, or this test would show nothing.
        assert not torch.allclose(alone[1:], gradient, rtol=0, atol=1e-2)
