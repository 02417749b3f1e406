"""Presence in scenes: the loss term, the two prompts, whole distillations, and what is refused."""
import json
import math
from pathlib import Path
from typing import Any

import pytest
from support import warm
from support.distilling import again, here, PROGRAM
from support.tiny_data import CLASSES, write_recipe, write_scenes, write_split
import torch
from training.data.scenes import read_scene_task
from training.evaluate import EvaluateOptions, run
from training.learning.loss_inputs import Batch
from training.learning.losses import LossSettings, total
from training.recipe import Data
from training.recipe_file import read
from vl2v_ros.model import checkpoint

pytestmark = pytest.mark.usefixtures('cache_dir')
TEMPLATES = ['there is a {label}. {description}', 'there is no {label}. {description}']
BLUE, GREEN, RED, WHITE = CLASSES  # the first two are trained on
KNOWN = [[BLUE], [GREEN], [BLUE, GREEN], [GREEN, BLUE]]
MIXED = [[BLUE, RED], [WHITE], [GREEN, WHITE, RED], [RED, BLUE]]


def unit(*rows: list[float]) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor(rows), dim=1)


def test_term_is_the_asymmetric_loss_of_a_softmax_over_two_prompts() -> None:
    student, present, absent = unit([1.0, 0.2], [0.1, -1.0]), unit([1.0, 0.0]), unit([0.0, 1.0])
    truth, tau = torch.tensor([[True], [False]]), 0.5
    loss, terms = total({'presence': 1.0}, Batch(
        truth, student.requires_grad_(), prototypes=present, absent=absent), LossSettings(tau))
    loss.backward()
    expected = 0.0
    for row, there in zip(student.tolist(), (True, False), strict=True):
        yes, no = (math.exp(row[axis] / tau) for axis in (0, 1))
        score = yes / (yes + no)
        lowered = max(score - 0.05, 0)
        expected -= ((1 - score) * math.log(score) if there
                     else lowered ** 2 * math.log(1 - lowered)) / 2
    assert loss.item() == terms['presence'].item() == pytest.approx(expected, rel=1e-5)
    assert student.grad is not None and student.grad.isfinite().all() and student.grad.any()
    # A closed set has a logit per label: the difference of both similarities over tau.
    logits = (student @ (present - absent).T / tau).detach()
    assert total({'presence': 1.0}, Batch(truth, student, logits=logits), LossSettings(tau))[
        0].item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match='presence needs .*, the batch has no absent'):
        total({'presence': 1.0}, Batch(truth, student, prototypes=present), LossSettings(tau))


def scenes(folder: Path, repeat: int = 4) -> dict[str, Any]:
    """Write scenes and a split; return a recipe's data."""
    if not (folder / 'train').exists():
        write_scenes(folder / 'train', KNOWN * repeat + MIXED)
        write_scenes(folder / 'test', KNOWN + MIXED)
    return {'images': str(folder / 'train'), 'test': str(folder / 'test'),
            'split': str(write_split(folder / 'split.yaml')), 'presence': TEMPLATES, 'few': 3}


FIELDS: dict[str, Any] = {
    'loss': {'presence': 1, 'im_cst': 1}, 'batch': 4, 'temperature': 0.02,
    'stages': [{'train': 'all', 'epochs': 2, 'rate': 3e-3}],
    'few_stages': [{'train': 'all', 'epochs': 2, 'rate': 1e-3}]}


def data_of(folder: Path, **changes: Any) -> Data:
    found = {**scenes(folder), **changes}
    return Data(images=Path(found['images']), test=Path(found['test']), few=found['few'],
                split=Path(found['split']), presence=tuple(found['presence']), enrich=False,
                least_visible=changes.get('least_visible', 0.3))


def test_scenes_to_learn_from_show_no_ood_object(tmp_path: Path) -> None:
    task = read_scene_task(data_of(tmp_path))
    assert task.class_names == CLASSES and task.trained == 2
    assert task.train.labels.tolist() == [[True, False], [False, True], [True, True],
                                          [True, True]] * 4
    assert task.few is not None and task.fresh == 3
    assert task.few.labels[:3].tolist() == [
        [True, False, True, False], [False, False, False, True], [False, True, True, True]]
    assert task.few.labels[3:, :2].tolist() == task.train.labels.tolist()  # those of before
    assert not task.few.labels[3:, 2:].any()
    assert task.sets.x_id.tolist() == [0, 1, 2, 3] and task.sets.x_ood.tolist() == [4, 5, 6, 7]
    # An ood object that can hardly be seen is absent, but its scene is not learnt from.
    path = tmp_path / 'train/day/annotations.json'
    content = json.loads(path.read_text())
    content['annotations'][-2]['visible'] = 0.1  # RED of the last scene
    path.write_text(json.dumps(content))
    hidden = read_scene_task(data_of(tmp_path, few=4))
    assert len(hidden.train) == 16 and hidden.few is not None
    assert hidden.few.labels[3].tolist() == [True, False, False, False]
    with pytest.raises(ValueError, match='expected 5 scenes with ood objects, .* got 4'):
        read_scene_task(data_of(tmp_path, few=5))


