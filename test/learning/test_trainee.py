"""Trainees: their first weights, and which of their parts a stage trains."""
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file
from support import warm
from support.tiny_data import TIMM_CONFIG, write_timm_teacher
from support.tiny_models import spec, student, write_tower
import timm
import torch
from torch import nn
from training.learning.trainee import BATCH_NORMS, build, mean_and_std, train_part, Trainee
from training.recipe import StudentSource
from training.teachers.teacher import OpenClipTeacher
from vl2v_ros.model import checkpoint
from vl2v_ros.words.encoder import TextTower

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def trainee_of(classes: int | None = None, weights: str = '', tower: nn.Module | None = None,
               **fields: Any) -> Trainee:
    torch.manual_seed(0)
    return build(StudentSource(weights=weights), spec(**fields), classes, tower)


def learning(trainee: Trainee) -> set[str]:
    """Return which parts have weights that learn; each has all or none of them."""
    found: dict[str, set[bool]] = {}
    for name, weight in trainee.named_parameters():
        part = name.split('.')[1] if name.startswith('student') else 'head'
        found.setdefault(part, set()).add(weight.requires_grad)
    assert all(len(flags) == 1 for flags in found.values()), found
    return {part for part, flags in found.items() if flags == {True}}


# What a stage trains

@pytest.mark.parametrize('backbone', ['test_resnet', 'test_efficientnet', 'test_vit'])
@pytest.mark.parametrize(('part', 'expected', 'of_closed_set'), [
    ('all', {'backbone', 'projector'}, {'backbone', 'head'}),
    ('backbone', {'backbone'}, {'backbone'}),
    ('projector', {'projector'}, {'head'})])
def test_stage_trains_its_parts_only(
        backbone: str, part: str, expected: set[str], of_closed_set: set[str]) -> None:
    for classes, parts in ((None, expected), (5, of_closed_set)):
        trainee = trainee_of(classes, backbone=backbone, projector='mlp')
        for first in ('backbone', 'projector'):  # whatever was trained before
            train_part(trainee, first, freeze_batch_norm=True)
            train_part(trainee, part, freeze_batch_norm=False)
            assert learning(trainee) == parts
            modes = {module.training for module in trainee.student.backbone.modules()}
            assert modes == {part != 'projector'}
            assert trainee.student.projector.training == (part != 'backbone')
            assert classes is None or trainee.head.training == (part != 'backbone')


@pytest.mark.parametrize('backbone', ['test_resnet', 'test_efficientnet'])
def test_frozen_batch_norm_keeps_its_statistics_and_learns_its_scale(backbone: str) -> None:
    for freeze in (True, False):
        trainee = trainee_of(backbone=backbone)
        norms = [module for module in trainee.modules() if isinstance(module, BATCH_NORMS)]
        assert norms
        before = {name: value.clone() for name, value in trainee.state_dict().items()}
        train_part(trainee, 'all', freeze)
        assert {norm.training for norm in norms} == {not freeze}
        assert all(norm.weight.requires_grad and norm.bias.requires_grad for norm in norms)
        assert {module.training for module in trainee.student.modules()
                if not isinstance(module, BATCH_NORMS)
                and not any(isinstance(part, BATCH_NORMS) for part in module.modules())} >= {True}
        optimizer = torch.optim.SGD(trainee.parameters(), 0.1)
        trainee(IMAGES)[0].sum().backward()
        optimizer.step()
        changed = {name.rpartition('.')[2] for name, value in trainee.state_dict().items()
                   if not torch.equal(value, before[name])}
        assert 'weight' in changed
        assert ('running_mean' in changed) == (not freeze)
        assert ('running_var' in changed) == (not freeze)


