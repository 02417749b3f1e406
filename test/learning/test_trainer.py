"""Training: the same weights whether it is stopped or not, and on one process or on two."""
from collections.abc import Callable, Iterator
from dataclasses import replace
import itertools
import json
import math
import multiprocessing
import os
from pathlib import Path
import shutil
import signal
import socket
import subprocess
from typing import Any

import cv2
import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from support import shapes, tiny_models
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
import torch
from torch import nn
from training import distill
from training.data.image_index import Index, read_folders
from training.data.shards import find_shards
from training.learning import trainer
from training.learning.batches import Batches, index_batches, rows_of_epoch, shard_batches
from training.learning.trainee import Trainee
from training.recipe import Data, Loss, Recipe, Stage, StudentSource, TRAINED
from training.teachers.teacher import CallableTeacher

# Starts processes that have the libraries loaded already.
PROCESSES = multiprocessing.get_context('forkserver')
PROCESSES.set_forkserver_preload(['torch', 'timm', 'lightning_fabric', 'open_clip', 'matplotlib',
                                  'torch.utils.tensorboard'])
LIMIT = 300  # [s]
CLASSES = ('disc', 'ring', 'square')
VIEWS = 2
RECIPE = Recipe(
    name='test', student=StudentSource('test_resnet', '', 32),
    stages=(Stage('projector', 1, 1e-2), Stage('all', 2, 1e-3)),
    loss=Loss(cls=1, im_cst=1), views=VIEWS, average=0.5, batch=4, device='cpu',
    workers=0, save_every=2)  # 3 steps an epoch
STEPS = 9


@pytest.fixture(scope='module', autouse=True)
def one_thread() -> Iterator[None]:
    """With several, some CPUs' matrix products differ in the last bit from run to run."""
    with shapes.one_thread():
        yield


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of four images of each of three classes."""
    root = tmp_path_factory.mktemp('data')
    rng = np.random.default_rng(0)
    for name in CLASSES:
        for number in range(4):
            image = rng.integers(0, 80, (40, 40, 3), np.uint8)
            centre, colour = (20, int(rng.integers(15, 25))), rng.integers(100, 255, 3).tolist()
            if name == 'square':
                cv2.rectangle(image, (10, centre[1] - 8), (30, centre[1] + 8), colour, -1)
            else:
                cv2.circle(image, centre, 10, colour, -1 if name == 'disc' else 3)
            file = root / name / f'{number}.png'
            file.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(file), image)
    return root


def guide(index: Index) -> tuple[np.ndarray, torch.Tensor]:
    """Return what a teacher might say: (N, V, D) float16 unit rows, and (C, D) prototypes."""
    rng = np.random.default_rng(1)
    prototypes = rng.normal(size=(len(CLASSES), tiny_models.WIDTH))
    rows = prototypes[index.labels, None] + 0.5 * rng.normal(
        size=(len(index), VIEWS, tiny_models.WIDTH))
    rows, prototypes = (part / np.linalg.norm(part, axis=-1, keepdims=True)
                        for part in (rows, prototypes))
    return rows.astype(np.float16), torch.tensor(prototypes, dtype=torch.float32)


def see(pixels: np.ndarray) -> np.ndarray:
    """Embed (B, S, S, 3) uint8 as a teacher that is asked might do."""
    return pixels.reshape(len(pixels), -1, tiny_models.WIDTH).mean(1) + 1.0


def new_trainee(dropout: bool = True) -> Trainee:
    student = tiny_models.student()
    if dropout:  # which draws random numbers in each step
        student.projector = nn.Sequential(nn.Dropout(0.3), student.projector)
    return Trainee(student)


def at_batch(batches: Batches, at: int, do: Callable[[], None]) -> Batches:
    """Do something before batch `at` comes."""
    numbers = itertools.count(1)

    def draw(epoch: int, step: int) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        for batch in batches.draw(epoch, step):
            if next(numbers) == at:
                do()
            yield batch

    return Batches(batches.per_epoch, draw)


def signal_all(number: int) -> None:
    """Send a signal to this process; SIGINT, as a terminal does, to those that load images too."""
    if number == signal.SIGINT:
        signal_loaders(number)
    os.kill(os.getpid(), number)


def signal_loaders(number: int) -> None:
    for child in multiprocessing.active_children():
        os.kill(child.pid, number)


def learn(data: Path, out: Path, recipe: Recipe, at: int = 0,
          number: int = signal.SIGKILL, broken: int | None = None, dropout: bool = True
          ) -> trainer.Progress:
    """Train; write weights and gradients, or what went wrong. `broken`: row without target."""
    multiprocessing.set_start_method('fork', force=True)  # of those that load images
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    out.mkdir(exist_ok=True, parents=True)
    fabric = distill.make_fabric(recipe)
    index = read_folders(data)
    targets, prototypes = guide(index)
    if broken is not None:
        targets[broken] = math.nan
    trainee = new_trainee(dropout)
    if recipe.data.shards:
        teacher = CallableTeacher(see, None, 'pixels', tiny_models.WIDTH, 16)
        batches = shard_batches(fabric, recipe, find_shards(recipe.data.images), teacher,
                                prototypes, CLASSES, out / 'corrupt.txt')
    else:
        batches = index_batches(fabric, recipe, index, targets, prototypes)
    try:
        progress = trainer.train(fabric, trainee, recipe,
                                 at_batch(batches, at, lambda: signal_all(number)), out)
    except (trainer.Stopped, OSError) as error:
        (out / f'said{fabric.global_rank}').write_text(str(error))
        raise
    finally:
        torch.set_num_threads(threads)
    weights = {name: weight.contiguous() for name, weight in trainee.state_dict().items()}
    gradients = {f'gradient of {name}': weight.grad.contiguous()
                 for name, weight in trainee.named_parameters() if weight.grad is not None}
    curves = {f'curve of {name}': torch.tensor([value for _, value in points])
              for name, points in progress.curves.items()}
    save_file({**weights, **gradients, **curves},
              out / f'weights{fabric.global_rank}.safetensors')
    return progress


def rank_learns(rank: int, world: int, port: int, arguments: dict[str, Any]) -> None:
    """Train as one of several processes, told so as torchrun does."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world),
                      LOCAL_WORLD_SIZE=str(world), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port),
                      GROUP_RANK='0', TORCHELASTIC_RUN_ID='test')
    if rank:
        arguments = {**arguments, 'at': 0}  # only the first is sent a signal
    learn(**arguments)


