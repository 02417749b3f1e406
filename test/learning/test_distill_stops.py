"""What stops a distillation, what it says then, and how it is resumed."""
from collections.abc import Sequence
from pathlib import Path
import shutil
import signal
import time

import pytest
from support import warm
from support.distilling import again, here, named, PROGRAM
from support.tiny_data import write_images, write_recipe, write_timm_teacher
from support.tiny_models import TEXT_CONFIG
import torch
from training.distill import make_fabric, parse
import yaml

pytestmark = pytest.mark.usefixtures('cache_dir')


def test_results_of_another_recipe_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture
                                            ) -> None:
    result = here(tmp_path)
    with pytest.raises(ValueError, match='holds the results of another recipe; choose another '
                                         '--name or --out, or delete it'):
        here(tmp_path, '--temperature', 0.1)
    assert here(tmp_path, '--workers', 3, '--save-every', 7) == result  # of no weight
    assert 'is complete' in capsys.readouterr().out


@pytest.mark.parametrize(('arguments', 'fields', 'message'), [
    (['--data.domains', 'fog'], {}, 'data.domains: .*has no domain fog; it has day, night'),
    ([], {'loss': {'caption': 1}}, 'loss.caption: expected a file as data.captions'),
    ([], {'student': {'backbone': 'test_resnt'}}, "timm model, got 'test_resnt'; near it: test_"),
    (['--student.weights', 'none.safetensors'], {}, 'none.safetensors does not fit test_resnet'),
    (['--teacher.pretrained', 'none.safetensors'], {}, 'none.safetensors, which does not exist'),
    ([], {'data': {'vocabulary': 'config/classify.yaml'}}, 'classify.yaml: line 4: expected'),
    ([], {'data': {'split': 'config/splits/ycb_robot.yaml'}}, 'has no class 002_master_chef_can'),
    ([], {'student': {'weights': 'teacher'}}, "'teacher' needs an open_clip teacher whose image")])
def test_recipe_that_does_not_fit_says_what_to_do(
        tmp_path: Path, arguments: Sequence[object], fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        here(tmp_path, *arguments, **fields)
    assert not (tmp_path / 'runs/tiny_seed0/result.json').exists()


def test_a_hub_out_of_reach_is_said_before_the_teacher_is_asked(
        tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'hub'))
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    with pytest.raises(ValueError, match=r"timm's weights of mobilenetv2_100 could not be loaded "
                       r'\(there is no network \(HF_HUB_OFFLINE is set\)\); connect to'):
        here(tmp_path, student={'backbone': 'mobilenetv2_100', 'weights': 'hub'})
    assert not cache_dir.exists()


def test_empty_class_and_missing_words_are_named_by_the_command(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    (tmp_path / 'images/day/yellow_moon').mkdir()
    done = warm.run(PROGRAM, '--config', recipe)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert done.stderr.startswith('distill: ') and 'of the class yellow_moon; add' in done.stderr
    write_images(tmp_path / 'images', ['yellow_circle'])
    (tmp_path / 'images/day/yellow_moon').rmdir()
    with pytest.raises(ValueError, match='lacks yellow circle; add a description for each, or '
                                         'train with --data.no-enrich'):
        here(tmp_path)
    assert named(here(tmp_path, '--data.no-enrich'))['day']['count'] == 5


def wait_for(path: Path, process: warm.Program) -> None:
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.02)


@pytest.mark.long
def test_interrupted_run_goes_on_with_the_same_teacher_only(
        tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    recipe = write_recipe(tmp_path, stages=[{'train': 'all', 'epochs': 10, 'rate': 1e-3}],
                          save_every=2)
    folder = tmp_path / 'runs/tiny_seed0'
    process = warm.Program([PROGRAM, '--config', recipe], tmp_path / 'said')
    wait_for(folder / 'state.pt', process)
    process.send_signal(signal.SIGINT)
    code, said = process.wait(120), (tmp_path / 'said').read_text()
    assert code not in (0, -signal.SIGINT) and 'Traceback' not in said, said
    assert 'distill: ' in said and 'the same command resumes' in said
    assert not (folder / 'result.json').exists() and not list(folder.glob('.*'))
    saved = torch.load(folder / 'state.pt', weights_only=True)['progress']['step']
    assert 0 < saved < 40
    # Files of the same names, but of a teacher of another width.
    (tmp_path / 'teacher').rename(tmp_path / 'kept')
    write_timm_teacher(tmp_path / 'wide', {**TEXT_CONFIG, 'embed_dim': 12})
    (tmp_path / 'teacher').mkdir()
    for suffix in ('json', 'safetensors'):
        shutil.copy(tmp_path / f'wide/timm_tiny.{suffix}', tmp_path / f'teacher/tiny.{suffix}')
    with pytest.raises(ValueError, match=r"this one changes: teacher\.model 'sha256:\w+' "
                                         r"instead of "
                                         r"'sha256:\w+'; choose another --out, or"):
        again(tmp_path)
    shutil.rmtree(tmp_path / 'teacher')
    (tmp_path / 'kept').rename(tmp_path / 'teacher')
    capsys.readouterr()
    again(tmp_path)
    assert f' {saved}/40 ' in capsys.readouterr().err  # where the progress bar began
    assert (folder / 'student.safetensors').is_file() and not (folder / 'state.pt').exists()


def test_full_disk_stops_with_what_was_saved(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    done = warm.run(PROGRAM, '--config', recipe, file_size=300_000)  # smaller than the weights
    assert done.returncode == 1 and 'Traceback' not in done.stderr, done.stderr
    assert 'distill: stopped: ' in done.stderr and 'the same command resumes' in done.stderr
    folder = tmp_path / 'runs/tiny_seed0'
    assert not list(folder.glob('.*')) and not (folder / 'result.json').exists()
    again(tmp_path)
    assert (folder / 'student.safetensors').is_file()


def test_command_line_of_no_use_is_answered(tmp_path: Path) -> None:
    path = tmp_path / 'recipe.yaml'
    path.write_text(yaml.safe_dump({'nam': 'tiny'}))
    with pytest.raises(ValueError, match='recipe .*: nam: no such key; known are name, data'):
        parse(['--config', str(path)])
    recipe = write_recipe(tmp_path / 'tiny', device='tpu')
    with pytest.raises(ValueError, match='device: '):
        make_fabric(parse(['--config', str(recipe)]))
    with pytest.raises(SystemExit):
        parse(['--config'])
    with pytest.raises(SystemExit):
        parse(['--no-such-field', '1'])