def test_aligning_leaves_the_backbone_as_it_is() -> None:
    trainee = trainee_of()
    train_part(trainee, 'projector', freeze_batch_norm=False)
    before = {name: value.clone() for name, value in trainee.state_dict().items()}
    optimizer = torch.optim.SGD(trainee.parameters(), 0.1)
    trainee(IMAGES)[0].sum().backward()
    optimizer.step()
    changed = {name for name, value in trainee.state_dict().items()
               if not torch.equal(value, before[name])}
    assert changed == {'student.projector.weight', 'student.projector.bias'}


@pytest.mark.parametrize('backbone', ['test_resnet', 'test_vit', 'test_efficientnet'])
def test_embeddings_are_unit_rows_and_a_head_gives_logits(backbone: str) -> None:
    rows, logits = trainee_of(backbone=backbone).eval()(IMAGES)
    assert rows.shape == (4, 8) and logits is None
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(4))
    assert trainee_of(5, backbone=backbone).eval()(IMAGES)[1].shape == (4, 5)


# First weights

def test_random_weights_depend_on_the_seed_alone() -> None:
    rows = [trainee_of().eval()(IMAGES)[0] for _ in range(2)]
    assert torch.equal(*rows)
    torch.manual_seed(1)
    assert not torch.equal(rows[0], build(StudentSource(weights=''), spec(), None, None)
                           .eval()(IMAGES)[0])


@pytest.mark.parametrize('backbone', ['test_resnet', 'test_vit', 'test_efficientnet'])
def test_weights_of_a_file(tmp_path: Path, backbone: str) -> None:
    torch.manual_seed(5)
    size = {'img_size': 32} if backbone == 'test_vit' else {}
    model = timm.create_model(backbone, num_classes=10, **size)  # as in the hub: with classifier
    save_file({name: weight.half() if weight.is_floating_point() else weight
               for name, weight in model.state_dict().items()}, tmp_path / 'weights.safetensors')
    trainee = trainee_of(weights=str(tmp_path / 'weights.safetensors'), backbone=backbone)
    model = model.half().float().eval()
    model.reset_classifier(0)
    student = trainee.student.eval()
    torch.testing.assert_close(student.features(IMAGES),
                               model((IMAGES - student.mean) / student.std), atol=1e-4, rtol=1e-4)
    assert all(weight.dtype == torch.float32 for weight in trainee.parameters())


def test_weights_of_a_wrong_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / 'weights.safetensors'
    with pytest.raises(ValueError, match=f'student.weights: {path} does not fit test_resnet.*No '
                                         'such file'):
        trainee_of(weights=str(path))
    save_file(timm.create_model('test_vit', num_classes=0).state_dict(), path)
    with pytest.raises(ValueError, match=r'does not fit test_resnet: expected a \*.safetensors'):
        trainee_of(weights=str(path))
    with pytest.raises(ValueError, match='(?s)does not fit test_vit.*size mismatch for pos_embed'):
        trainee_of(weights=str(path), backbone='test_vit')  # they are for 160 px, not for 32
    path.write_bytes(b'no weights')
    with pytest.raises(ValueError, match='student.weights: .* does not fit'):
        trainee_of(weights=str(path))


def test_a_student_goes_on(tmp_path: Path) -> None:
    first = student(1, projector='mlp', temperature=0.02, unknown_threshold=0.3, teacher='its own')
    checkpoint.save(first, tmp_path / 'first.safetensors')
    found = trainee_of(weights=str(tmp_path / 'first.safetensors'), projector='mlp').student.eval()
    with torch.no_grad():
        np.testing.assert_allclose(found(IMAGES), first(IMAGES), atol=1e-6)
    # What was calibrated on it stays; the rest is what the recipe says.
    assert (found.spec.temperature, found.spec.unknown_threshold) == (0.02, 0.3)
    assert found.spec.teacher == ''