def run(world: int = 1, **arguments: Any) -> list[int]:
    """Train in processes of their own and return their exit codes."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    processes = [
        PROCESSES.Process(target=learn, kwargs=arguments) if world == 1 else
        PROCESSES.Process(target=rank_learns, args=(rank, world, port, arguments))
        for rank in range(world)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(LIMIT)
        return [process.exitcode for process in processes]
    finally:
        for process in processes:
            process.kill()


def weights(out: Path, rank: int = 0) -> bytes:
    return (out / f'weights{rank}.safetensors').read_bytes()


def state(out: Path) -> dict[str, Any]:
    return torch.load(out / trainer.STATE, weights_only=True)


@pytest.fixture(scope='module')
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that nothing stopped."""
    out = tmp_path_factory.mktemp('whole')
    assert run(data=data, out=out, recipe=RECIPE) == [0]
    return out


# What is learnt

def test_it_learns_and_averages(data: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, stages=(Stage('all', 8, 1e-2),), average=0.25)
    before = {name: value.clone() for name, value in new_trainee(False).state_dict().items()}
    progress = learn(data, tmp_path / 'average', recipe, dropout=False)
    loss = [value for _, value in progress.curves['loss']]
    assert [step for step, _ in progress.curves['loss']] == list(range(1, 25))
    assert np.mean(loss[-6:]) < 0.8 * np.mean(loss[:6])
    assert np.allclose(loss, [cls + contrast for (_, cls), (_, contrast) in
                              zip(progress.curves['cls'], progress.curves['im_cst'], strict=True)])
    # The same run, its weights noted after each step.
    seen = []

    class Noting(Trainee):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
            seen.append({name: value.double() for name, value in self.state_dict().items()})
            return super().forward(images)

    fabric, index = distill.make_fabric(recipe), read_folders(data)
    noting = Noting(new_trainee(False).student)
    plain = replace(recipe, average=0.0)
    trainer.train(fabric, noting, plain, index_batches(fabric, plain, index, *guide(index)),
                  tmp_path)
    seen.append({name: value.double() for name, value in noting.state_dict().items()})
    averaged = load_file(tmp_path / 'average' / 'weights0.safetensors')
    for name, value in before.items():
        if value.is_floating_point():  # of the last quarter of 24 steps
            mean = torch.stack([weights[name] for weights in seen[-6:]]).mean(0)
            assert torch.allclose(averaged[name].double(), mean, rtol=0, atol=1e-5), name
        if name.endswith('running_mean'):
            assert torch.equal(averaged[name], value)  # frozen


