"""Distillation from sources as a whole: a recording as the teacher, and a backbone's memory."""
import hashlib
import itertools
import json
import os
from pathlib import Path
import signal
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file
from support import warm
from support.tiny_data import CLASSES, LABELS, write_images, write_recipe
from test_distill import shades
import timm
import torch
from training.distill import distill, make_fabric, parse
from training.learning import mixture
from training.learning.batches import Batches
from training.learning.loop import Stopped
from training.recipe import TeacherSource
from training.teachers.opening import open_teacher, PROMPTS
from vl2v_ros.model import checkpoint
from vl2v_ros.words import recording
from vl2v_ros.words.cached_text import NoTower, open_text_tower
from vl2v_ros.words.recording import Recording
import yaml

pytestmark = [pytest.mark.long, pytest.mark.usefixtures('cache_dir')]
KNOWN = ('fox', 'crane', 'fox')  # what the backbone's classifier tells apart
LOSS = {'img_cos': 1, 'centred': 0.5, 'cls': 0.1, 'keep': 0.1, 'stand_in': 0.1}
STUDENT = Path('runs/tiny_seed0/student.safetensors')


def write(folder: Path, loss: dict[str, float] = LOSS, student: dict[str, Any] | None = None,
          **fields: Any) -> Path:
    """Write three sources, a recording of some answers, a backbone's file and a recipe."""
    if not (folder / 'named').exists():
        write_images(folder / 'named', CLASSES[:2], ('day',), 4)
        write_images(folder / 'told', CLASSES[2:], ('day', 'night'), 3)
        write_recipe(folder)
        (folder / 'names.yaml').write_text(yaml.safe_dump(dict(zip(CLASSES, LABELS, strict=True))))
        (folder / 'classes.yaml').write_text(yaml.safe_dump(list(KNOWN)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            weights = timm.create_model('test_resnet', num_classes=len(KNOWN)).state_dict()
        save_file(weights, folder / 'backbone.safetensors')
        write_recording(folder)
    return write_recipe(
        folder, data={'templates': ['a photo of a {label}'], 'sources': [
            {'images': str(folder / 'told'), 'teacher': 'known', 'part': 2, 'without': ['night']},
            {'images': str(folder / 'named'), 'names': str(folder / 'names.yaml')},
            {'images': str(folder / 'told')}]},
        teacher={'model': str(folder / 'teacher/tiny.json'),
                 'pretrained': str(folder / 'teacher/tiny.safetensors'),
                 'recording': str(folder / 'answers.safetensors')},
        student={'weights': str(folder / 'backbone.safetensors'), 'projector': 'mlp',
                 'classes': str(folder / 'classes.yaml'), 'dropout': 0.2,
                 'freeze_batch_norm': True, **(student or {})},
        **{'stages': [{'train': 'projector', 'epochs': 1, 'rate': 1e-3},
                      {'train': 'backbone', 'epochs': 1, 'rate': 1e-4}], 'loss': loss,
           'save_every': 1, **fields})


def write_recording(folder: Path) -> None:
    """Record answers to all prompts, some written otherwise, and to images by day."""
    teacher = open_teacher(TeacherSource(str(folder / 'teacher/tiny.json'),
                                         str(folder / 'teacher/tiny.safetensors')))
    names = (*LABELS, *dict.fromkeys(KNOWN))
    prompts = tuple(f'A photo of a {name.title()}.' for name in names)
    files = sorted((folder / 'told/day').rglob('*.png'))
    rows = np.random.default_rng(0).normal(size=(len(files), teacher.width))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    digests = [list(hashlib.sha256(file.read_bytes()).digest()) for file in files]
    recording.write(Recording(
        teacher.identity, teacher.image_size, 'mine', prompts, names,
        teacher.encode(prompts).rows.astype(np.float16), np.array(digests, np.uint8),
        rows.astype(np.float16)), folder / 'answers.safetensors')


def here(folder: Path, *arguments: object, **fields: Any) -> dict[str, Any]:
    recipe = parse(['--config', str(write(folder, **fields)), *map(str, arguments)])
    return distill(recipe, make_fabric(recipe))


def test_a_student_is_distilled_from_sources(tmp_path: Path) -> None:
    done = warm.run('training/distill.py', '--config', write(tmp_path), '--resident',
                    '--data.sources.0.part', 3)
    assert done.returncode == 0, done.stderr
    assert 'tiny: 6 of told, 8 of named, 12 of told; student test_resnet' in done.stdout
    assert 'training [s] ' in done.stdout
    folder = (tmp_path / STUDENT).parent
    result = json.loads((folder / 'result.json').read_text())
    assert result['recipe']['data']['sources'][0]['part'] == 3 and result['recipe']['resident']
    assert result['queries'] == {
        'images': {'asked': 6, 'from cache': 6, 'missing': 0},
        'prompts': {'asked': 6, 'from cache': 6, 'missing': 0}}
    student = checkpoint.load(folder / 'student.safetensors')
    assert student.spec.text_tower.recording == PROMPTS == 'known_prompts.safetensors'
    assert student.spec.trained_on.startswith('images: 6 of told, 8 of named')
    assert len(recording.read(folder / PROMPTS).image_rows) == 0
    # On a robot that has neither the tower nor a network nor a cache.
    for name in ('tiny.json', 'tiny.safetensors'):
        (folder / name).unlink()
    tower = open_text_tower(student.spec.text_tower, student.spec.width, folder,
                            tmp_path / 'robot')
    assert tower.names == tuple(sorted({*LABELS, *KNOWN}))
    found = tower.encode(['a photo of a crane', 'a photo of a red circle'])
    np.testing.assert_allclose(np.linalg.norm(found.rows, axis=1), 1, atol=1e-5)
    with pytest.raises((ValueError, NoTower)):
        tower.encode(['a photo of a whale'])


@pytest.mark.parametrize('arguments', [(), ('--resident',)])
def test_a_stopped_run_ends_with_the_same_weights(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    here(tmp_path, *arguments)
    whole = (tmp_path / STUDENT).read_bytes()
    make, other = mixture.mixture_batches, ('--out', tmp_path / 'other')

    def stopping(*given: Any) -> Batches:
        batches = make(*given)

        def draw(epoch: int, step: int) -> Any:
            for number, batch in enumerate(itertools.islice(batches.draw(epoch, step), 9)):
                if (epoch, number) == (1, 1):
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch
        return Batches(batches.per_epoch, draw)
    with monkeypatch.context() as patch:
        patch.setattr(mixture, 'mixture_batches', stopping)
        with pytest.raises(Stopped, match='interrupted in stage 2 at step 2 of 3'):
            here(tmp_path, *arguments, *other)
    here(tmp_path, *arguments, *other)
    assert (tmp_path / 'other/tiny_seed0' / STUDENT.name).read_bytes() == whole


@pytest.mark.parametrize('loss', [
    {'img_cos': 1, 'im_cst': 1}, {'cls': 1, 'txt_cos': 1}, {'keep': 1}, {'stand_in': 1}])
def test_terms_alone(tmp_path: Path, loss: dict[str, float]) -> None:
    here(tmp_path, loss=loss, student={'freeze_batch_norm': False, 'projector': 'linear'},
         stages=[{'train': part, 'epochs': 1, 'rate': 1e-3} for part in ('projector', 'all')])
    student = checkpoint.load(tmp_path / STUDENT)
    assert all(value.isfinite().all() for value in student.state_dict().values())


def test_answers_alone_need_no_names(tmp_path: Path) -> None:
    recipe = yaml.safe_load(write(tmp_path, loss={'img_cos': 1.0}).read_text())
    del recipe['student']['classes'], recipe['data']['sources'][1]['names']
    (tmp_path / 'recipe.yaml').write_text(yaml.safe_dump(recipe))
    recipe = parse(['--config', str(tmp_path / 'recipe.yaml')])
    result = distill(recipe, make_fabric(recipe))
    assert result['queries']['prompts']['asked'] == 0 and (tmp_path / STUDENT).is_file()


def test_a_black_box_takes_its_recorded_prompts_along(tmp_path: Path, cache_dir: Path) -> None:
    write(tmp_path)
    teacher = shades()
    prompts = tuple(f'a photo of a {name}' for name in (*LABELS, *dict.fromkeys(KNOWN)))
    recording.write(Recording(
        teacher.identity, 0, 'mine', prompts, prompts, teacher.encode(prompts).rows.astype('f2'),
        np.zeros((0, 32), np.uint8), np.zeros((0, 3), np.float16)), tmp_path / 'box.safetensors')
    result = here(
        tmp_path, '--data.sources.0.teacher', 'all', '--teacher.model',
        'test_distill_sources:shades', '--teacher.recording', tmp_path / 'box.safetensors',
        '--data.templates', 'a photo of a {label}', 'the {label}')
    # What is recorded by one of the templates is not asked for by the other.
    assert result['queries']['prompts'] == {
        'asked': len(prompts), 'from cache': len(prompts), 'missing': 0}
    spec = checkpoint.load(tmp_path / STUDENT).spec
    assert spec.text_tower.recording == PROMPTS and spec.width == 3
    tower = open_text_tower(spec.text_tower, 3, (tmp_path / STUDENT).parent, tmp_path / 'robot')
    assert tower.kept(prompts) == set(prompts)


@pytest.mark.parametrize(('arguments', 'message'), [
    (('--batch', 2), 'batch: expected at least one image of each of 3 sources'),
    (('--data.sources.1.teacher', 'known'), 'the caches have no answer of sha256:.*named'),
    (('--teacher.recording', 'none.safetensors'), 'recording: expected a file, found none at')])
def test_what_does_not_fit_says_what_to_do(tmp_path: Path, arguments: tuple[object, ...],
                                           message: str) -> None:
    with pytest.raises(ValueError, match=message):
        here(tmp_path, *arguments)


def test_shards_beside_sources_are_refused_at_once(tmp_path: Path,
                                                   capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):  # by the command line's own error
        here(tmp_path, '--data.shards')
    assert 'data.sources: expected no data.shards' in ' '.join(capsys.readouterr().err.split())


def test_a_backbone_without_its_classifier_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    bare = timm.create_model('test_resnet', num_classes=0).state_dict()
    save_file(bare, tmp_path / 'backbone.safetensors')
    with pytest.raises(ValueError, match=r'student\.classes: expected a classifier of 3 classes '
                                         'over 96 features in .*, found none; use the complete'):
        here(tmp_path)
    (tmp_path / 'classes.yaml').write_text('[fox, crane]')
    save_file(timm.create_model('test_resnet', num_classes=3).state_dict(),
              tmp_path / 'backbone.safetensors')
    with pytest.raises(ValueError, match=r'of 2 classes over 96 features in .*, found \(3, 96\)'):
        here(tmp_path)
