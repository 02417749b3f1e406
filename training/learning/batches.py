"""Batches: the input of each process in each step, from folders or from shards."""
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
import itertools
from pathlib import Path
import signal

from lightning_fabric import Fabric
import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset
from training.data.image_index import Index
from training.data.images import Images, Sample
from training.data.shards import ShardImages, Shards
from training.learning.rows import mixed_rows, rows_of_epoch, shares
from training.recipe import Data, Recipe
from training.teachers.teacher import Teacher, unit_rows
from vl2v_ros.files import one_line

SHUFFLE = 1000  # images of shards to draw from at a time
EMPTY_TURNS = 10  # in a row without an image to train on, and a process gives up

Step = tuple[torch.Tensor, dict[str, torch.Tensor]]
Drawn = Generator[Step, None, None]


@dataclass(frozen=True)
class Batches:
    """
    The source of a stage's batches.

    per_epoch: steps of one epoch.
    draw: (first epoch, first step of it) -> endless iterator of batches on the device: this
    process's images (B, 3, S, S), and the fields of Batch except the student's. Close it.
    """

    per_epoch: int
    draw: Callable[[int, int], Drawn]


def part_of(fabric: Fabric, batch: int) -> int:
    """Return the number of a batch's images per process; raises ValueError if it is not equal."""
    part, rest = divmod(batch, fabric.world_size)
    if rest or not part:
        raise ValueError(f'batch: expected a multiple of the {fabric.world_size} processes, as '
                         f'each must have equally many images, got {batch}')
    return part


def quiet_worker(_: int) -> None:
    """Let Ctrl-C, which reaches all processes, stop only the one that trains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def on_device(fabric: Fabric, images: torch.Tensor) -> torch.Tensor:
    """Return (B, 3, S, S) images on the device, with channels last, which is faster."""
    return images.to(fabric.device, non_blocking=True, memory_format=torch.channels_last)


class RowBatches:
    """The rows of each batch of one process; they change from epoch to epoch."""

    def __init__(self) -> None:
        """Begin empty."""
        self.rows: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the rows of each batch."""
        return iter(self.rows)


def index_batches(fabric: Fabric, recipe: Recipe, index: Index, targets: np.ndarray,
                  prototypes: torch.Tensor, captions: torch.Tensor | None = None,
                  absent: torch.Tensor | None = None, fresh: int = 0) -> Batches:
    """
    Return batches of a folder's images; all processes together see the same as a single one.

    With `fresh` images, an epoch shows each of these once, and as many of the others as make up
    the batches.

    :param targets: (N, V, D), the teacher's embeddings of V views.
    :param prototypes: (C, D) of the trained classes.
    :param captions: (N, D), embeddings of the caption of each image.
    :param absent: (C, D), for scenes, of prompts that a class is not in the image.
    :param fresh: the first so many images are `few_share` of each batch; 0: all are alike.
    :raises ValueError: for a batch that the processes cannot share, or too few images.
    """
    assert len(targets) == len(index), (targets.shape, len(index))
    images = Images(index, recipe.student.image_size, recipe.augmentation, seed=recipe.seed)
    part = part_of(fabric, recipe.batch)
    count = fresh if fresh and recipe.few_share == 1 else len(index)
    part = min(part, count // fabric.world_size)  # few images make a smaller batch
    if not part:
        raise ValueError(f'{index.root}: expected at least an image to train on for each of '
                         f'{fabric.world_size} processes, got {count}')
    per_epoch, rows_of = _rows(fabric, recipe, count, part, fresh)
    prototypes = prototypes.to(fabric.device)

    def draw(epoch: int, step: int) -> Drawn:
        chosen = RowBatches()
        loader = DataLoader(images, batch_sampler=chosen, num_workers=recipe.workers,
                            persistent_workers=recipe.workers > 0, worker_init_fn=quiet_worker,
                            pin_memory=fabric.device.type == 'cuda')
        while True:
            chosen.rows = rows_of(epoch)[step:].tolist()
            view = epoch % recipe.views if recipe.views else epoch
            images.set_epoch(view)
            for wanted, sample in zip(chosen.rows, loader, strict=True):
                teacher = torch.from_numpy(targets[wanted, view if recipe.views else 0]).float()
                parts = {
                    'labels': sample.label.to(fabric.device), 'prototypes': prototypes,
                    'teacher': functional.normalize(teacher, dim=1).to(fabric.device)}
                if absent is not None:
                    parts['absent'] = absent.to(fabric.device)
                if captions is not None:
                    parts['captions'] = captions[wanted].to(fabric.device)
                yield on_device(fabric, sample.image), parts
            epoch, step = epoch + 1, 0

    return Batches(per_epoch, draw)


def _rows(fabric: Fabric, recipe: Recipe, count: int, part: int, fresh: int
          ) -> tuple[int, Callable[[int], np.ndarray]]:
    """Return the steps of an epoch, and what gives this process's (steps, part) rows of one."""
    rank, world = fabric.global_rank, fabric.world_size
    if 0 < fresh < count:
        counts = shares([recipe.few_share, 1 - recipe.few_share], part)
        per_epoch = max(1, fresh // (counts[0] * world))
        return per_epoch, partial(mixed_rows, [fresh, count - fresh], counts, per_epoch,
                                  recipe.seed, rank, world)
    return count // (part * world), lambda epoch: rows_of_epoch(
        count, part * world, recipe.seed, epoch)[:, rank * part:(rank + 1) * part]


def count_shard_images(data: Data, shards: Shards, trained: int) -> int:
    """Return the number of training images in shards, if all classes have equally many."""
    card = shards.card
    try:
        of_kind = {name: int(shards.counts.get(f'single/{name}', 0))
                   for name in data.domains or shards.domain_names}
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f'{card}: expected `counts` of single/<domain>, got '
                         f'{one_line(error)}; render.py writes them') from error
    images = sum(of_kind.values()) * trained // len(shards.class_names)
    if not images:
        raise ValueError(f'{card}: expected `counts` of single/<domain> that are not zero, got '
                         f'{of_kind}; render.py writes them')
    return images


