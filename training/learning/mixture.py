"""
Mixtures: images of several sources in one training.

A source may have names for its images, embeddings of the teacher, both or neither (then only the
loss term `keep` learns from it). Every batch has the same part of each source.
"""
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
import itertools
from pathlib import Path, PurePosixPath
import unicodedata

from lightning_fabric import Fabric
import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import ConcatDataset, DataLoader
from training.data import resident
from training.data.class_names import read_names
from training.data.coco import read_crops
from training.data.image_index import Index, label_of, make_index, without_corrupt
from training.data.images import Images, Sample
from training.data.task import report_corrupt
from training.learning.batches import Batches, Drawn, on_device, part_of, quiet_worker, RowBatches
from training.learning.rows import mixed_rows, shares
from training.learning.trainee import outputs, Trainee
from training.recipe import Recipe, Source
from training.teachers.embedding_cache import CachedTeacher, embeddings, known_embeddings
from vl2v_ros.images.folders import image_files

NO_NAME = -1
# Boxes that are learned from: as the node cuts them (region_margin), if they can be told at all.
MARGIN, LEAST_VISIBLE, SMALLEST = 0.1, 0.3, 24  # the last two: part in [0, 1], shorter side [px]


@dataclass(frozen=True, eq=False)
class Known:
    """
    The images of a source, with their names and the teacher's embeddings.

    labels: (N,) int64, numbers of names, or NO_NAME.
    targets: (N, D) float16 unit rows of the teacher, or None.
    part: share of each batch, relative to the other sources.
    """

    index: Index
    labels: np.ndarray
    targets: np.ndarray | None
    part: float


def read_images(source: Source) -> Index:
    """
    Read the images of a source, at any depth; their class is their folder. Or read its boxes.

    :raises ValueError: if there is no image, or a folder to leave out does not exist.
    """
    if source.boxes:
        index = _boxes(source, check=True)
    else:
        files, classes = _files(source)
        index = make_index(source.images, files, classes, [''] * len(files))
        index = without_corrupt(index, check=True)
    report_corrupt(index)
    return index


def _files(source: Source) -> tuple[list[str], list[str]]:
    """Return the images of a source and their classes; raises ValueError as read_images does."""
    for name in source.without:
        if not (source.images / name).is_dir():
            raise ValueError(f'data.sources: {source.images} has no folder {name} to leave out')
    files = [str(file) for file in image_files(source.images)
             if not any(PurePosixPath(name) in file.parents for name in source.without)]
    if not files:
        raise ValueError(f'data.sources: expected images in {source.images}, found none'
                         + ('' if source.images.is_dir() else '; there is no such folder'))
    return files, [unicodedata.normalize('NFC', Path(file).parent.name) for file in files]


def _boxes(source: Source, check: bool) -> Index:
    try:
        return read_crops(source.images, MARGIN, LEAST_VISIBLE, SMALLEST, check, squares=True)
    except ValueError as error:
        raise ValueError(f'data.sources: {error}') from error


def labels_of(sources: Sequence[Source]) -> tuple[str, ...]:
    """Return the names of the sources' class folders, each once, in order."""
    return tuple(dict.fromkeys(name for source in sources
                               for name in names_of(source).values()))


def names_of(source: Source) -> dict[str, str]:
    """Return class folder -> name of a source; raises ValueError for a file of no names."""
    if source.named:
        classes = (_boxes(source, check=False).class_names if source.boxes
                   else dict.fromkeys(_files(source)[1]))
        return {name: label_of(name) for name in classes}
    return read_names(source.names) if source.names else {}


def read_sources(recipe: Recipe, names: Sequence[str], cached: CachedTeacher) -> list[Known]:
    """
    Read all sources of a recipe, and ask the teacher if a source needs its embeddings.

    :param names: the names that labels are numbers of.
    :raises ValueError: for folders or files that do not fit, or answers that are not available.
    """
    numbers = {name: number for number, name in enumerate(names)}
    known = []
    for source in recipe.data.sources:
        index = read_images(source)
        targets: np.ndarray | None = None
        if source.teacher == 'known':
            answers, told = known_embeddings(index, cached)
            if not told.any():
                raise ValueError(f'data.sources: the caches have no answer of '
                                 f'{cached.teacher.identity} to an image in {source.images}; '
                                 'import a recording of them (training/recordings.py)')
            index, targets = index.take(told), answers[told]
        elif source.teacher == 'all':
            targets = embeddings(index, cached)[:, 0]
        called = names_of(source)
        if called and not called.keys() & set(index.class_names):
            raise ValueError(f'data.sources: {source.names} names none of the folders of images '
                             f'in {source.images}, such as {index.class_names[0]!r}')
        by_class = np.array([numbers[called[name]] if name in called else NO_NAME
                             for name in index.class_names], np.int64)
        known.append(Known(index, by_class[index.labels], targets, source.part))
    return known


