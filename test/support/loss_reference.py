"""The terms of the loss, an image at a time in float64 and without torch, and their inputs."""
from collections.abc import Callable
import math

import numpy as np
import torch
from torch import Tensor
from training.learning import losses
from training.learning.loss_inputs import Batch, Recalled

Arrays = dict[str, np.ndarray]
SETTINGS = losses.LossSettings(temperature=0.07, k=3, kd_temperature=2.0)
ALL_PARTS = {'teacher', 'prototypes', 'captions'}
NEEDS = {'cls': {'prototypes'}, 'mse': {'teacher'}, 'im_cst': {'teacher'},
         'vlprox': {'teacher', 'prototypes'}, 'img_cos': {'teacher'}, 'txt_cos': {'prototypes'},
         'kd': {'teacher', 'prototypes'}, 'caption': {'captions'}, 'centred': {'teacher'},
         'keep': {'memory'}, 'stand_in': {'memory'}}
MEMORY = ('scores', 'columns', 'stand_ins', 'stand_in_scores')  # arrays of Recalled


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
    return losses.TERMS[term](of, settings, losses.of_one_rank)