@pytest.mark.parametrize('part', TRAINED)
def test_a_stage_changes_its_part_only(data: Path, tmp_path: Path, part: str) -> None:
    recipe = replace(RECIPE, stages=(Stage(part, 1, 1e-2),))
    learn(data, tmp_path, recipe, dropout=False)
    before, after = new_trainee(False).state_dict(), load_file(tmp_path / 'weights0.safetensors')
    changed = {name.split('.')[1] for name, value in before.items()
               if not torch.equal(value, after[name])}
    assert changed == ({'backbone', 'projector'} if part == 'all' else {part})


def test_the_rate_rises_and_falls() -> None:
    rates = [trainer.rate_at(2.0, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[10] == 2.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.01
    assert trainer.rate_at(2.0, 0, 1) == 2.0


def test_an_unknown_optimizer_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="optimizer: expected one of timm's, got 'adamz'"):
        learn(data, tmp_path, replace(RECIPE, optimizer='adamz'))


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.cuda)])
def test_mixed_precision_learns_and_goes_on(data: Path, tmp_path: Path, device: str) -> None:
    recipe = replace(RECIPE, stages=(Stage('all', 8, 1e-2),), device=device, workers=1,
                     precision='bf16-mixed')
    whole = learn(data, tmp_path / 'whole', recipe, dropout=False).curves['loss']
    arguments = {'data': data, 'out': tmp_path / 'parts', 'recipe': recipe, 'dropout': False}
    with pytest.raises(trainer.Stopped, match='interrupted in stage 1 at step 13 of 24'):
        learn(at=13, number=signal.SIGTERM, **arguments)
    parts = learn(**arguments).curves['loss']
    for curve in whole, parts:
        assert [step for step, _ in curve] == list(range(1, 25))
        loss = [value for _, value in curve]
        assert np.mean(loss[-6:]) < 0.8 * np.mean(loss[:6])
    # A GPU does not sum in the same order each time.
    assert parts[13][1] == pytest.approx(whole[13][1], rel=1e-6 if device == 'cpu' else 0.2)
    kept = load_file(tmp_path / 'parts' / 'weights0.safetensors')
    assert all(value.isfinite().all() for value in kept.values())
    assert kept['student.projector.weight'].dtype == torch.float32


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
    assert curve(tmp_path, 'rate')[3][1] == pytest.approx(trainer.rate_at(1e-3, 0, 6))


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
        f'interrupted in stage 2 at step 2 of 6; saved in {tmp_path}: the same command resumes it')
    assert run(data=data, out=tmp_path, recipe=recipe) == [0]
    assert weights(tmp_path) == weights(whole)