def test_students_that_do_not_fit_the_recipe_are_refused(tmp_path: Path) -> None:
    path = tmp_path / 'first.safetensors'
    checkpoint.save(student(), path)
    for fields, message in (
            ({'projector': 'mlp'}, 'projector mlp, as the recipe says, found linear'),
            ({'image_size': 64}, 'with image_size 64, as the recipe says, found 32'),
            ({'templates': ('a {label}',)}, "with templates .'a {label}',., as the recipe says"),
            ({'text_tower': TextTower('a', 'b', 'a/b')}, 'beside the text tower a/b, found one ')):
        with pytest.raises(ValueError, match=f'student.weights: expected .*{message}'):
            trainee_of(weights=str(path), **fields)
    whole = path.read_bytes()
    for size in (len(whole) - 8, 20):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match='student.weights: .* does not fit test_resnet'):
            trainee_of(weights=str(path))


HUB = """
import sys
from support.tiny_models import spec
from training.learning.trainee import build
from training.recipe import StudentSource
try:
    build(StudentSource(weights='hub'), spec(), None, None)
except ValueError as error:
    print(error)
"""


def test_weights_of_a_hub_out_of_reach(tmp_path: Path) -> None:
    said = warm.python(HUB, HF_HUB_OFFLINE='1', HF_HOME=str(tmp_path),
                       TORCH_HOME=str(tmp_path))
    assert "student.weights: timm's weights of test_resnet could not be loaded (" in said
    assert 'connect to the network, name a file with weights, or let it begin as its' in said


@pytest.mark.parametrize('backbone', ['test_resnet', 'test_efficientnet'])
def test_student_begins_as_its_teacher(tmp_path: Path, backbone: str) -> None:
    config = {**TIMM_CONFIG, 'vision_cfg': {**TIMM_CONFIG['vision_cfg'],
                                            'timm_model_name': backbone}}
    names = write_timm_teacher(tmp_path, config)
    teacher = OpenClipTeacher(TextTower(names['model'], names['pretrained']))
    trainee = trainee_of(
        weights='teacher', tower=teacher.model.visual, backbone=backbone,
        mean=tuple(teacher.mean.flatten().tolist()), std=tuple(teacher.std.flatten().tolist()))
    with torch.no_grad():
        rows = trainee.eval()(IMAGES)[0].numpy()
    np.testing.assert_allclose(rows, teacher.embed_images(IMAGES), atol=1e-5)
    assert abs(rows[0] - rows[1]).max() > 1e-3  # they depend on the image
    # The teacher itself stays frozen, and does not learn with it.
    assert not any(weight.requires_grad for weight in teacher.model.parameters())
    addresses = {weight.data_ptr() for weight in teacher.model.parameters()}
    assert not addresses & {weight.data_ptr() for weight in trainee.parameters()}


def test_teachers_that_are_no_beginning_are_refused(tmp_path: Path) -> None:
    names = write_timm_teacher(tmp_path / 'timm')
    tower = OpenClipTeacher(TextTower(names['model'], names['pretrained'])).model.visual
    with pytest.raises(ValueError, match='image tower is no test_efficientnet'):
        trainee_of(weights='teacher', tower=tower, backbone='test_efficientnet')
    with pytest.raises(ValueError, match='needs the projector linear, got mlp'):
        trainee_of(weights='teacher', tower=tower, projector='mlp')
    write_tower(tmp_path / 'other')
    other = OpenClipTeacher(TextTower('tiny.json', 'tiny.safetensors'), tmp_path / 'other')
    for wrong in (other.model.visual, None):
        with pytest.raises(ValueError, match="'teacher' needs an open_clip teacher whose image "
                                             'tower is a timm model'):
            trainee_of(weights='teacher', tower=wrong)


def test_mean_and_std_are_those_of_the_backbone() -> None:
    assert mean_and_std('test_vit') == {'mean': (0.5,) * 3, 'std': (0.5,) * 3}
    assert mean_and_std('resnet50')['mean'] == (0.485, 0.456, 0.406)
    assert spec(**mean_and_std('no_such_model')) == spec()
