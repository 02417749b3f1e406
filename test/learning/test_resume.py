"""Training that is stopped: it resumes to the same weights, and what goes wrong is said."""
from dataclasses import replace
import os
from pathlib import Path
import shutil
import signal
import subprocess

import pytest
from safetensors.torch import load_file
from support.trainings import (
    at_batch,
    guide,
    learn,
    new_trainee,
    RECIPE,
    run,
    signal_loaders,
    state,
    STEPS,
    weights,
    write_images,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
import torch
from training import distill
from training.data.image_index import read_folders
from training.learning import loop, trainer
from training.learning.batches import index_batches
from training.learning.rows import rows_of_epoch
from training.recipe import Stage

pytestmark = [pytest.mark.long, pytest.mark.usefixtures('one_thread')]


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that nothing stopped."""
    out = tmp_path_factory.mktemp('whole')
    assert run(data=data, out=out, recipe=RECIPE) == [0]
    return out


# Stopped and started again

def curve(out: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(out / trainer.LOG), size_guidance={'scalars': 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


# Before anything is saved; in mid-epoch; at the border of stages; in mid-epoch of the second; and
# while weights are averaged.
@pytest.mark.parametrize('at', [2, 3, 4, 7, 9])
def test_a_killed_run_ends_with_the_same_weights(
        data: Path, tmp_path: Path, whole: Path, at: int) -> None:
    assert run(data=data, out=tmp_path, recipe=RECIPE, at=at) == [-signal.SIGKILL]
    assert not (tmp_path / 'weights0.safetensors').exists()
    saved = state(tmp_path)['progress'] if at > 2 else {'stage': 0, 'step': 0}
    assert (saved['stage'], saved['step']) == {
        2: (0, 0), 3: (0, 2), 4: (1, 0), 7: (1, 2), 9: (1, 4)}[at]
    # How images are loaded may change meanwhile, and how often it is saved.
    assert run(data=data, out=tmp_path, recipe=replace(RECIPE, workers=1, save_every=5)) == [0]
    assert weights(tmp_path) == weights(whole)
    kept = load_file(whole / 'weights0.safetensors')
    for tag, name in (('loss', 'loss'), ('loss/cls', 'cls'), ('loss/im_cst', 'im_cst')):
        assert curve(tmp_path, tag) == list(enumerate(kept[f'curve of {name}'].tolist(), 1))
    assert [step for step, _ in curve(tmp_path, 'rate')] == list(range(1, STEPS + 1))
    assert curve(tmp_path, 'rate')[3][1] == pytest.approx(loop.rate_at(1e-3, 0, 6))


def test_learning_batch_norms_go_on_too(data: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, student=replace(RECIPE.student, freeze_batch_norm=False))
    assert run(data=data, out=tmp_path / 'a', recipe=recipe) == [0]
    assert run(data=data, out=tmp_path / 'b', recipe=recipe, at=7) == [-signal.SIGKILL]
    assert run(data=data, out=tmp_path / 'b', recipe=recipe) == [0]
    assert weights(tmp_path / 'a') == weights(tmp_path / 'b')


def test_a_run_that_is_done_stays_done(data: Path, tmp_path: Path, whole: Path) -> None:
    shutil.copytree(whole, tmp_path / 'copy')
    progress = learn(data, tmp_path / 'copy', RECIPE)
    assert progress.stage == 2
    assert len(progress.curves['loss']) == STEPS
    done = load_file(tmp_path / 'copy' / 'weights0.safetensors')
    for name, value in load_file(whole / 'weights0.safetensors').items():
        assert name.startswith('gradient') or torch.equal(done[name], value)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_saves_and_says_how_to_go_on(
        data: Path, tmp_path: Path, whole: Path, number: int) -> None:
    recipe = replace(RECIPE, workers=1, save_every=100)
    assert run(data=data, out=tmp_path, recipe=recipe, at=5, number=number) == [1]
    assert (tmp_path / 'said0').read_text() == (
        f'interrupted in stage 2 at step 2 of 6; saved in {tmp_path}/state.pt: '
        'the same command resumes it')
    assert run(data=data, out=tmp_path, recipe=recipe) == [0]
    assert weights(tmp_path) == weights(whole)


def test_signals_are_left_as_they_were(data: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(loop.Stopped, match='interrupted in stage 1 at step 3 of 3'):
        learn(data, tmp_path, RECIPE, at=3, number=signal.SIGTERM)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_the_third_signal_ends_it_at_once(data: Path, tmp_path: Path) -> None:
    fabric, index = distill.make_fabric(RECIPE), read_folders(data)

    def thrice() -> None:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)

    batches = at_batch(index_batches(fabric, RECIPE, index, *guide(index)), 4, thrice)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(fabric, new_trainee(), RECIPE, batches, tmp_path)
    saved = state(tmp_path)['progress']
    assert (saved['stage'], saved['step']) == (1, 0)


def test_a_loader_that_dies_is_said(data: Path, tmp_path: Path, whole: Path) -> None:
    recipe = replace(RECIPE, workers=1)
    fabric, index = distill.make_fabric(recipe), read_folders(data)
    batches = at_batch(index_batches(fabric, recipe, index, *guide(index)), 4,
                       lambda: signal_loaders(signal.SIGKILL))
    # What is noticed first says why: torch ("killed", "exited unexpectedly") or a socket between
    # the two ("Connection reset by peer").
    with pytest.raises(loop.Stopped, match='stage 2, step .: a process that loads images ended: '
                                           '.*(worker|onnection).*the same command resumes'):
        trainer.train(fabric, new_trainee(), recipe, batches, tmp_path)
    assert run(data=data, out=tmp_path, recipe=recipe) == [0]
    assert weights(tmp_path) == weights(whole)


def test_the_state_of_another_recipe_is_refused(data: Path, tmp_path: Path, whole: Path) -> None:
    out = tmp_path / 'copy'
    shutil.copytree(whole, out)
    before = (out / trainer.STATE).read_bytes()
    with pytest.raises(ValueError, match=r'state\.pt: .* changes: loss\.mse 0\.5 instead of 0\.0, '
                                         'seed 4 instead of 0; choose another --out'):
        learn(data, out, replace(RECIPE, seed=4, loss=replace(RECIPE.loss, mse=0.5)))
    more = tmp_path / 'more'
    shutil.copytree(data, more)
    shutil.copytree(data / 'ring', more / 'ring' / '..' / 'spot')
    for file in (more / 'spot').iterdir():
        file.rename(more / 'ring' / f'more{file.name}')
    (more / 'spot').rmdir()
    with pytest.raises(ValueError, match='steps per epoch 4 instead of 3'):
        learn(more, out, RECIPE)
    assert (out / trainer.STATE).read_bytes() == before
    (out / trainer.STATE).write_bytes(before[:len(before) // 2])
    with pytest.raises(ValueError, match=r'state\.pt: damaged.* delete it to start again'):
        learn(data, out, RECIPE)


# What goes wrong

def test_a_loss_that_is_not_finite_stops_at_the_last_good_point(
        data: Path, tmp_path: Path, whole: Path) -> None:
    row = int(rows_of_epoch(12, 4, 0, 0)[2, 1])
    with pytest.raises(loop.Stopped, match='step 3: expected a finite loss, got im_cst that is '
                                           'not finite; the last good state is kept in '
                                           '.*state.pt. Lower the rate'):
        learn(data, tmp_path, RECIPE, broken=row)
    saved = state(tmp_path)
    assert (saved['progress']['stage'], saved['progress']['step']) == (0, 2)
    assert all(value.isfinite().all() for value in saved['model'].values())
    assert run(data=data, out=tmp_path, recipe=RECIPE) == [0]  # the images being mended
    assert weights(tmp_path) == weights(whole)


def test_weights_that_are_not_finite_are_not_saved(data: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, stages=(Stage('all', 1, 3e38),), optimizer='sgd', save_every=1)
    with pytest.raises(loop.Stopped, match='stage 1, step .: the weights are no longer finite'):
        learn(data, tmp_path, recipe)
    assert not (tmp_path / trainer.STATE).exists()


def test_a_full_disk_leaves_the_last_state_whole(data: Path, tmp_path: Path, whole: Path) -> None:
    disk = tmp_path / 'disk'
    disk.mkdir()
    size = f'size={14 * (whole / trainer.STATE).stat().st_size + 200_000}'
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', size, 'tmpfs', disk]).returncode:
        pytest.skip('a small disk can be made by root only')
    try:
        assert run(data=data, out=disk, recipe=RECIPE, at=6) == [-signal.SIGKILL]
        before = (disk / trainer.STATE).read_bytes()
        (disk / f'.{trainer.STATE}.123').mkdir()
        (disk / f'.{trainer.STATE}.123/{trainer.STATE}').write_bytes(b'of a run that was killed')
        filler = disk / 'filler'
        with open(filler, 'wb', buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
            file.truncate(file.tell() - 65536)  # room for the log
        assert run(data=data, out=disk, recipe=RECIPE) == [1]
        assert 'No space left' in (disk / 'said0').read_text()
        assert (disk / trainer.STATE).read_bytes() == before
        assert list(disk.glob('.*')) == []
        filler.unlink()
        assert run(data=data, out=disk, recipe=RECIPE) == [0]
        assert weights(disk) == weights(whole)
    finally:
        subprocess.run(['umount', disk], check=True)
