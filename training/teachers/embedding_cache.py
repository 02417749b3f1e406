"""
Image embeddings of a teacher, each computed once and cached on disk in half precision.

A teacher's folder holds `rows.f16`, D little-endian float16 per embedding, and `keys`, a hash of
everything that the embedding depends on. Both files only grow, rows first: a row is valid once its
key is written, so a run that is killed loses at most one batch, and the next run cuts off
incomplete rows. One process writes at a time, the others wait. Half precision changes a unit row
by at most 0.03 degrees.
"""
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
import fcntl
import hashlib
import json
import os
from pathlib import Path
import tempfile

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
import torchvision
from tqdm import tqdm
from training.data.image_index import Index
from training.data.images import Images
from training.recipe import Augmentation
from training.teachers.queries import missing_answers, Queries
from training.teachers.teacher import CannotLoad, Teacher, unit_rows
from vl2v_ros.files import replacing

KEY = 16  # of a hash [bytes]


def embeddings(index: Index, teacher: Teacher, folder: Path, views: int = 0,
               augmentation: Augmentation | None = None, seed: int = 0, batch: int = 64,
               resize_mode: str = 'shortest', workers: int = 0,
               queries: Queries | None = None) -> np.ndarray:
    """
    Return the embeddings of the images of an index; only missing ones are computed.

    View v is what Images(index, S, augmentation, seed=seed) returns after set_epoch(v), at the
    teacher's S; so a student whose images have the same seed and epoch sees the same crop, flip
    and colours at its own size. A changed image, another teacher or another preparation of images
    makes new embeddings; the old ones stay in the folder.

    :param folder: folder of all teachers' embeddings; made if it does not exist.
    :param views: number of augmented views; 0: one plain view, resized as on the robot, for which
        augmentation and seed do not matter.
    :param resize_mode: resize mode of the plain view.
    :param batch: images per query.
    :param workers: processes that read images; 0: none.
    :param queries: counts the queries; None: they are not counted.
    :return: (N, max(1, views), D) float16 unit rows, read-only and mapped into memory. They are
        the file of rows itself if it has them in this order, else a copy in an unnamed file.
    :raises ValueError: for views without augmentation, an image that cannot be read, a teacher
        that returns no embeddings or cannot be loaded, or a folder with another width.
    :raises OSError: if nothing can be written; earlier embeddings stay.
    """
    if views < 0 or (views and augmentation is None):
        raise ValueError(f'embeddings: expected views and how to augment them, or 0 views, got '
                         f'{views} and {augmentation}')
    augmentation = augmentation if views else None
    sets = [Images(index, teacher.image_size, augmentation, resize_mode, seed)
            for _ in range(max(1, views))]
    for view, images in enumerate(sets):
        images.set_epoch(view)
    keys = _keys(index, teacher, len(sets), augmentation, seed, resize_mode)
    store = open_store(folder, teacher.identity, teacher.width)
    missing = 0
    if not all(key in store.positions for key in keys):
        with store.writing():  # for so long that no other process asks for the same images
            missing = _embed(sets, keys, teacher, store, batch, workers)
    if queries is not None:
        queries.add('images', len(set(keys)), missing)
    return store.rows(keys).reshape(len(index), len(sets), teacher.width)


def known_embeddings(index: Index, teacher: Teacher, folder: Path, queries: Queries
                     ) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the cached plain embeddings, without asking the teacher.

    :return: (N, D) float16 unit rows, zeros for missing ones, and (N,) bool, which are cached.
    """
    keys = _keys(index, teacher, 1, None, 0, 'shortest')
    store = open_store(folder, teacher.identity, teacher.width)
    known = np.array([key in store.positions for key in keys], bool)
    rows = np.zeros((len(index), teacher.width), np.float16)
    if known.any():
        rows[known] = store.rows([key for key in keys if key in store.positions])
    queries.add('images', int(known.sum()), 0)
    return rows, known


def _keys(index: Index, teacher: Teacher, views: int, augmentation: Augmentation | None,
          seed: int, resize_mode: str) -> list[bytes]:
    """Return the key of each view of each image."""
    files = list(dict.fromkeys(index.files))
    contents = dict(zip(files, file_digests([index.root / file for file in files]), strict=True))
    prepared = None if augmentation is None else [
        repr(augmentation), seed, torchvision.__version__.partition('+')[0]]
    keys = []
    for row, file in enumerate(index.files):
        box = None if index.boxes is None else index.boxes[row].tolist()
        name = '' if augmentation is None else index.name(row)  # augmentation draws by the name
        keys += [image_key(teacher.identity, teacher.image_size, contents[file], box, name, view,
                           prepared or [resize_mode]) for view in range(views)]
    return keys


def image_key(identity: str, image_size: int, digest: str, box: list[int] | None = None,
              name: str = '', view: int = 0, prepared: Sequence[object] = ('shortest',)) -> bytes:
    """
    Return the hash of all that an embedding depends on; by default, of a whole plain image.

    :param digest: SHA-256 of the image's file, in hexadecimal digits.
    """
    key = [identity, image_size, digest, box, name, view, list(prepared)]
    return hashlib.sha256(json.dumps(key).encode()).digest()[:KEY]


def open_store(folder: Path, identity: str, width: int) -> 'Store':
    """Open a teacher's folder among those of all teachers; raises ValueError as Store does."""
    return Store(folder / hashlib.sha256(identity.encode()).hexdigest()[:16], identity, width)


def file_digests(paths: Sequence[Path]) -> list[str]:
    """Return SHA-256 of files in hexadecimal digits; raises ValueError if one is not there."""
    with ThreadPoolExecutor() as pool:  # reading and hashing are done outside Python's lock
        return list(pool.map(_file_digest, paths))


