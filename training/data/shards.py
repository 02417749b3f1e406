"""
Images from WebDataset shards, for data larger than a disk; the same samples as `images.py`.

Shards lie in a folder, or at an address that `storage.py` reads.

Corrupt images: a stream cannot be checked before training, so a corrupt sample, a shard that is
missing, and the rest of one that is cut off are left out when they are read; the next turn through
the shards tries them again. Each adds a line with its name and the reason to a log file that the
workers of all ranks share; `ShardImages.corrupt` returns them, each once.
"""
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
import json
import os
from pathlib import Path
import re
import tarfile
from typing import Any

import torch
from torch.utils.data import IterableDataset
from training.data.images import Preparation, Sample
from training.data.storage import opened, place_of, read
from training.recipe import address_of, Augmentation
from vl2v_ros.files import brief, one_line, parse_json
from vl2v_ros.images.encodings import decode, FILES
from vl2v_ros.images.frame import to_rgb
import webdataset
from webdataset.tariterators import group_by_keys, tar_file_expander

CARD = 'dataset.json'
NAME = re.compile(r'[\w.-]+\.tar')


@dataclass(frozen=True)
class Shards:
    """
    The places of shards (paths or addresses), and the sorted names of classes and domains.

    card: place of the dataset.json that names them.
    counts: number of images of each <kind>/<domain>, as it stands there.
    """

    urls: tuple[str, ...]
    class_names: tuple[str, ...]
    domain_names: tuple[str, ...]
    card: str = ''
    counts: Any = None


def find_shards(root: Path, kind: str = 'single') -> Shards:
    """
    Find the shards that `render.py --shards` wrote, in a folder or at an address.

    At an address, where nothing is listed, they are those that dataset.json names.

    :param kind: 'single' or 'clutter'.
    :raises ValueError: if there are none, or no dataset.json that names classes and domains; or
        if an address cannot be read.
    """
    card = place_of(root, CARD)
    there: list[str] = []
    if not address_of(root):
        there = sorted(path.name for path in (root / 'shards').glob(f'{kind}-*.tar'))
        if not there or not Path(card).is_file():
            raise ValueError(f'expected {root}/shards/{kind}-*.tar and {card}, found '
                             f'{len(there)} shards; render.py --shards N writes them')
    facts = _facts(card)
    classes, domains = (_names(card, facts, key) for key in ('classes', 'domains'))
    named = facts.get('shards')
    if named is None:
        named = there
    elif not isinstance(named, list) or not all(
            isinstance(name, str) and NAME.fullmatch(name) for name in named):
        raise ValueError(f'{card}: expected a list of names such as {kind}-000000.tar as shards, '
                         f'got {brief(named)}; render.py --shards N writes it')
    urls = tuple(place_of(root, f'shards/{name}') for name in named
                 if name.startswith(f'{kind}-'))
    if not urls:
        raise ValueError(f'{card}: expected the names of {kind}-*.tar as shards, got '
                         f'{brief(named)}; render.py --shards N writes them')
    return Shards(urls, classes, domains, card, facts.get('counts', {}))


def _facts(card: str) -> dict[str, Any]:
    """Return the content of a dataset.json; raises ValueError."""
    try:
        facts = parse_json(read(card))
    except (OSError, ValueError) as error:
        raise ValueError(f'{card}: {error}') from error
    return facts if isinstance(facts, dict) else {}


def _names(card: str, facts: dict[str, Any], key: str) -> tuple[str, ...]:
    names = facts.get(key)
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
            place = str(shard['url'])
            try:
                with opened(place) as stream:
                    yield from group_by_keys(tar_file_expander([{'url': place, 'stream': stream}]))
            except (EOFError, OSError, ValueError, tarfile.TarError) as error:
                # webdataset adds to the arguments of what it lets through.
                said = getattr(error, 'strerror', None) or next(iter(error.args), '')
                self._note(place, str(said) or type(error).__name__)

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
