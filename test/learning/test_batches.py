"""Batches: every image once an epoch with what belongs to it, and streams that can be resumed."""
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.coloured_data import Place, PLAIN, RECIPE, same, take, WIDTH
import torch
from torch.nn import functional
from training.data.image_index import Index, read_folders
from training.data.images import Images
from training.data.task import shard_task
from training.learning import batches
from training.learning.rows import rows_of_epoch
from training.recipe import Data


@pytest.mark.parametrize('count, batch', [(12, 4), (13, 4), (5, 5), (1, 1)])
def test_an_epoch_has_every_image_once(count: int, batch: int) -> None:
    rows = rows_of_epoch(count, batch, 3, 0)
    assert rows.shape == (count // batch, batch)
    assert len(set(rows.flatten())) == rows.size
    assert set(rows.flatten()) <= set(range(count))


def test_epochs_and_seeds_are_shuffled_in_other_ways() -> None:
    first = rows_of_epoch(50, 5, 0, 0)
    assert np.array_equal(first, rows_of_epoch(50, 5, 0, 0))
    assert not np.array_equal(first, np.arange(50).reshape(10, 5))
    for seed, epoch in ((0, 1), (1, 0)):
        assert not np.array_equal(first, rows_of_epoch(50, 5, seed, epoch))
    left_out = {row for epoch in range(20)
                for row in {*range(13)} - {*rows_of_epoch(13, 4, 0, epoch).flatten()}}
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
        rows = rows_of_epoch(24, 4, 5, epoch)[step]
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


def test_few_fresh_images_are_a_part_of_each_batch(data: Path) -> None:
    index, targets, prototypes = guided(data, 0)
    known = functional.normalize(torch.tensor(targets[:, 0]).float(), dim=1)
    names = {tuple(row): number for number, row in enumerate(known.tolist())}

    def rows_of(few_share: float, *place: int) -> list[list[int]]:
        recipe = replace(RECIPE, few_share=few_share)
        source = batches.index_batches(Place(*place), recipe, index, targets, prototypes, fresh=6)
        return [[names[tuple(row)] for row in parts['teacher'].tolist()]
                for _, parts in take(source, 2 * source.per_epoch)]

    mixed = rows_of(0.5)
    assert len(mixed) == 6  # two epochs of three steps, each with two fresh images
    for epoch in (mixed[:3], mixed[3:]):
        assert sorted(row for rows in epoch for row in rows[:2]) == [*range(6)]
    others = [row for rows in mixed for row in rows[2:]]
    assert len(set(others)) == 12 and set(others) <= {*range(6, 24)}
    halves = rows_of(0.5, 0, 2), rows_of(0.5, 1, 2)
    assert [sorted(one + two) for one, two in zip(*halves, strict=True)] == [*map(sorted, mixed)]
    alone = rows_of(1)
    assert len(alone) == 2 and {row for rows in alone for row in rows} <= {*range(6)}


def test_what_processes_cannot_share_is_refused(data: Path) -> None:
    index, targets, prototypes = guided(data, 0)
    with pytest.raises(ValueError, match='batch: expected a multiple of the 3 processes.*got 4'):
        batches.index_batches(Place(0, 3), RECIPE, index, targets, prototypes)
    with pytest.raises(ValueError, match='at least an image .* for each of 4 processes, got 3'):
        batches.index_batches(Place(0, 4), RECIPE, index.take(range(3)), targets[:3], prototypes)


@pytest.mark.parametrize('fields, message', [
    ({'test': None}, r'data\.test: expected a folder of images to test on'),
    ({'domains': ('dusk',)}, r'data\.domains: .* has no domain dusk; it has day, night'),
    ({'images': Path('none')}, r'expected none/shards/single-\*\.tar')])
def test_a_task_that_cannot_be_is_refused(data: Path, fields: dict, message: str) -> None:
    source = Data(images=data, shards=True, test=data / 'single')
    with pytest.raises(ValueError, match=message):
        shard_task(replace(source, **fields))
