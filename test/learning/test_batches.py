"""Batches: every image once an epoch with what belongs to it, and streams that can go on."""
from dataclasses import replace
import itertools
import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional
from training import distill
from training.data.image_index import Index, read_folders
from training.data.images import Images
from training.data.shards import find_shards
from training.data.task import shard_task
from training.learning import batches
from training.learning.batches import Batches
from training.recipe import Augmentation, Data, Loss, Recipe, Stage, StudentSource, TeacherSource
from training.rendering import dataset_files
from training.teachers.teacher import CallableTeacher

COLOURS = {'blue': (0, 0, 255), 'green': (0, 255, 0), 'grey': (90, 90, 90), 'red': (255, 0, 0)}
DOMAINS = ('day', 'night')
WIDTH = 4
PLAIN = Augmentation(jitter=0, hue=0, grey=0)
RECIPE = Recipe(
    student=StudentSource('test_resnet', '', 16), batch=4, workers=0, device='cpu',
    augmentation=PLAIN, stages=(Stage('all', 1),))


class Place(NamedTuple):
    """What batches ask of Fabric."""

    global_rank: int = 0
    world_size: int = 1
    device: torch.device = torch.device('cpu')


def see(pixels: np.ndarray) -> np.ndarray:
    """Embed (B, S, S, 3) uint8 as its mean colour and what little differs between images."""
    rows = pixels.mean((1, 2)) / 255  # (B, 3)
    return np.concatenate([rows, pixels.std((1, 2, 3))[:, None] / 255 + 0.01], axis=1)


def read(prompts: list[str]) -> np.ndarray:
    """Embed prompts by the colour they name."""
    return np.array([next((*COLOURS[name], 10) for name in COLOURS if name in prompt)
                     for prompt in prompts]) / 255


def make_teacher() -> CallableTeacher:
    return CallableTeacher(see, read, 'colours', WIDTH, 8)