def test_signals_are_left_as_they_were(data: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(trainer.Stopped, match='interrupted in stage 1 at step 3 of 3'):
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
    # torch says "killed" or "exited unexpectedly", whichever it notices first.
    with pytest.raises(trainer.Stopped, match='stage 2, step .: a process that loads images ended'
                                              '.*worker.*the same command resumes'):
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
    with pytest.raises(ValueError, match=r'state\.pt: damaged .*delete it to start again'):
        learn(data, out, RECIPE)


# What goes wrong

def test_a_loss_that_is_not_finite_stops_at_the_last_good_point(
        data: Path, tmp_path: Path, whole: Path) -> None:
    row = int(rows_of_epoch(12, 4, 0, 0)[2, 1])
    with pytest.raises(trainer.Stopped, match='step 3: expected a finite loss, got im_cst that is '
                                              'not finite; the last good state is kept in '
                                              '.*Lower the rate'):
        learn(data, tmp_path, RECIPE, broken=row)
    saved = state(tmp_path)
    assert (saved['progress']['stage'], saved['progress']['step']) == (0, 2)
    assert all(value.isfinite().all() for value in saved['model'].values())
    assert run(data=data, out=tmp_path, recipe=RECIPE) == [0]  # the images being mended
    assert weights(tmp_path) == weights(whole)


def test_weights_that_are_not_finite_are_not_saved(data: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, stages=(Stage('all', 1, 3e38),), optimizer='sgd', save_every=1)
    with pytest.raises(trainer.Stopped, match='stage 1, step .: the weights are no longer finite'):
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


# Several processes

EVEN = replace(RECIPE, batch=6, loss=Loss(cls=1, mse=1, im_cst=1, vlprox=1), average=0.0,
               optimizer='sgd')


def test_two_processes_learn_as_one(data: Path, tmp_path: Path) -> None:
    for world, name in ((1, 'one'), (2, 'two')):
        arguments = {'data': data, 'out': tmp_path / name, 'recipe': EVEN, 'dropout': False}
        assert run(world, **arguments) == [0] * world
    assert weights(tmp_path / 'two', 0) == weights(tmp_path / 'two', 1)
    one, two = (load_file(tmp_path / name / 'weights0.safetensors') for name in ('one', 'two'))
    assert one.keys() == two.keys()
    assert {'curve of im_cst', 'gradient of student.projector.weight'} <= one.keys()
    assert len(one['curve of loss']) == 6  # over both stages
    for name, value in one.items():
        assert torch.allclose(value.double(), two[name].double(), rtol=1e-5, atol=1e-5), name
    assert any(value.abs().max() > 0.01 for name, value in one.items() if 'gradient' in name)


def test_two_processes_stop_in_the_same_step(data: Path, tmp_path: Path) -> None:
    arguments = {'data': data, 'out': tmp_path, 'recipe': EVEN, 'dropout': False}
    assert run(2, at=4, number=signal.SIGTERM, **arguments) == [1, 1]
    said = [(tmp_path / f'said{rank}').read_text() for rank in range(2)]
    assert said[0] == said[1]
    assert 'interrupted in stage 2 at step 2 of 4' in said[0]
    row = int(rows_of_epoch(12, 6, 0, 0)[1, 4])  # which the second process has
    recipe = replace(EVEN, loss=Loss(cls=1, mse=1))
    arguments |= {'recipe': recipe, 'out': tmp_path / 'broken', 'broken': row}
    assert run(2, **arguments) == [1, 1]
    for rank in range(2):
        assert 'stage 1, step 2: expected a finite loss, got mse' in (
            tmp_path / 'broken' / f'said{rank}').read_text()


def test_a_batch_that_two_cannot_share_is_refused(data: Path, tmp_path: Path) -> None:
    arguments = {'data': data, 'out': tmp_path, 'recipe': replace(EVEN, batch=5)}
    assert run(2, **arguments) == [1, 1]


# Out of shards

@pytest.fixture
def streamed(data: Path, tmp_path: Path) -> Recipe:
    """Return a recipe on two shards, of 10 images and of 2."""
    from training.rendering import dataset_files  # here, so that the others do not need MuJoCo
    root = tmp_path / 'shards of'
    records = []
    for path in sorted(data.rglob('*.png')):
        file = f'single/day/{path.parent.name}/{path.stem}.jpg'
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / file), cv2.imread(str(path)))
        records.append({'file': file, 'kind': 'single', 'domain': 'day',
                        'objects': [{'class': path.parent.name}]})
    (root / 'dataset.json').write_text(json.dumps(
        {'classes': CLASSES, 'domains': {'day': ''}, 'counts': {'single/day': 12}}))
    dataset_files.write_shards(root, records, 10)
    return replace(RECIPE, data=Data(images=root, shards=True))


def test_training_on_shards_goes_on(data: Path, tmp_path: Path, streamed: Recipe) -> None:
    for name, at, code in (('a', 0, 0), ('b', 7, -signal.SIGKILL), ('b', 0, 0)):
        assert run(data=data, out=tmp_path / name, recipe=streamed, at=at) == [code]
    assert weights(tmp_path / 'a') == weights(tmp_path / 'b')
    with pytest.raises(ValueError, match='workers 1 instead of 0'):
        learn(data, tmp_path / 'b', replace(streamed, workers=1))


def test_two_processes_share_uneven_shards(data: Path, tmp_path: Path, streamed: Recipe
                                           ) -> None:
    recipe = replace(streamed, stages=(Stage('all', 4),))
    assert run(2, data=data, out=tmp_path, recipe=recipe, dropout=False) == [0, 0]
    assert weights(tmp_path, 0) == weights(tmp_path, 1)
    assert len(load_file(tmp_path / 'weights0.safetensors')['curve of im_cst']) == 12
