"""The command that evaluates a checkpoint."""
from dataclasses import replace
import json
from pathlib import Path
import shutil
import subprocess
import sys

import pytest
from support.tiny_data import ROOT, write_recipe, write_scenes, write_split
from support.tiny_models import student, write_tower
import torch
from training.evaluate import EvaluateOptions, run
from training.recipe_file import read_command
from vl2v_ros.model import checkpoint


@pytest.fixture
def written(tmp_path: Path, cache_dir: Path) -> Path:
    """Return a folder with a checkpoint, its teacher, and a recipe."""
    write_recipe(tmp_path, {'split': str(write_split(tmp_path / 'split.yaml'))})
    tower = write_tower(tmp_path / 'teacher')
    checkpoint.save(student(text_tower=tower), tmp_path / 'student.safetensors')
    return tmp_path


def options_of(folder: Path, **fields: object) -> EvaluateOptions:
    recipe, _ = read_command(['--config', str(folder / 'recipe.yaml')])
    return EvaluateOptions(**{**vars(recipe), 'out': folder / 'out',
                      'checkpoint': folder / 'student.safetensors', **fields})


@pytest.mark.long
def test_command_measures_a_checkpoint(written: Path) -> None:
    scenes = write_scenes(written / 'scenes', [['blue_square'], ['green_star', 'red_circle']])
    before = (written / 'student.safetensors').read_bytes()
    done = subprocess.run(
        [sys.executable, str(ROOT / 'training/evaluate.py'), '--checkpoint',
         str(written / 'student.safetensors'), '--out', str(written / 'out'), '--config',
         str(written / 'recipe.yaml'), '--data.hold-out', '0.4', '--scenes', str(scenes)],
        capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert '| Y_ood on X_ood | Y_ood over all | Y_id on X_ood |' in done.stdout
    assert '| in scenes, day | 3 |' in done.stdout and 'Its teacher:' in done.stdout
    result = json.loads((written / 'out/result.json').read_text())
    assert result['checkpoint'] == str(written / 'student.safetensors')
    assert result['table'][0]['count'] == 8 + 20
    assert '<h1>student.safetensors</h1>' in (written / 'out/report.html').read_text()
    assert (written / 'student.safetensors').read_bytes() == before


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.cuda)])
def test_calibrating_writes_the_checkpoint(written: Path, device: str) -> None:
    before = checkpoint.load(written / 'student.safetensors')
    figures = run(options_of(written, calibrate=True, device=device))['figures']
    after = checkpoint.load(written / 'student.safetensors')
    assert after.spec == replace(before.spec, temperature=figures['temperature'],
                                 unknown_threshold=figures['unknown threshold'])
    assert after.spec != before.spec
    for name, weight in before.state_dict().items():
        assert torch.allclose(weight, after.state_dict()[name], atol=1e-3)  # written in half
    again = run(options_of(written, device=device))['figures']
    assert again == pytest.approx(figures, rel=0.01, abs=0.01)


def test_another_teacher_than_the_checkpoints_is_refused(written: Path) -> None:
    path = written / 'student.safetensors'
    own = checkpoint.load(path)
    checkpoint.save(student(width=16, text_tower=own.spec.text_tower), path)
    with pytest.raises(ValueError, match='expected a teacher of width 16, got one of 8; name the '
                                         'one the student was distilled from as --teacher.model'):
        run(options_of(written))
    checkpoint.save(student(text_tower=replace(own.spec.text_tower, identity='sha256:0')), path)
    with pytest.raises(ValueError, match='expected a teacher of identity sha256:0, got one of '
                                         'sha256:[0-9a-f]{64}; name'):
        run(options_of(written))
    assert not (written / 'out').exists()


def test_results_of_a_training_are_not_written_over(written: Path) -> None:
    (written / 'out').mkdir()
    (written / 'out/result.json').write_text('{"recipe": {}}')
    with pytest.raises(ValueError, match='is the result of a training; choose another --out'):
        run(options_of(written))
    shutil.rmtree(written / 'out')
    for _ in range(2):  # its own are
        run(options_of(written))
