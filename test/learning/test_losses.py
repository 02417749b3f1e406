"""Terms of the loss against explicit float64 sums: values, gradients, limits, two processes."""
from collections.abc import Callable
from dataclasses import replace
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, Tensor
from torch.distributed.nn.functional import all_gather
from training.learning import losses
from training.learning.asymmetric_loss import asymmetric_loss
from training.learning.loss_inputs import Batch, Recalled

Arrays = dict[str, np.ndarray]
SETTINGS = losses.LossSettings(temperature=0.07, k=3, kd_temperature=2.0)
ALL_PARTS = {'teacher', 'prototypes', 'captions'}
NEEDS = {'cls': {'prototypes'}, 'mse': {'teacher'}, 'im_cst': {'teacher'},
         'vlprox': {'teacher', 'prototypes'}, 'img_cos': {'teacher'}, 'txt_cos': {'prototypes'},
         'kd': {'teacher', 'prototypes'}, 'caption': {'captions'}, 'centred': {'teacher'},
         'keep': {'memory'}, 'stand_in': {'memory'}}
MEMORY = ('scores', 'columns', 'stand_ins', 'stand_in_scores')  # arrays of Recalled


# The reference: one image at a time, float64, no torch.

def softmax(row: np.ndarray) -> np.ndarray:
    powers = [math.exp(value - max(row)) for value in row]
    return np.array([power / sum(powers) for power in powers])


def divergence(first: np.ndarray, second: np.ndarray) -> float:
    return sum(p * math.log(p / q) for p, q in zip(first, second, strict=True) if p > 0)


def label_logits(arrays: Arrays, image: int, settings: losses.LossSettings) -> np.ndarray:
    if 'logits' in arrays:
        return arrays['logits'][image]
    return np.array([arrays['student'][image] @ row / settings.temperature
                     for row in arrays['prototypes']])


def contrastive(first: np.ndarray, second: np.ndarray, temperature: float) -> float:
    loss = 0.0
    for one, other in ((first, second), (second, first)):
        for image, row in enumerate(one):
            scores = softmax(np.array([row @ column / temperature for column in other]))
            loss -= math.log(scores[image]) / (2 * len(first))
    return loss


def one_image(term: str, arrays: Arrays, image: int, settings: losses.LossSettings) -> float:
    student, label, tau = arrays['student'][image], arrays['labels'][image], settings.temperature
    if term == 'cls':
        return -math.log(softmax(label_logits(arrays, image, settings))[label])
    if term == 'txt_cos':
        return -(student @ arrays['prototypes'][label])
    if term in {'keep', 'stand_in'}:
        row, scores = (student, arrays['scores'][image]) if term == 'keep' else (
            arrays['stand_ins'][image], arrays['stand_in_scores'][image])
        return divergence(scores, softmax(np.array(
            [row @ column / tau for column in arrays['columns']])))
    teacher = arrays['teacher'][image]
    if term == 'centred':
        middle = sum(arrays['teacher']) / len(arrays['teacher'])
        one, other = student - middle, teacher - middle
        lengths = math.sqrt(one @ one) * math.sqrt(other @ other)
        return -(one @ other) / lengths if lengths else 0.0
    if term == 'mse':
        return sum((s - t) ** 2 for s, t in zip(student, teacher, strict=True))
    if term == 'img_cos':
        return -(student @ teacher)
    near = np.array([teacher @ row for row in arrays['prototypes']])
    if term == 'kd':
        hot = settings.kd_temperature
        return hot ** 2 * divergence(softmax(near / (tau * hot)),
                                     softmax(label_logits(arrays, image, settings) / hot))
    assert term == 'vlprox'
    best = sorted(range(len(near)), key=lambda column: -near[column])[:settings.k]
    if best[0] != label:
        return 0.0
    return divergence(softmax(near[best] / tau), softmax(np.array(
        [student @ arrays['prototypes'][column] for column in best]) / tau))


def reference(term: str, arrays: Arrays, settings: losses.LossSettings) -> float:
    if term in {'im_cst', 'caption'}:
        other = arrays['teacher' if term == 'im_cst' else 'captions']
        return contrastive(arrays['student'], other, settings.temperature)
    count = len(arrays['stand_ins' if term == 'stand_in' else 'labels'])
    return sum(one_image(term, arrays, image, settings) for image in range(count)) / count


def slope(function: Callable[[np.ndarray], float], at: np.ndarray) -> np.ndarray:
    """Return the gradient by central differences."""
    gradient = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[place] = 1e-6
        gradient[place] = (function(at + step) - function(at - step)) / 2e-6
    return gradient


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def arrays(seed: int, count: int = 6, width: int = 5, classes: int = 7) -> Arrays:
    """Make embeddings that know some of the labels; what float32 holds, as float64."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    prototypes = unit(random.normal(size=(classes, width)))
    teacher = unit(prototypes[labels] + 0.5 * random.normal(size=(count, width)))
    made = {'student': unit(teacher + 0.4 * random.normal(size=(count, width))),
            'teacher': teacher, 'prototypes': prototypes,
            'captions': unit(teacher + 0.4 * random.normal(size=(count, width))),
            'columns': unit(random.normal(size=(4, width))),
            'scores': random.dirichlet(np.ones(4), count),
            'stand_ins': unit(random.normal(size=(count, width))),
            'stand_in_scores': random.dirichlet(np.ones(4), count)}
    return {'labels': labels, **{
        name: rows.astype(np.float32).astype(np.float64) for name, rows in made.items()}}


def batch(made: Arrays, learned: str = 'student') -> Batch:
    parts = {name: torch.tensor(rows, dtype=torch.float32, requires_grad=name == learned)
             for name, rows in made.items() if name != 'labels'}
    if 'scores' in parts:
        parts['memory'] = Recalled(*(parts.pop(name) for name in MEMORY))
    return Batch(labels=torch.tensor(made['labels']), **parts)


def learner(term: str) -> str:
    """Return what a term has a gradient for."""
    return 'stand_ins' if term == 'stand_in' else 'student'


def gradient_of(given: Batch, learned: str) -> np.ndarray:
    return getattr(given.memory if learned == 'stand_ins' else given, learned).grad.numpy()


def value(term: str, of: Batch, settings: losses.LossSettings = SETTINGS) -> Tensor:
    return losses.TERMS[term](of, settings, losses.identity)


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
    assert set(losses.TERMS) == set(NEEDS)


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
    ({'cls': 1, 'im_cts': 1}, r"terms of cls, .*stand_in, got 'im_cts'"),
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


# Scenes

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
        learn(made, all_ranks), learn(made, losses.identity))])  # (2, 1 + parameters)
    distributed.all_reduce(results)  # the mean, as DistributedDataParallel takes of gradients
    torch.save(results / 2, folder / f'{rank}.pt')
    distributed.destroy_process_group()


def test_two_processes_learn_as_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(rank_learns, (tmp_path,), nprocs=2)
    loss, gradient = learn(arrays(13), losses.identity)
    for rank in range(2):
        gathered, alone = torch.load(tmp_path / f'{rank}.pt')
        assert gathered[0].item() == pytest.approx(loss.item(), abs=1e-5)
        assert torch.allclose(gathered[1:], gradient, rtol=0, atol=1e-5)
        # Without gathering it is another loss, or this test would show nothing.
        assert not torch.allclose(alone[1:], gradient, rtol=0, atol=1e-2)
