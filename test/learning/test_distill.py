"""Distillation as a whole: recipes in, students and reports out."""
import json
from pathlib import Path
import shutil

import numpy as np
import pytest
from support.distilling import again, command, here, named
from support.tiny_data import (
    CLASSES,
    draw,
    LABELS,
    write_images,
    write_recipe,
    write_split,
    write_timm_teacher,
)
from support.tiny_models import WIDTH
import torch
from training.teachers.teacher import CallableTeacher
from vl2v_ros.images.frame import Frame
from vl2v_ros.model import checkpoint
from vl2v_ros.model.classifier import Classifier
from vl2v_ros.words import vocabulary
from vl2v_ros.words.cached_text import open_text_tower
from vl2v_ros.words.labels import check_labels

pytestmark = pytest.mark.usefixtures('cache_dir')


@pytest.mark.long
def test_command_trains_a_student_that_names_images(
        tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    recipe = write_recipe(
        tmp_path, {'hold_out': 0.2}, loss={'cls': 1.0}, stages=[
            {'train': 'all', 'epochs': 12, 'rate': 3e-3}],
        augmentation={'scale': [0.9, 1.0], 'jitter': 0.1, 'hue': 0.0, 'grey': 0.0})
    write_images(tmp_path / 'images', count=10)
    done = command('--config', recipe)
    assert done.returncode == 0, done.stderr
    assert '| domains trained on | 16 |' in done.stdout and 'Its teacher:' in done.stdout
    assert 'M_vlalign(2)' in done.stdout and 'tiny: 64 images of 4 classes' in done.stdout
    assert 'tiny, stage 1: 100%' in done.stderr  # the progress bar
    folder = tmp_path / 'runs/tiny_seed0'
    result = json.loads((folder / 'result.json').read_text())
    assert named(result)['domains trained on']['X_id'] > 0.6  # 0.25 by chance
    assert result['recipe']['loss']['cls'] == 1.0 and result['training_seconds'] > 0
    page = (folder / 'report.html').read_text(encoding='utf-8')
    assert '<h1>tiny, seed 0</h1>' in page and 'aria-label="losses"' in page
    assert not (folder / 'state.pt').exists()
    assert share_of_right_names(folder) > 0.6
    # Again: nothing is done, and the same is said.
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    capsys.readouterr()
    assert again(tmp_path) == result
    assert f'{folder} is complete; delete it to train again' in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def share_of_right_names(folder: Path) -> float:
    """Name new images as the robot does, with the text tower that lies beside the student."""
    student = checkpoint.load(folder / 'student.safetensors')
    words = check_labels(LABELS, [f'Flat: a {label}.' for label in LABELS])
    tower = open_text_tower(student.spec.text_tower, student.spec.width, folder,
                            folder / 'prompts')
    frames = [Frame(draw(name, 'day', 5000 + seed)) for name in CLASSES for seed in range(10)]
    found = Classifier(student).classify(frames, vocabulary.build(words, tower, 1))
    return float(np.mean([prediction.labels[0] == label for prediction, label
                          in zip(found, np.repeat(LABELS, 10), strict=True)]))


def test_unseen_domain_has_a_row(tmp_path: Path) -> None:
    rows = named(here(tmp_path, data={'domains': ['day']}))
    assert list(rows) == ['domains trained on', 'unseen domains', 'day', 'night']
    assert rows['unseen domains'] == {**rows['night'], 'images': 'unseen domains'}
    assert rows['night']['count'] == 20 and rows['day']['count'] == 4


@pytest.mark.long
def test_a_few_images_of_new_classes_are_learnt_beside_the_others(tmp_path: Path) -> None:
    write_images(tmp_path / 'images', count=10)
    result = here(
        tmp_path, data={'split': str(write_split(tmp_path / 'split.yaml')), 'few': 3},
        loss={'cls': 1.0}, stages=[{'train': 'all', 'epochs': 12, 'rate': 3e-3}],
        few_stages=[{'train': 'all', 'epochs': 25, 'rate': 3e-3}],
        augmentation={'scale': [0.9, 1.0], 'jitter': 0.1, 'hue': 0.0, 'grey': 0.0})
    before, after = named(result), named(result['few'])
    taught = named({'table': result['taught']})
    seen = 'domains trained on'
    assert before[seen]['count'] == after[seen]['count']
    assert after[seen]['Y_ood over all'] > before[seen]['Y_ood over all'] + 0.2
    assert taught[seen]['Y_ood over all'] > before[seen]['Y_ood over all']
    assert after[seen]['X_id over all'] > 0.5  # those of before are not forgotten
    folder = tmp_path / 'runs/tiny_seed0'
    first, last = (checkpoint.load(folder / f'{name}.safetensors').state_dict()
                   for name in ('zero_shot', 'student'))
    assert any(not torch.equal(first[name], last[name]) for name in first)
    assert (folder / 'few/report.html').exists() and not list(folder.rglob('state.pt'))
    assert again(tmp_path) == result


@pytest.mark.parametrize(('data', 'said'), [
    ({'few': 3}, 'data.few: expected an object split as data.split, and folders of images'),
    ({'few': 99, 'split': True}, 'expected 99 images of .*, for data.few, got 10')])
def test_few_images_that_are_not_there_are_refused(tmp_path: Path, data: dict, said: str) -> None:
    if 'split' in data:
        data = {**data, 'split': str(write_split(tmp_path / 'split.yaml'))}
    with pytest.raises(ValueError, match=said):
        here(tmp_path, data=data)


@pytest.mark.parametrize('device, precision', [
    ('cpu', 'bf16-mixed'), pytest.param('cuda', 'bf16-mixed', marks=pytest.mark.cuda),
    pytest.param('cuda', '16-mixed', marks=pytest.mark.cuda)])
def test_mixed_precision_gives_a_student_and_a_table(
        tmp_path: Path, device: str, precision: str) -> None:
    result = here(tmp_path, device=device, precision=precision, workers=1, views=2,
                  student={'freeze_batch_norm': True}, loss={'cls': 1, 'im_cst': 1, 'vlprox': 1})
    assert named(result)['day']['count'] == 4 and 0 <= result['figures']['mse'] <= 4
    assert ('GPU memory [MiB]' in result['cost']) == (device == 'cuda')
    student = checkpoint.load(tmp_path / 'runs/tiny_seed0/student.safetensors')
    assert all(value.isfinite().all() for value in student.state_dict().values())


def test_split_tests_classes_never_trained_on(tmp_path: Path) -> None:
    result = here(tmp_path, data={'split': str(write_split(tmp_path / 'split.yaml'))})
    assert named(result)['domains trained on'].keys() == {
        'images', 'count', 'X_id', 'X_id over all', 'Y_ood on X_ood', 'Y_ood over all'}
    assert {'ood mse', 'ood M_vlalign(3)'} <= result['figures'].keys()
    spec = checkpoint.load(tmp_path / 'runs/tiny_seed0/student.safetensors').spec
    assert spec.trained_on == '16 images of 2 classes, recipe tiny, seed 0'
    assert spec.temperature == result['figures']['temperature']
    assert spec.unknown_threshold == result['figures']['unknown threshold']


@pytest.mark.long
def test_captions_of_images_can_be_learnt_from(tmp_path: Path) -> None:
    here(tmp_path)
    images, student = tmp_path / 'images', Path('runs/tiny_seed0/student.safetensors')
    said = tmp_path / 'said.csv'
    said.write_text('file,caption\n' + ''.join(
        f'{path.relative_to(images)},one {path.parent.name.replace("_", " ")}\n'
        for path in images.rglob('*.png')))
    other = tmp_path / 'other'
    here(tmp_path, '--loss.caption', 1, '--data.captions', said, '--out', other)
    assert (other / student.relative_to('runs')).read_bytes() != (tmp_path / student).read_bytes()


def test_closed_set_writes_no_student(tmp_path: Path) -> None:
    result = here(tmp_path, student={'closed_set': True}, loss={'cls': 0.5, 'kd': 0.5})
    folder = tmp_path / 'runs/tiny_seed0'
    assert (folder / 'result.json').is_file() and (folder / 'report.html').is_file()
    assert not (folder / 'student.safetensors').exists()
    assert result['figures'].keys() == {'ECE'}
    with pytest.raises(ValueError, match='loss.weights: expected cls and kd alone with student.'
                                         'closed_set, which learns no embedding, got {.cls.: 1'):
        here(tmp_path, student={'closed_set': True}, name='other')


def test_student_of_the_teachers_own_tower_begins_with_its_table(tmp_path: Path) -> None:
    names = write_timm_teacher(tmp_path / 'timm')
    result = here(tmp_path, teacher=names, loss={'img_cos': 0.5, 'txt_cos': 0.5},
                  student={'weights': 'teacher', 'freeze_batch_norm': True},
                  stages=[{'train': 'projector', 'epochs': 1, 'rate': 1e-9}])
    assert result['figures']['mse'] < 1e-5
    spec = checkpoint.load(tmp_path / 'runs/tiny_seed0/student.safetensors').spec
    assert spec.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))  # CLIP's
    assert (spec.text_tower.model, spec.width) == ('timm_tiny.json', WIDTH)
    folder = tmp_path / 'runs/tiny_seed0'
    assert (folder / 'timm_tiny.safetensors').samefile(names['pretrained'])


