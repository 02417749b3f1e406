"""The mini teacher's training, on pictures and words made here."""
from collections.abc import Iterator
import json
from pathlib import Path
import signal
import time

import cv2
import numpy as np
import pytest
from safetensors.torch import load_file
from support import warm
import torch
from training import pretrain_teacher
from training.data.image_index import read_folders
from training.teachers.teacher import OpenClipTeacher
from vl2v_ros.words.encoder import TextTower

PROGRAM = 'training/pretrain_teacher.py'
COLOURS = {'red ball': (40, 30, 220), 'green ball': (40, 200, 40), 'blue ball': (220, 60, 30)}
CONFIG = {'embed_dim': 16,
          'vision_cfg': {'timm_model_name': 'test_resnet', 'timm_model_pretrained': False,
                         'timm_pool': '', 'timm_proj': 'linear', 'image_size': 32},
          'text_cfg': {'context_length': 77, 'vocab_size': 49408, 'width': 16, 'heads': 2,
                       'layers': 1}}


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('pretrain')
    rng = np.random.default_rng(0)
    words, facts = {}, {}
    for name, colour in COLOURS.items():
        for domain in ('plain', 'noisy'):
            target = path / 'images' / domain / name
            target.mkdir(parents=True)
            for number in range(8):
                picture = np.full((40, 40, 3), rng.integers(90, 160), np.uint8)
                cv2.circle(picture, rng.integers(14, 26, 2).tolist(), 12, colour, -1)
                if domain == 'noisy':
                    picture = cv2.add(picture, rng.integers(0, 40, picture.shape, np.uint8))
                cv2.imwrite(str(target / f'{number}.png'), picture)
        words[name] = f'A round thing, all {name.split()[0]}.'
        facts[name] = {'names': [f'{name.split()[0]} sphere'], 'kinds': ['ball'],
                       'colours': [name.split()[0]], 'shapes': ['round'],
                       'materials': ['rubber'], 'uses': ['playing'], 'looks': [words[name]]}
    # JSON is YAML.
    (path / 'words.yaml').write_text(json.dumps({'labels': words}))
    (path / 'facts.yaml').write_text(json.dumps(facts))
    (path / 'tiny_clip_pretrained.json').write_text(json.dumps(CONFIG))
    return path


@pytest.fixture(scope='module', autouse=True)
def one_thread() -> Iterator[None]:
    """With several, the small steps of these towers take longer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('OMP_NUM_THREADS', '1')
        yield


def options(folder: Path, out: Path, *more: str) -> list[str]:
    return ['--images', str(folder / 'images'),
            '--config', str(folder / 'tiny_clip_pretrained.json'),
            '--captions', str(folder / 'facts.yaml'), '--descriptions', str(folder / 'words.yaml'),
            '--out', str(out), '--image-size', '32', '--batch', '12', '--workers', '0',
            '--device', 'cpu', '--text-steps', '20', '--epochs', '15', '--image-rate', '3e-3',
            '--save-every', '10', *more]


@pytest.fixture(scope='module')
def trained(folder: Path) -> Path:
    out = folder / 'tiny.safetensors'
    done = warm.run(PROGRAM, *options(folder, out, '--test', str(folder / 'images')))
    assert done.returncode == 0, done.stderr
    assert 'all: ' in done.stdout
    assert float(done.stdout.split('all: ')[1].split('%')[0]) > 60  # chance: 33
    return out


@pytest.mark.long
def test_what_is_written_is_a_teacher(folder: Path, trained: Path) -> None:
    teacher = OpenClipTeacher(TextTower('tiny_clip_pretrained.json', trained.name), folder)
    rows = teacher.embed_images(torch.rand(2, 3, 32, 32))
    assert rows.shape == (2, 16)
    assert teacher.encode(['a photo of a red ball.']).rows.shape == (1, 16)
    assert all(weight.dtype == torch.float16 for weight in load_file(trained).values())
    assert not list(folder.glob('tiny.state*'))


@pytest.mark.parametrize('stage, number', [
    ('text tower', signal.SIGKILL), ('image tower', signal.SIGINT)])
@pytest.mark.long
def test_a_stopped_run_resumes_to_the_same_model(folder: Path, trained: Path, tmp_path: Path,
                                                 stage: str, number: int) -> None:
    out = tmp_path / trained.name
    state = tmp_path / 'tiny.state.pt'
    process = warm.Program([PROGRAM, *options(folder, out)], tmp_path / 'said')
    while process.poll() is None:
        if state.is_file():
            progress = torch.load(state, weights_only=True)['progress']
            if progress['step'] and progress['stage'] == (stage == 'image tower'):
                process.send_signal(number)
                break
        time.sleep(0.02)
    code, said = process.wait(), (tmp_path / 'said').read_text()
    if number == signal.SIGINT:
        assert code == 1 and 'Traceback' not in said
        assert 'interrupted in image tower at step' in said and 'resumes it' in said
        saved = torch.load(state, weights_only=True)['progress']['step']
        assert f'at step {saved} of 60' in said
        refused = warm.run(PROGRAM, *options(folder, out, '--seed', '1'))
        assert refused.returncode == 1
        assert "this one changes: seed '1' instead of '0'; choose another" in refused.stderr
    else:
        assert code == -number
    assert not out.exists()
    done = warm.run(PROGRAM, *options(folder, out))
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == trained.read_bytes()


def test_too_few_images_are_refused(folder: Path, tmp_path: Path) -> None:
    options = pretrain_teacher.PretrainOptions(images=folder / 'images', batch=49)
    with pytest.raises(ValueError, match='expected at least as many images as --batch, 49, got '
                                         '48'):
        pretrain_teacher.train(torch.nn.Identity(), [], read_folders(options.images), options,
                               tmp_path)


def test_a_class_without_words_is_named(folder: Path, tmp_path: Path) -> None:
    facts = json.loads((folder / 'facts.yaml').read_text())
    del facts['blue ball']
    (tmp_path / 'facts.yaml').write_text(json.dumps(facts))
    done = warm.run(PROGRAM, *options(folder, tmp_path / 'x.safetensors', '--captions',
                                      str(tmp_path / 'facts.yaml')))
    assert done.returncode == 1
    assert 'expected an entry for the class blue ball' in done.stderr
    assert 'Traceback' not in done.stderr
