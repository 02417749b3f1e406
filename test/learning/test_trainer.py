"""The trainer: what is learnt, on one process or on two, from folders or from shards."""
from dataclasses import replace
import json
from pathlib import Path
import signal

import cv2
import numpy as np
import pytest
from safetensors.torch import load_file
from support.trainings import (
    CLASSES,
    guide,
    learn,
    new_trainee,
    RECIPE,
    run,
    weights,
    write_images,
)
import torch
from training import distill
from training.data.image_index import read_folders
from training.learning import loop, trainer
from training.learning.batches import index_batches
from training.learning.rows import rows_of_epoch
from training.learning.trainee import Trainee
from training.recipe import Data, Loss, Recipe, Stage, TRAINED

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp('data'))


# What is learnt

@pytest.mark.long
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
    rates = [loop.rate_at(2.0, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[10] == 2.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.01
    assert loop.rate_at(2.0, 0, 1) == 2.0


def test_an_unknown_optimizer_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="optimizer: expected one of timm's, got 'adamz'"):
        learn(data, tmp_path, replace(RECIPE, optimizer='adamz'))


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.cuda)])
@pytest.mark.long
def test_mixed_precision_learns_and_goes_on(data: Path, tmp_path: Path, device: str) -> None:
    recipe = replace(RECIPE, stages=(Stage('all', 8, 1e-2),), device=device, workers=1,
                     precision='bf16-mixed')
    whole = learn(data, tmp_path / 'whole', recipe, dropout=False).curves['loss']
    arguments = {'data': data, 'out': tmp_path / 'parts', 'recipe': recipe, 'dropout': False}
    with pytest.raises(loop.Stopped, match='interrupted in stage 1 at step 13 of 24'):
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


# Several processes

EVEN = replace(RECIPE, batch=6, loss=Loss(cls=1, mse=1, im_cst=1, vlprox=1), average=0.0,
               optimizer='sgd')


@pytest.mark.long
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