@pytest.mark.long
def test_a_student_goes_on_with_ones_own_photos(tmp_path: Path) -> None:
    here(tmp_path)
    path = tmp_path / 'runs/tiny_seed0/student.safetensors'
    before = checkpoint.load(path)
    write_images(tmp_path / 'mine', CLASSES[:2], [''])
    more = {
        'student': {'weights': str(path)}, 'loss': {'cls': 1, 'img_cos': 1},
        'data': {'vocabulary': str(tmp_path / 'words.yaml'), 'sources': [
            {'images': str(tmp_path / 'mine'), 'named': True, 'teacher': 'start'}]},
        'stages': [{'train': 'projector', 'epochs': 20, 'rate': 0.01}]}
    result = here(tmp_path, name='mine', **more)
    assert result['queries']['images']['asked'] == 0  # the teacher sees no photo
    folder = tmp_path / 'runs/mine_seed0'
    after = checkpoint.load(folder / 'student.safetensors')
    for name, weight in before.state_dict().items():
        assert torch.equal(weight, after.state_dict()[name]) != name.startswith('projector'), name
    assert after.spec.trained_on == (
        f'images: 10 of mine, recipe mine, seed 0; before: {before.spec.trained_on}')
    words = vocabulary.build(check_labels(LABELS[:2]), open_text_tower(
        after.spec.text_tower, WIDTH, folder, tmp_path / 'prompts'), 1, after.spec.templates)
    frames = [Frame(draw(name, '', 100 * number + image))
              for number, name in enumerate(CLASSES[:2]) for image in range(5)]
    first, then = (torch.tensor(Classifier(one).embed(frames)) for one in (before, after))
    assert (first * then).sum(1).mean() > 0.9  # by img_cos; 0 were a right angle
    margin = torch.tensor(words.prototypes[0] - words.prototypes[1])
    own = torch.tensor([1.0, -1.0]).repeat_interleave(5)
    assert (then @ margin * own).mean() > (first @ margin * own).mean() + 0.001


