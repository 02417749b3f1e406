"""Memory: what a backbone knew before is kept, and stands in for images there are none of."""
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file
from support.tiny_models import spec
import torch
from torch.nn import functional
from training.learning.memory import Memory, prototypes_of, recall, remember
from training.learning.trainee import build, Trainee
from training.recipe import StudentSource

CLASSES, WIDTH = 5, 8


def new_trainee(projector: str = 'mlp') -> Trainee:
    torch.manual_seed(0)
    return build(StudentSource(weights=''), spec(projector=projector, mean=(0.5, 0.4, 0.3)), None,
                 None).eval()


def write_classifier(path: Path, features: int, name: str = 'fc') -> tuple[torch.Tensor, ...]:
    """Write a classifier of a backbone with rectified features; return weight and bias."""
    rng = torch.Generator().manual_seed(1)
    weight = torch.randn(CLASSES, features, generator=rng) / features ** 0.5
    bias = torch.randn(CLASSES, generator=rng)
    save_file({f'{name}.weight': weight, f'{name}.bias': bias, 'conv.weight': torch.ones(1)}, path)
    return weight, bias


@pytest.fixture
def trainee() -> Trainee:
    return new_trainee()


@pytest.fixture
def memory(tmp_path: Path, trainee: Trainee) -> Memory:
    path = tmp_path / 'backbone.safetensors'
    write_classifier(path, trainee.student.num_features)
    prototypes = functional.normalize(torch.randn(CLASSES, WIDTH), dim=1)
    return Memory(trainee, path, prototypes)


def images(count: int = 6) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def test_features_are_those_of_the_untouched_backbone(trainee: Trainee, memory: Memory) -> None:
    with torch.no_grad():
        before = trainee.student.features(images())
        for weight in trainee.parameters():
            weight.mul_(0.5)
    trainee.train()
    memory.train()  # as whoever owns it may ask for
    memory.eval()
    assert torch.equal(memory.features(images()), before)
    assert not any(weight.requires_grad for weight in memory.parameters())
    assert not torch.equal(trainee.student.features(images()), before)


def test_scores_are_those_of_the_classifier(tmp_path: Path, trainee: Trainee,
                                            memory: Memory) -> None:
    weight, bias = write_classifier(tmp_path / 'again.safetensors', trainee.student.num_features)
    features = memory.features(images())
    logits = (features.double() @ weight.double().T + bias.double()).numpy()
    powers = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(memory.scores(features), powers / powers.sum(1, keepdims=True),
                               atol=1e-5)


def test_stand_ins_are_recognised_as_their_classes(memory: Memory) -> None:
    features = torch.rand(400, memory.weight.shape[1]) * 2
    torch.manual_seed(3)
    found = memory.stand_ins(features)
    assert found.shape == features.shape and (found >= 0).all()
    torch.manual_seed(3)
    drawn = torch.randint(CLASSES, (400,))  # what is drawn first
    scores = memory.scores(found)
    right = scores.argmax(1) == drawn
    assert right.float().mean() > 0.95 and set(drawn.tolist()) == set(range(CLASSES))
    assert scores[right].amax(1).median() > 0.9


@pytest.mark.parametrize('name', ['classifier', 'fc', 'head', 'head.fc'])
def test_a_classifier_goes_by_timms_names(tmp_path: Path, trainee: Trainee, name: str) -> None:
    path = tmp_path / 'it.safetensors'
    weight, bias = write_classifier(path, trainee.student.num_features, name)
    memory = Memory(trainee, path, torch.zeros(CLASSES, WIDTH))
    assert torch.equal(memory.weight, weight) and torch.equal(memory.bias, bias)


@pytest.mark.parametrize('classes, width, message', [
    (4, 0, r'student\.classes: expected a classifier of 4 classes over \d+ features in .*it\.'
           r'safetensors, found \(5, \d+\); use the complete weights file, and its list'),
    (CLASSES, 3, r'over \d+ features in .*, found \(5, \d+\)')])
def test_a_classifier_of_another_size_is_refused(
        tmp_path: Path, trainee: Trainee, classes: int, width: int, message: str) -> None:
    write_classifier(tmp_path / 'it.safetensors', trainee.student.num_features + width)
    with pytest.raises(ValueError, match=message):
        Memory(trainee, tmp_path / 'it.safetensors', torch.zeros(classes, WIDTH))


def test_weights_without_a_classifier_are_refused(tmp_path: Path, trainee: Trainee) -> None:
    save_file({'conv.weight': torch.ones(1), 'head.weight': torch.ones(CLASSES, 1)},  # no bias
              tmp_path / 'it.safetensors')
    with pytest.raises(ValueError, match='found none; use the complete weights file'):
        Memory(trainee, tmp_path / 'it.safetensors', torch.zeros(CLASSES, WIDTH))
    for name in ('none.safetensors', '.'):
        with pytest.raises(ValueError, match=r'student\.weights: .*expected a \*\.safetensors'):
            Memory(trainee, tmp_path / name, torch.zeros(CLASSES, WIDTH))


def test_hidden_units_begin_as_the_classifier(trainee: Trainee, memory: Memory) -> None:
    before = trainee.student.projector[0].weight.detach().clone()
    remember(trainee, memory)
    features = memory.features(images())
    hidden = trainee.student.projector[0](features)
    logits = features @ memory.weight.T + memory.bias
    torch.testing.assert_close(hidden[:, :CLASSES], 0.75 * logits - 0.5)
    assert torch.equal(trainee.student.projector[0].weight[CLASSES:], before[CLASSES:])


def test_prototypes_of_classes_that_share_a_name() -> None:
    rows = torch.eye(3)
    assert torch.equal(prototypes_of(['b', 'c', 'b'], ['a', 'b', 'c'], rows), rows[[1, 2, 1]])


@pytest.mark.parametrize('untouched', [True, False])
@pytest.mark.parametrize('more', [True, False])
def test_recall(trainee: Trainee, memory: Memory, untouched: bool, more: bool) -> None:
    features = memory.features(images())
    rows, found = recall(memory, trainee, features, None if untouched else images(), more)
    torch.testing.assert_close(rows, trainee(images())[0], atol=1e-5, rtol=1e-4)
    assert torch.equal(found.scores, memory.scores(features))
    count = 6 if more else 0
    assert found.stand_ins.shape == (count, WIDTH)
    assert found.stand_in_scores.shape == (count, CLASSES)
    assert found.prototypes is memory.prototypes
