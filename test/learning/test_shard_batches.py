"""Batches of shards."""
from dataclasses import replace
import json
from pathlib import Path

import pytest
from support.coloured_data import (
    COLOURS,
    DOMAINS,
    make_teacher,
    Place,
    RECIPE,
    same,
    take,
    WIDTH,
    write_data,
)
import torch
from torch.nn import functional
from training import distill
from training.data.shards import find_shards
from training.data.task import shard_task
from training.learning import batches
from training.learning.batches import Batches
from training.recipe import Augmentation, Data, Loss, Recipe, TeacherSource
from training.rendering import dataset_files
from training.teachers.teacher import CallableTeacher


def shard_batches(data: Path, recipe: Recipe = RECIPE,
                  trained: tuple[str, ...] = ('red', 'blue'), place: Place = Place(),
                  teacher: CallableTeacher | None = None, **fields: object) -> Batches:
    recipe = replace(recipe, data=Data(images=data, shards=True, **fields))
    return batches.shard_batches(place, recipe, find_shards(data), teacher or make_teacher(),
                                 torch.eye(WIDTH)[:len(trained)], trained, data / 'corrupt.txt')


def colours(images: torch.Tensor) -> list[str]:
    """Return which class images show."""
    seen = functional.normalize(images.mean((2, 3)), dim=1)
    known = functional.normalize(torch.tensor(list(COLOURS.values())).float(), dim=1)
    return [list(COLOURS)[number] for number in (seen @ known.T).argmax(1)]


@pytest.mark.parametrize('workers', [0, 2])
def test_shards_show_the_classes_trained_on(data: Path, workers: int) -> None:
    teacher = make_teacher()
    source = shard_batches(data, replace(RECIPE, workers=workers), teacher=teacher)
    assert source.per_epoch == 3  # half of 24 images, 4 at a time
    found = take(source, 6)
    shown = [name for images, _ in found for name in colours(images)]
    assert set(shown) == {'red', 'blue'}
    assert [('red', 'blue').index(name) for name in shown] == [
        label for _, parts in found for label in parts['labels'].tolist()]
    assert teacher.queries == 24
    for images, parts in found:
        smaller = functional.interpolate(images, (8, 8), mode='bilinear', antialias=True)
        assert torch.equal(parts['teacher'], torch.tensor(teacher.embed_images(smaller)))
        assert torch.allclose(parts['teacher'].norm(dim=1), torch.ones(4))


def test_an_epoch_of_shards_has_every_image_once(data: Path) -> None:
    images = torch.cat([images for images, _ in take(shard_batches(data, domains=('day',)), 1)]
                       + [images for images, _ in take(shard_batches(data), 3)])
    assert len({image.numpy().tobytes() for image in images[4:]}) == 12
    # Without night: six images, one step.
    assert shard_batches(data, domains=('day',)).per_epoch == 1
    assert images[:4].amax((1, 2, 3)).min() > 0.7
    assert images[4:].amax((1, 2, 3)).min() < 0.6


@pytest.mark.parametrize('workers', [0, 2])
def test_shards_go_on_where_they_were(data: Path, workers: int) -> None:
    recipe = replace(RECIPE, workers=workers, augmentation=Augmentation())
    whole = take(shard_batches(data, recipe), 8)
    teacher = make_teacher()
    assert same(whole[5:], take(shard_batches(data, recipe, teacher=teacher), 3, 1, 2))
    assert teacher.queries == 12  # not for what is skipped
    assert not same(whole[:3], whole[3:6])
    assert not same(whole[:3], take(shard_batches(data, replace(recipe, seed=1)), 3))