def shades() -> CallableTeacher:
    """Return a black box: mean colours, and lengths of prompts."""
    return CallableTeacher(lambda images: images.reshape(len(images), -1, 3).mean(1) + 1,
                           lambda prompts: [[len(prompt), 60, 60] for prompt in prompts],
                           'shades', 3, 16)


def test_teacher_may_be_a_black_box(tmp_path: Path, cache_dir: Path) -> None:
    here(tmp_path, '--views', 2, teacher={'model': 'test_distill:shades'})
    folder = tmp_path / 'runs/tiny_seed0'
    student = checkpoint.load(folder / 'student.safetensors')
    assert student.spec.width == 3 and student.spec.teacher == 'shades'
    tower = open_text_tower(student.spec.text_tower, 3, folder, cache_dir)
    prompt = f'a photo of a {LABELS[0]}. Flat: a {LABELS[0]}.'
    row = np.array([len(prompt), 60, 60])
    np.testing.assert_allclose(tower.encode([prompt]).rows[0], row / np.linalg.norm(row),
                               atol=1e-6)  # from the cache


@pytest.mark.long
def test_changed_images_are_embedded_anew(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    here(tmp_path)
    capsys.readouterr()
    first = CLASSES[0]
    path = next(tmp_path.glob(f'images/day/{first}/*.png'))
    write_images(tmp_path / 'more', [CLASSES[1]], ['night'], 1)
    shutil.copy(tmp_path / f'more/night/{CLASSES[1]}/0.png', path)
    here(tmp_path, name='second')
    said = capsys.readouterr().out
    assert said.count('are new or have changed') == 1 and '1 of ' in said
    shutil.rmtree(tmp_path / 'teacher')  # one of other weights, under the same name
    write_timm_teacher(tmp_path / 'teacher')
    for suffix in ('json', 'safetensors'):
        (tmp_path / f'teacher/timm_tiny.{suffix}').rename(tmp_path / f'teacher/tiny.{suffix}')
    here(tmp_path, name='third')
    assert '32 of 32 images are new' in capsys.readouterr().out