def _shard_images(shards: Shards, recipe: Recipe, log: Path, epoch: int) -> ShardImages:
    images = ShardImages(shards, recipe.student.image_size, log, recipe.augmentation,
                         seed=recipe.seed, shuffle=SHUFFLE)
    images.set_epoch(epoch)
    return images


@dataclass(frozen=True, eq=False)
class Endless(IterableDataset):
    """
    The images of some classes and domains, again and again, so that no process runs out.

    make: epoch -> this process's part of the shards, shuffled and augmented for that epoch.
    numbers: number of a class in the shards -> number among the trained classes.
    domains: numbers of the trained domains.
    """

    make: Callable[[int], ShardImages]
    numbers: dict[int, int]
    domains: frozenset[int]
    epoch: int

    def __iter__(self) -> Iterator[Sample]:
        """Yield samples; raises ValueError if there are none."""
        last = -1  # turn with an image
        for turn in itertools.count():
            # Each turn of an epoch is shuffled in another way, and dealt out in another way.
            images = self.make(self.epoch + (turn << 32))
            for sample in images:
                if sample.domain in self.domains and int(sample.label) in self.numbers:
                    last = turn
                    yield sample._replace(label=torch.tensor(self.numbers[int(sample.label)]))
            if turn - last == EMPTY_TURNS:
                left_out = images.corrupt()
                why = f'; left out: {left_out[0]}' if left_out else ''
                raise ValueError('expected shards with images of the classes and domains trained '
                                 f'on, found none in {EMPTY_TURNS} turns; write fewer shards, '
                                 f'with more images in each{why}')


def shard_batches(fabric: Fabric, recipe: Recipe, shards: Shards, teacher: Teacher,
                  prototypes: torch.Tensor, trained: Sequence[str], log: Path) -> Batches:
    """
    Return batches from shards; the teacher is asked in each step.

    The teacher sees the same crops and colours as the student, at its own size. Images of other
    classes are skipped. A resumed run reads the images of its epoch again, without asking the
    teacher.

    :param prototypes: (C, D) of the trained classes.
    :param trained: their C names, in this order.
    :param log: file for the names of corrupt images.
    :raises ValueError: for a batch that the processes cannot share, or too few shards.
    """
    part = part_of(fabric, recipe.batch)
    if len(shards.urls) < fabric.world_size:
        raise ValueError(f'{recipe.data.images}: expected at least as many shards as the '
                         f'{fabric.world_size} processes, found {len(shards.urls)}; write more')
    workers = min(recipe.workers, len(shards.urls) // fabric.world_size)
    images = count_shard_images(recipe.data, shards, len(trained))
    per_epoch = max(1, images // recipe.batch)
    numbers = {shards.class_names.index(name): number for number, name in enumerate(trained)}
    domains = frozenset(shards.domain_names.index(name)
                        for name in recipe.data.domains or shards.domain_names)
    prototypes = prototypes.to(fabric.device)
    make = partial(_shard_images, shards, recipe, log)

    def draw(epoch: int, step: int) -> Drawn:
        while True:
            loader = DataLoader(Endless(make, numbers, domains, epoch), part, num_workers=workers,
                                worker_init_fn=quiet_worker,
                                pin_memory=fabric.device.type == 'cuda')
            for sample in itertools.islice(loader, step, per_epoch):
                batch = on_device(fabric, sample.image)
                yield batch, {'labels': sample.label.to(fabric.device), 'prototypes': prototypes,
                              'teacher': ask(teacher, batch)}
            epoch, step = epoch + 1, 0

    return Batches(per_epoch, draw)


def ask(teacher: Teacher, images: torch.Tensor) -> torch.Tensor:
    """Return the teacher's (B, D) unit embeddings of (B, 3, S, S) images, resized for it."""
    if images.shape[2] != teacher.image_size:
        images = functional.interpolate(images, (teacher.image_size,) * 2, mode='bilinear',
                                        antialias=True)
    rows = unit_rows(teacher.embed_images(images), len(images), teacher.width,
                     f'teacher {teacher.identity}')
    return torch.from_numpy(rows).to(images.device)
