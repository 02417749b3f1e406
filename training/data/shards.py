"""
Images from WebDataset shards, for data larger than a disk; the same samples as `images.py`.

Corrupt images: a stream cannot be checked before training, so a corrupt sample, and the rest of a
shard that is cut off, are left out when they are read. Each adds a line with its name and the
reason to a log file that the workers of all ranks share; `ShardImages.corrupt` returns them, each
once.
"""
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
import json
import os
from pathlib import Path
import tarfile
from typing import Any

import torch
from torch.utils.data import IterableDataset
from training.data.images import Preparation, Sample
from training.recipe import Augmentation
from vl2v_ros.files import brief, one_line, read_json
from vl2v_ros.images.encodings import decode, FILES
from vl2v_ros.images.frame import to_rgb
import webdataset


@dataclass(frozen=True)
class Shards:
    """The places of shards (paths or URLs), and the sorted names of classes and domains."""

    urls: tuple[str, ...]
    class_names: tuple[str, ...]
    domain_names: tuple[str, ...]


def find_shards(root: Path, kind: str = 'single') -> Shards:
    """
    Find the shards that `render.py --shards` wrote.

    :param kind: 'single' or 'clutter'.
    :raises ValueError: if there are none, or no dataset.json that names classes and domains.
    """
    urls = tuple(str(path) for path in sorted((root / 'shards').glob(f'{kind}-*.tar')))
    card = root / 'dataset.json'
    if not urls or not card.is_file():
        raise ValueError(f'expected {root}/shards/{kind}-*.tar and {card}, found {len(urls)} '
                         'shards; render.py --shards N writes them')
    classes, domains = (_names(card, key) for key in ('classes', 'domains'))
    return Shards(urls, classes, domains)


def _names(card: Path, key: str) -> tuple[str, ...]:
    try:
        facts = read_json(card)
    except ValueError as error:
        raise ValueError(f'{card}: {error}') from error
    names = facts.get(key) if isinstance(facts, dict) else None
    if not isinstance(names, list | dict) or not names or not all(
            isinstance(name, str) for name in names):
        raise ValueError(f'{card}: expected a list of names as {key}, got {brief(names)}; '
                         'render.py writes it')
    return tuple(sorted(names))


class ShardImages(IterableDataset):
    """
    The images of shards as samples; webdataset distributes the shards to ranks and workers.

    There should be at least as many shards as workers of all ranks.
    """

    def __init__(self, shards: Shards, size: int, corrupt_log: Path,
                 augmentation: Augmentation | None = None, resize_mode: str = 'shortest',
                 seed: int = 0, shuffle: int = 0, least_visible: float = 0.1) -> None:
        """
        Set up; for the other parameters see Preparation.

        :param corrupt_log: file to which names of corrupt samples are appended.
        :param shuffle: size of the buffer that samples are drawn from; 0: order of the shards.
        :param least_visible: for scenes, see `coco.read_scenes`.
        """
        self._shards, self._shuffle, self._least_visible = shards, shuffle, least_visible
        self._log = corrupt_log
        self._prepare = Preparation(size, augmentation, resize_mode, seed)

    def set_epoch(self, epoch: int) -> None:
        """Use another order and other augmentations from now on; call it before each epoch."""
        self._prepare.epoch = epoch

    def corrupt(self) -> tuple[str, ...]:
        """Return '<sample or shard>: <reason>' of all that was left out so far, each once."""
        if not self._log.is_file():
            return ()
        return tuple(sorted(set(self._log.read_text(encoding='utf-8').splitlines())))

    def __iter__(self) -> Iterator[Sample]:
        """Yield this worker's part; raises ValueError for a class that is not among the names."""
        seed = self._prepare.stream if self._shuffle else None
        stages = [webdataset.SimpleShardList(self._shards.urls, seed=seed),
                  webdataset.split_by_node, webdataset.split_by_worker,
                  self._entries]
        if self._shuffle:
            stages.append(webdataset.shuffle(self._shuffle, seed=seed))
        return iter(webdataset.DataPipeline(*stages, self._samples))

    def _entries(self, source: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for shard in source:
            address = str(shard['url'])
            try:
                yield from webdataset.tariterators.tarfile_samples([shard])
            except (EOFError, OSError, ValueError, tarfile.TarError) as error:
                self._note(address, getattr(error, 'strerror', None) or str(error))

    def _samples(self, source: Iterable[dict[str, Any]]) -> Iterator[Sample]:
        for entry in source:
            try:
                record = json.loads(entry['json'])
                pixels = to_rgb(decode(entry['jpg'], FILES))
                name, domain, label = str(record['file']), record['domain'], self._label(record)
            except _Foreign:
                raise
            except LookupError as error:
                self._note(entry['__key__'], f'expected image and record, it lacks {error}')
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                self._note(entry['__key__'], str(error))
            else:
                yield Sample(self._prepare(pixels, name), label,
                             _number(domain, self._shards.domain_names), name)

    def _label(self, record: dict[str, Any]) -> torch.Tensor:
        names = self._shards.class_names
        if record['kind'] == 'single':
            return torch.tensor(_number(record['objects'][0]['class'], names))
        label = torch.zeros(len(names), dtype=torch.bool)
        for entry in record['objects']:
            label[_number(entry['class'], names)] |= entry['visible'] >= self._least_visible
        return label

    def _note(self, name: str, why: str) -> None:
        line = f'{one_line(name)}: {one_line(why)}\n'.encode()
        handle = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, line)  # in one piece, so that workers do not mix their lines
        finally:
            os.close(handle)


class _Foreign(ValueError):
    """A sample of other shards."""


def _number(name: str, names: tuple[str, ...]) -> int:
    if name not in names:
        raise _Foreign(f'expected one of {one_line(", ".join(names))}, got {brief(name)}; the '
                       'shards and dataset.json do not belong together')
    return names.index(name)