def test_processes_read_other_shards_and_none_runs_out(
        data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = write_data(data)
    for file in (data / 'shards').iterdir():
        file.unlink()
    dataset_files.write_shards(data, records, 20)  # 20 and 4 images
    seen = []
    for rank in range(2):
        monkeypatch.setenv('RANK', str(rank))
        monkeypatch.setenv('WORLD_SIZE', '2')
        source = shard_batches(data, trained=tuple(COLOURS), place=Place(rank, 2))
        assert source.per_epoch == 6
        found = take(source, 12)
        assert [len(images) for images, _ in found] == [2] * 12
        seen.append({tuple(row) for _, parts in found[:2] for row in parts['teacher'].tolist()})
    assert not seen[0] & seen[1]


@pytest.mark.filterwarnings('ignore:This DataLoader will create')  # more than cores
@pytest.mark.long
def test_shards_without_a_class_trained_on_stop_nobody(data: Path) -> None:
    # Six shards, of which two have none; each is read by a process of its own.
    found = take(shard_batches(data, replace(RECIPE, workers=6), trained=('green',)), 4)
    assert {name for images, _ in found for name in colours(images)} == {'green'}


def test_shards_without_any_are_named(data: Path) -> None:
    records = [record for record in write_data(data) if record['objects'][0]['class'] != 'red']
    for file in (data / 'shards').iterdir():
        file.unlink()
    dataset_files.write_shards(data, records, 4)
    with pytest.raises(ValueError, match='expected shards with images of the classes and domains'):
        take(shard_batches(data, trained=('red',)), 1)


def test_broken_images_of_shards_are_passed_over(data: Path) -> None:
    records = write_data(data)
    (data / str(records[0]['file'])).write_bytes(b'no image')
    for file in (data / 'shards').iterdir():
        file.unlink()
    dataset_files.write_shards(data, records, 4)
    assert len(take(shard_batches(data, trained=tuple(COLOURS)), 6)) == 6
    assert (data / 'corrupt.txt').read_text().startswith('single/day/blue/00000')


def test_shards_that_do_not_do_are_refused(data: Path) -> None:
    with pytest.raises(ValueError, match='at least as many shards as the 7 processes, found 6'):
        shard_batches(data, replace(RECIPE, batch=14), place=Place(0, 7))
    with pytest.raises(ValueError, match='batch: expected a multiple of the 3 processes'):
        shard_batches(data, place=Place(0, 3))
    card = json.loads((data / 'dataset.json').read_text())
    (data / 'dataset.json').write_text(json.dumps({**card, 'counts': {}}))
    with pytest.raises(ValueError, match='dataset.json: expected `counts` of single/<domain>'):
        shard_batches(data)


@pytest.fixture
def split(tmp_path: Path) -> Path:
    path = tmp_path / 'split.yaml'
    path.write_text('id: [red, blue]\nood: [green]')
    return path


def test_a_task_of_shards(data: Path, split: Path) -> None:
    source = Data(images=data, shards=True, test=data / 'single', split=split)
    task, found = shard_task(source)
    assert task.class_names == ('red', 'blue', 'green')
    assert task.trained == 2
    assert (len(task.train), len(task.test)) == (0, 18)
    assert task.seen_domains == DOMAINS
    assert len(found.urls) == 6
    assert shard_task(replace(source, domains=('day',)))[0].seen_domains == ('day',)


def test_a_class_without_shards_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / 'other.yaml').write_text('id: [red, pink]\nood: [blue]')
    with pytest.raises(ValueError, match='expected shards of the class pink; they have blue'):
        shard_task(Data(images=data, shards=True, test=data / 'single',
                                       split=tmp_path / 'other.yaml'))


def test_shards_are_distilled(data: Path, split: Path, tmp_path: Path, cache_dir: Path) -> None:
    recipe = replace(
        RECIPE, name='shards', out=tmp_path, loss=Loss(cls=1, im_cst=1),
        teacher=TeacherSource('support.coloured_data:make_teacher', ''),
        data=Data(images=data, shards=True, test=data / 'single', split=split,
                         enrich=False))
    result = distill.distill(recipe, distill.make_fabric(recipe))
    assert result['table'][0]['count'] == 18
    assert (tmp_path / 'shards_seed0' / 'student.safetensors').is_file()