def write_data(root: Path, each: int = 3) -> list[dict[str, object]]:
    """Write single/<domain>/<class>/* as render.py does; return its records."""
    rng, records = np.random.default_rng(0), []
    for domain, name, number in itertools.product(DOMAINS, COLOURS, range(each)):
        colour = np.array(COLOURS[name]) * (0.4 if domain == 'night' else 0.8)
        image = np.clip(colour + rng.integers(0, 40, (24, 24, 3)), 0, 255).astype(np.uint8)
        file = f'single/{domain}/{name}/{number:05d}.jpg'
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / file), image[..., ::-1])
        records.append({'file': file, 'kind': 'single', 'domain': domain,
                        'objects': [{'class': name, 'box': [0, 0, 24, 24], 'visible': 1.0}]})
    counts = {f'single/{domain}': each * len(COLOURS) for domain in DOMAINS}
    (root / 'dataset.json').write_text(json.dumps(
        {'classes': list(COLOURS), 'domains': dict.fromkeys(DOMAINS, ''), 'counts': counts}))
    return records


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a dataset of 24 images, of 4 classes in 2 domains, in shards of 4 images."""
    dataset_files.write_shards(tmp_path / 'data', write_data(tmp_path / 'data'), 4)
    return tmp_path / 'data'


def take(source: Batches, steps: int, epoch: int = 0, step: int = 0
         ) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    drawn = source.draw(epoch, step)
    try:
        return list(itertools.islice(drawn, steps))
    finally:
        drawn.close()


def same(first: list, second: list) -> bool:
    assert len(first) == len(second)
    return all(torch.equal(one, other) and parts.keys() == others.keys()
               and all(torch.equal(parts[name], others[name]) for name in parts)
               for (one, parts), (other, others) in zip(first, second, strict=True))


# Out of folders

@pytest.mark.parametrize('count, batch', [(12, 4), (13, 4), (5, 5), (1, 1)])
def test_an_epoch_has_every_image_once(count: int, batch: int) -> None:
    rows = batches.rows_of_epoch(count, batch, 3, 0)
    assert rows.shape == (count // batch, batch)
    assert len(set(rows.flatten())) == rows.size
    assert set(rows.flatten()) <= set(range(count))


def test_epochs_and_seeds_are_shuffled_in_other_ways() -> None:
    first = batches.rows_of_epoch(50, 5, 0, 0)
    assert np.array_equal(first, batches.rows_of_epoch(50, 5, 0, 0))
    assert not np.array_equal(first, np.arange(50).reshape(10, 5))
    for seed, epoch in ((0, 1), (1, 0)):
        assert not np.array_equal(first, batches.rows_of_epoch(50, 5, seed, epoch))
    left_out = {row for epoch in range(20)
                for row in {*range(13)} - {*batches.rows_of_epoch(13, 4, 0, epoch).flatten()}}
    assert len(left_out) > 5  # not always the same


def guided(data: Path, views: int) -> tuple[Index, np.ndarray, torch.Tensor]:
    index = read_folders(data / 'single')
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(len(index), max(1, views), WIDTH)).astype(np.float16)
    return index, targets, torch.eye(WIDTH)


@pytest.mark.parametrize('views', [0, 2])
@pytest.mark.parametrize('workers', [0, 1])
def test_images_come_with_what_belongs_to_them(data: Path, views: int, workers: int) -> None:
    recipe = replace(RECIPE, views=views, workers=workers, seed=5)
    index, targets, prototypes = guided(data, views)
    captions = torch.rand(len(index), WIDTH)
    source = batches.index_batches(Place(), recipe, index, targets, prototypes, captions)
    assert source.per_epoch == 6
    images = Images(index, 16, PLAIN, seed=5)
    for number, (batch, parts) in enumerate(take(source, 18)):
        epoch, step = divmod(number, 6)
        rows = batches.rows_of_epoch(24, 4, 5, epoch)[step]
        view = epoch % views if views else epoch  # of which the teacher saw the first `views`
        images.set_epoch(view)
        assert torch.equal(batch, torch.stack([images[row].image for row in rows]))
        assert batch.is_contiguous(memory_format=torch.channels_last)
        assert parts['labels'].tolist() == index.labels[rows].tolist()
        wanted = torch.tensor(targets[rows, view if views else 0]).float()
        assert torch.allclose(parts['teacher'], functional.normalize(wanted, dim=1))
        assert torch.equal(parts['prototypes'], prototypes)
        assert torch.equal(parts['captions'], captions[rows])


@pytest.mark.parametrize('workers', [0, 1])
def test_folders_go_on_where_they_were(data: Path, workers: int) -> None:
    recipe = replace(RECIPE, views=2, workers=workers)
    source = batches.index_batches(Place(), recipe, *guided(data, 2))
    whole = take(source, 14)
    assert same(whole[8:], take(source, 6, 1, 2))
    assert not same(whole[:6], whole[6:12])


def test_processes_share_a_batch(data: Path) -> None:
    index, targets, prototypes = guided(data, 0)
    whole, *parts = (take(batches.index_batches(place, RECIPE, index, targets, prototypes), 7)
                     for place in (Place(), Place(0, 2), Place(1, 2)))
    together = [(torch.cat([one, two]), {
        name: torch.cat([first[name], second[name]]) if name != 'prototypes' else first[name]
        for name in first}) for (one, first), (two, second) in zip(*parts, strict=True)]
    assert same(whole, together)


def test_few_images_make_a_smaller_batch(data: Path) -> None:
    index, targets, prototypes = guided(data, 0)
    source = batches.index_batches(Place(), replace(RECIPE, batch=64), index.take(range(5)),
                                   targets[:5], prototypes)
    assert source.per_epoch == 1
    assert [len(images) for images, _ in take(source, 3)] == [5, 5, 5]


def test_what_processes_cannot_share_is_refused(data: Path) -> None:
    index, targets, prototypes = guided(data, 0)
    with pytest.raises(ValueError, match='batch: expected a multiple of the 3 processes.*got 4'):
        batches.index_batches(Place(0, 3), RECIPE, index, targets, prototypes)
    with pytest.raises(ValueError, match='at least an image .* for each of 4 processes, got 3'):
        batches.index_batches(Place(0, 4), RECIPE, index.take(range(3)), targets[:3], prototypes)


# Out of shards

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


@pytest.mark.parametrize('fields, message', [
    ({'test': None}, r'data\.test: expected a folder of images to test on'),
    ({'domains': ('dusk',)}, r'data\.domains: .* has no domain dusk; it has day, night'),
    ({'images': Path('none')}, r'expected none/shards/single-\*\.tar')])
def test_a_task_that_cannot_be_is_refused(data: Path, fields: dict, message: str) -> None:
    source = Data(images=data, shards=True, test=data / 'single')
    with pytest.raises(ValueError, match=message):
        shard_task(replace(source, **fields))


def test_a_class_without_shards_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / 'other.yaml').write_text('id: [red, pink]\nood: [blue]')
    with pytest.raises(ValueError, match='expected shards of the class pink; they have blue'):
        shard_task(Data(images=data, shards=True, test=data / 'single',
                                       split=tmp_path / 'other.yaml'))


def test_shards_are_distilled(data: Path, split: Path, tmp_path: Path, cache_dir: Path) -> None:
    recipe = replace(
        RECIPE, name='shards', out=tmp_path, loss=Loss(cls=1, im_cst=1),
        teacher=TeacherSource('test_batches:make_teacher', ''),
        data=Data(images=data, shards=True, test=data / 'single', split=split,
                         enrich=False))
    result = distill.distill(recipe, distill.make_fabric(recipe))
    assert result['table'][0]['count'] == 18
    assert (tmp_path / 'shards_seed0' / 'student.safetensors').is_file()
