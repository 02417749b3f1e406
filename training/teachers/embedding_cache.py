"""
Image embeddings of a teacher, each computed once and kept on disk (embedding_store.py).

An embedding is found by a hash of all that it depends on: the teacher, the content of the image's
file, and how the image was prepared.
"""
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
import torchvision
from tqdm import tqdm
from training.data.image_index import Index
from training.data.images import Images
from training.recipe import Augmentation
from training.teachers.embedding_store import KEY, open_store, Store
from training.teachers.queries import missing_answers, Queries
from training.teachers.teacher import CannotLoad, Teacher, unit_rows


@dataclass(frozen=True)
class Views:
    """
    The views of each image that a teacher embeds.

    View v is what Images(index, S, augmentation, seed=seed) returns after set_epoch(v), at the
    teacher's S; so a student whose images have the same seed and epoch sees the same crop, flip
    and colours at its own size.

    count: number of augmented views; 0: one plain view, resized as on the robot.
    augmentation, seed: of the augmented views.
    resize_mode: of the plain view.
    """

    count: int = 0
    augmentation: Augmentation | None = None
    seed: int = 0
    resize_mode: str = 'shortest'

    def __post_init__(self) -> None:
        """Check the count; raises ValueError for less than 0, or views without augmentation."""
        if self.count < 0 or (self.count and self.augmentation is None):
            raise ValueError('embeddings: expected views and how to augment them, or 0 views, '
                             f'got {self.count} and {self.augmentation}')

    def images(self, index: Index, image_size: int) -> list[Images]:
        """Return the images of each view."""
        augmentation = self.augmentation if self.count else None
        sets = [Images(index, image_size, augmentation, self.resize_mode, self.seed)
                for _ in range(max(1, self.count))]
        for view, images in enumerate(sets):
            images.set_epoch(view)
        return sets


PLAIN = Views()


@dataclass(frozen=True, eq=False)
class CachedTeacher:
    """
    A teacher, and the folder that keeps all teachers' embeddings; it is made when it is needed.

    queries: counts the queries; None: they are not counted.
    """

    teacher: Teacher
    folder: Path
    queries: Queries | None = None

    def count(self, asked: int, missing: int) -> None:
        """Count images that were asked for, and those that were not in the folder."""
        if self.queries is not None:
            self.queries.add('images', asked, missing)


def embeddings(index: Index, cached: CachedTeacher, views: Views = PLAIN,
               batch: int = 64, workers: int = 0) -> np.ndarray:
    """
    Return the embeddings of the images of an index; only missing ones are computed.

    A changed image, another teacher or other views make new embeddings; the old ones
    stay in the folder.

    :param batch: images per query.
    :param workers: processes that read images; 0: none.
    :return: (N, max(1, views.count), D) float16 unit rows, read-only and mapped into memory. They
        are the file of rows itself if it has them in this order, else a copy in an unnamed file.
    :raises ValueError: for an image that cannot be read, a teacher that returns no embeddings or
        cannot be loaded, or a folder with another width.
    :raises OSError: if nothing can be written; earlier embeddings stay.
    """
    teacher = cached.teacher
    sets = views.images(index, teacher.image_size)
    keys = _keys(index, teacher, views)
    store = open_store(cached.folder, teacher.identity, teacher.width)
    missing = 0
    if not all(key in store.positions for key in keys):
        with store.writing():  # for so long that no other process asks for the same images
            missing = _embed(sets, keys, teacher, store, batch, workers)
    cached.count(len(set(keys)), missing)
    return store.rows(keys).reshape(len(index), len(sets), teacher.width)


def known_embeddings(index: Index, cached: CachedTeacher) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the cached plain embeddings, without asking the teacher.

    :return: (N, D) float16 unit rows, zeros for missing ones, and (N,) bool, which are cached.
    """
    teacher = cached.teacher
    keys = _keys(index, teacher, PLAIN)
    store = open_store(cached.folder, teacher.identity, teacher.width)
    known = np.array([key in store.positions for key in keys], bool)
    rows = np.zeros((len(index), teacher.width), np.float16)
    if known.any():
        rows[known] = store.rows([key for key in keys if key in store.positions])
    cached.count(int(known.sum()), 0)
    return rows, known


def _keys(index: Index, teacher: Teacher, views: Views) -> list[bytes]:
    """Return the key of each view of each image."""
    files = list(dict.fromkeys(index.files))
    contents = dict(zip(files, file_digests([index.root / file for file in files]), strict=True))
    prepared: list[object] = [
        repr(views.augmentation), views.seed, torchvision.__version__.partition('+')[0]
    ] if views.count else [views.resize_mode]
    keys = []
    for row, file in enumerate(index.files):
        box = None if index.boxes is None else index.boxes[row].tolist()
        name = index.name(row) if views.count else ''  # augmentation draws by the name
        keys += [image_key(teacher.identity, teacher.image_size, contents[file], box, name, view,
                           prepared) for view in range(max(1, views.count))]
    return keys


def image_key(identity: str, image_size: int, digest: str, box: list[int] | None = None,
              name: str = '', view: int = 0, prepared: Sequence[object] = ('shortest',)) -> bytes:
    """
    Return the hash of all that an embedding depends on; by default, of a whole plain image.

    :param digest: SHA-256 of the image's file, in hexadecimal digits.
    """
    key = [identity, image_size, digest, box, name, view, list(prepared)]
    return hashlib.sha256(json.dumps(key).encode()).digest()[:KEY]


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


class _MissingViews(Dataset):
    """Some views of some images: item (row, view) of each set's images."""

    def __init__(self, sets: Sequence[Images], items: Sequence[tuple[int, int]]) -> None:
        self._sets, self._items = sets, items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, number: int) -> torch.Tensor:
        row, view = self._items[number]
        return self._sets[view][row].image


def _embed(sets: Sequence[Images], keys: Sequence[bytes], teacher: Teacher, store: Store,
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
    loader = DataLoader(_MissingViews(sets, items), batch, num_workers=workers)
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