def with_start(fabric: Fabric, known: Sequence[Known], recipe: Recipe, trainee: Trainee
               ) -> list[Known]:
    """Add the student's embeddings at the start as targets of the sources that ask for them."""
    with fabric.autocast():
        return [replace(one, targets=outputs(trainee, one.index)[0].half().numpy())
                if source.teacher == 'start' else one
                for source, one in zip(recipe.data.sources, known, strict=True)]


class Mixed(ConcatDataset):
    """The images of all sources, one after the other; labels count names."""

    def __init__(self, known: Sequence[Known], recipe: Recipe) -> None:
        """Set up."""
        self._parts = [Images(source.index, recipe.student.image_size, recipe.augmentation,
                              seed=recipe.seed) for source in known]
        super().__init__(self._parts)
        self._labels = np.concatenate([source.labels for source in known])

    def set_epoch(self, epoch: int) -> None:
        """Use other augmentations from now on."""
        for images in self._parts:
            images.set_epoch(epoch)

    def __getitem__(self, row: int) -> Sample:
        sample: Sample = ConcatDataset.__getitem__(self, row)
        return sample._replace(label=torch.tensor(self._labels[row]))


def _answers(known: Sequence[Known], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all rows of the teacher, zeros for missing ones, and (N,) bool, which exist."""
    return (np.concatenate([np.zeros((len(source.index), width), np.float16)
                            if source.targets is None else source.targets for source in known]),
            np.repeat([source.targets is not None for source in known],
                      [len(source.index) for source in known]))


def mixture_batches(fabric: Fabric, recipe: Recipe, known: Sequence[Known],
                    prototypes: torch.Tensor) -> Batches:
    """
    Return batches with a fixed part of each source; an epoch has as many images as there are.

    All processes together see the same images as a single one, if their parts of a batch have
    equally many of each source.

    :param prototypes: (C, D) of the names.
    :raises ValueError: for a batch too small for the sources, or that processes cannot share.
    """
    images = Mixed(known, recipe)
    part = part_of(fabric, recipe.batch)
    counts = shares([source.part for source in known], part)
    per_epoch = max(1, len(images) // recipe.batch)
    targets, told = _answers(known, prototypes.shape[1])
    prototypes = prototypes.to(fabric.device)

    rows_of = partial(mixed_rows, [len(source.index) for source in known], counts, per_epoch,
                      recipe.seed, fabric.global_rank, fabric.world_size)

    def known_of(rows: Sequence[int], labels: torch.Tensor) -> dict[str, torch.Tensor]:
        teacher = functional.normalize(torch.from_numpy(targets[rows]).float(), dim=1)
        return {'labels': labels.to(fabric.device), 'prototypes': prototypes,
                'teacher': teacher.to(fabric.device), 'told': torch.from_numpy(told[rows]),
                'named': labels != NO_NAME}

    @cache
    def decoded() -> torch.Tensor:
        return resident.decode_all([source.index for source in known], recipe.student.image_size,
                                   fabric.device)

    def draw_resident(epoch: int, step: int) -> Drawn:
        pixels = decoded()
        labels = torch.from_numpy(np.concatenate([source.labels for source in known]))
        for epoch in itertools.count(epoch):
            for number, rows in enumerate(rows_of(epoch)[step:], step):
                seed = [recipe.seed, epoch, number, fabric.global_rank]
                chosen = pixels[torch.from_numpy(rows).to(fabric.device)]
                yield (resident.augment(chosen, recipe.augmentation, seed),
                       known_of(rows, labels[rows]))
            step = 0

    def draw(epoch: int, step: int) -> Drawn:
        chosen = RowBatches()
        loader = DataLoader(images, batch_sampler=chosen, num_workers=recipe.workers,
                            persistent_workers=recipe.workers > 0, worker_init_fn=quiet_worker,
                            pin_memory=fabric.device.type == 'cuda')
        for epoch in itertools.count(epoch):
            chosen.rows = rows_of(epoch)[step:].tolist()
            images.set_epoch(epoch)
            for rows, sample in zip(chosen.rows, loader, strict=True):
                yield on_device(fabric, sample.image), known_of(rows, sample.label)
            step = 0

    return Batches(per_epoch, draw_resident if recipe.resident else draw)
