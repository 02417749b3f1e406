"""
Embeddings on disk: a folder of each teacher, in half precision.

A teacher's folder holds `rows.f16`, D little-endian float16 per embedding, and `keys`, a hash of
everything that the embedding depends on. Both files only grow, rows first: a row is valid once its
key is written, so a run that is killed loses at most one batch, and the next run cuts off
incomplete rows. One process writes at a time, the others wait. Half precision changes a unit row
by at most 0.03 degrees.
"""
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import fcntl
import hashlib
import os
from pathlib import Path
import tempfile

import numpy as np
from tqdm import tqdm
from vl2v_ros.files import brief, one_line, read_json, write_json

KEY = 16  # of a hash [bytes]


def open_store(folder: Path, identity: str, width: int) -> 'Store':
    """Open a teacher's folder among those of all teachers; raises ValueError as Store does."""
    return Store(folder / hashlib.sha256(identity.encode()).hexdigest()[:16], identity, width)


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
            found = read_json(path)['width']
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f'{path}: damaged ({one_line(error)}); delete its folder') from error
        if found != self._width:
            raise ValueError(f'{self._folder}: expected embeddings of width {self._width}, which '
                             f'the teacher {self._identity} has, found {brief(found)}; give the '
                             'teacher another identity, or delete this folder')

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
                write_json(self._folder / 'teacher.json',
                           {'identity': self._identity, 'width': self._width})
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