def _file_digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f'{path}: {error.strerror}; it was there when the index was read, so '
                         'read the index again') from error


class _Views(Dataset):
    """Some views of some images: item (row, view) of each set's images."""

    def __init__(self, sets: Sequence[Images], items: Sequence[tuple[int, int]]) -> None:
        self._sets, self._items = sets, items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, number: int) -> torch.Tensor:
        row, view = self._items[number]
        return self._sets[view][row].image


def _embed(sets: Sequence[Images], keys: Sequence[bytes], teacher: Teacher, store: 'Store',
           batch: int, workers: int) -> int:
    """Embed the images that the store lacks, batch by batch; return their number."""
    numbers: dict[bytes, int] = {}  # equal images are embedded once
    for number, key in enumerate(keys):
        if key not in store.positions:
            numbers.setdefault(key, number)
    if not numbers:  # another process was faster
        return 0
    missing, items = list(numbers), [divmod(number, len(sets)) for number in numbers.values()]
    changed = len({row for row, _ in items})
    tqdm.write(f'{changed} of {len(sets[0])} images are new or have changed; {teacher.identity} '
               'embeds them now')
    loader = DataLoader(_Views(sets, items), batch, num_workers=workers)
    done = 0
    with tqdm(total=len(items), desc='embedding', unit='view', disable=None) as progress:
        for images in loader:  # (B, 3, S, S)
            try:
                answer = teacher.embed_images(images)
            except CannotLoad as error:
                what = 'images' if changed == len(items) else (
                    f'augmented views (--views 0 needs plain images alone) of {changed} images')
                names = dict.fromkeys(sets[0].index.name(row) for row, _ in items)
                raise ValueError(missing_answers(teacher.identity, len(items), what, list(names),
                                                 error)) from error
            rows = unit_rows(answer, len(images), teacher.width, f'teacher {teacher.identity}')
            store.append(missing[done:done + len(images)], rows)
            done += len(images)
            progress.update(len(images))
    return len(items)


class Store:
    """
    Embeddings of one teacher on disk, found by their keys.

    positions: key -> number of its row.
    """

    def __init__(self, folder: Path, identity: str, width: int) -> None:
        """
        Read the keys of the embeddings; nothing is written.

        :raises ValueError: if the folder has embeddings of another width.
        """
        self._folder, self._identity, self._width = folder, identity, width
        self._rows, self._keys = folder / 'rows.f16', folder / 'keys'
        self._check()
        self._read()

    def _check(self) -> None:
        """Compare the width with that of the folder, if it has one."""
        path = self._folder / 'teacher.json'
        if not path.exists():
            return
        try:
            found = json.loads(path.read_text())['width']
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f'{path}: damaged ({error}); delete its folder') from error
        if found != self._width:
            raise ValueError(f'{self._folder}: expected embeddings of width {self._width}, which '
                             f'the teacher {self._identity} has, found {found}; give the teacher '
                             'another identity, or delete this folder')

    def _read(self) -> None:
        # Keys first: even if another process appends at the same time, each key has its row.
        keys = self._keys.read_bytes() if self._keys.exists() else b''
        size = self._rows.stat().st_size if self._rows.exists() else 0
        self._count = min(len(keys) // KEY, size // (2 * self._width))
        self.positions = {keys[KEY * row:KEY * (row + 1)]: row for row in range(self._count)}

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Lock the store for writing; first cut off incomplete rows of another process."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(self._folder / 'lock', 'w') as lock:  # closing it lets the next one in
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                tqdm.write(f'{self._folder}: waiting for another process that embeds')
                fcntl.flock(lock, fcntl.LOCK_EX)
            self._check()
            if not (self._folder / 'teacher.json').exists():
                with replacing(self._folder / 'teacher.json') as temporary:
                    temporary.write_text(json.dumps({'identity': self._identity,
                                                     'width': self._width}))
            self._read()
            for path, size in ((self._keys, KEY), (self._rows, 2 * self._width)):
                with open(path, 'ab') as file:
                    file.truncate(self._count * size)
                    os.fsync(file.fileno())
            yield

    def append(self, keys: Sequence[bytes], rows: np.ndarray) -> None:
        """
        Add (B, D) rows; only while writing.

        :raises OSError: such as for a full disk; then nothing is added.
        """
        assert rows.shape == (len(keys), self._width), rows.shape
        for path, data in ((self._rows, rows.astype('<f2').tobytes()),
                           (self._keys, b''.join(keys))):
            with open(path, 'ab') as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        self.positions.update({key: self._count + at for at, key in enumerate(keys)})
        self._count += len(keys)

    def rows(self, keys: Sequence[bytes]) -> np.ndarray:
        """Return the (len(keys), D) float16 rows of these keys, mapped into memory."""
        if not keys:
            return np.empty((0, self._width), np.float16)
        wanted = np.fromiter((self.positions[key] for key in keys), np.int64, len(keys))
        stored = np.memmap(self._rows, '<f2', 'r', shape=(self._count, self._width))
        first = int(wanted[0])
        if np.array_equal(wanted, np.arange(first, first + len(keys))):
            return stored[first:first + len(keys)]
        # In a file, too, lest they fill the memory; it goes when the array does.
        with tempfile.TemporaryFile(dir=self._folder) as file:
            copy = np.memmap(file, '<f2', 'w+', shape=(len(keys), self._width))
        for start in range(0, len(keys), 4096):
            copy[start:start + 4096] = stored[wanted[start:start + 4096]]
        copy.flags.writeable = False
        return copy