def test_command_trains_and_measures_before_and_after_the_few_scenes(tmp_path: Path) -> None:
    here(tmp_path, data=scenes(tmp_path), **FIELDS)
    folder = tmp_path / 'runs/tiny_seed0'
    result = json.loads((folder / 'result.json').read_text())
    assert [row['images'] for row in result['table']] == [
        f'{figure}, {when}' for when in ('zero-shot', '3 scenes')
        for figure in ('accuracy', 'F1', 'AUROC')]
    for row in (*result['table'], *result['teacher']):
        assert row.keys() == {'images', 'X_id', 'Y_id on X_ood', 'Y_ood on X_ood'}
        assert all(0 <= row[name] <= 1 for name in row if name != 'images')
    assert result['figures'] == {'present, X_id': 0.75, 'present, Y_id on X_ood': 0.375,
                                 'present, Y_ood on X_ood': 0.625}
    first, last = (checkpoint.load(folder / f'{name}.safetensors')
                   for name in ('zero_shot', 'student'))
    assert first.spec == last.spec and last.spec.presence == tuple(TEMPLATES)
    assert last.spec.temperature == FIELDS['temperature']
    assert any(not torch.equal(one, other) for one, other in zip(
        first.state_dict().values(), last.state_dict().values(), strict=True))
    assert not list(folder.rglob('state.pt'))
    assert again(tmp_path) == result


@pytest.mark.long
def test_scenes_are_learnt(tmp_path: Path) -> None:
    """A closed set has outputs for ood objects only after it saw them."""
    result = here(tmp_path, data=scenes(tmp_path, 8), student={'closed_set': True}, **{
        **FIELDS, 'loss': {'presence': 1},
        'stages': [{'train': 'all', 'epochs': 12, 'rate': 3e-3}],
        'augmentation': {'scale': [0.9, 1.0], 'jitter': 0.0, 'hue': 0.0, 'grey': 0.0}})
    rows = {row['images']: row for row in result['table']}
    assert rows['accuracy, zero-shot'].keys() == {'images', 'X_id', 'Y_id on X_ood'}
    assert 'Y_ood on X_ood' in rows['accuracy, 3 scenes']
    assert rows['accuracy, zero-shot']['X_id'] == 1 and rows['F1, zero-shot']['X_id'] == 1
    assert not (tmp_path / 'runs/tiny_seed0/student.safetensors').exists()


@pytest.mark.parametrize(('changes', 'said'), [
    *(({'data': {'presence': wrong}}, 'data.presence: expected two templates with the place')
      for wrong in (TEMPLATES[:1], ['a', 'b'], [])),
    ({'data': {'test': None}}, 'data.presence: expected paths as data.split and data.test too'),
    ({'data': {'domains': ['day']}}, 'data.presence: expected no data.domains beside it'),
    ({'loss': {'cls': 1}}, 'expected terms of centred, .*presence for scenes, got cls'),
    ({'student': {'closed_set': True}}, 'presence alone with student.closed_set'),
    ({'few_stages': [{'epochs': 0}]}, 'stages: expected'),
    ({'data': {'few': -1}}, 'few: expected'),
    ({'few_share': 0}, 'few_share: expected a fraction'),
    ({'data': {'least_visible': 2}}, 'least_visible: expected a fraction')])
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    data = {**scenes(tmp_path), **changes.pop('data', {})}
    with pytest.raises(ValueError, match=said):
        here(tmp_path, data=data, **{**FIELDS, **changes})


def test_evaluation_of_scenes_is_refused(tmp_path: Path) -> None:
    recipe = read(write_recipe(tmp_path, scenes(tmp_path), **FIELDS))
    options = EvaluateOptions(**{**vars(recipe), 'out': tmp_path}, checkpoint=tmp_path / 'none')
    with pytest.raises(ValueError, match='data.presence: .*result.json'):
        run(options)


def test_folders_of_single_objects_are_refused(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, {**scenes(tmp_path), 'images': str(tmp_path / 'images')},
                          **FIELDS)
    done = warm.run(PROGRAM, '--config', recipe)
    assert done.returncode == 1
    assert 'distill: expected' in done.stderr and 'annotations.json' in done.stderr
    assert len(done.stderr.splitlines()) == 1
