"""The SQLite file of a memory: opened, read, and written in whole transactions."""
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
import json
from pathlib import Path
import sqlite3

import numpy as np
from vl2v_ros.files import one_line
from vl2v_ros.images.regions import Box
from vl2v_ros.memory.sighting import Position, Sighting
from vl2v_ros.words.vectors.origin import Origin

APPLICATION, VERSION = 0x766C3276, 1  # 'vl2v', and the version of these tables
PATIENCE = 1.0  # longest wait for another process that holds the file [s]
TABLES = (
    'CREATE TABLE origin (space TEXT, student TEXT, width INTEGER)',
    'CREATE TABLE sightings (number INTEGER PRIMARY KEY, camera TEXT, frame_id TEXT, '
    'first INTEGER, last INTEGER, at REAL, count INTEGER, box TEXT, position TEXT, vector BLOB, '
    'thumbnail BLOB)')  # the largest last: what stands before is read without it
FACTS = 'number, camera, frame_id, first, last, at, count, box, position'
WRITE = (f'INSERT INTO sightings ({FACTS}, vector, thumbnail) VALUES ({", ".join("?" * 11)}) '
         'ON CONFLICT (number) DO UPDATE SET frame_id = excluded.frame_id, last = excluded.last, '
         'at = excluded.at, count = excluded.count, box = excluded.box, '
         'position = excluded.position, '
         "thumbnail = CASE WHEN thumbnail = x'' THEN excluded.thumbnail ELSE thumbnail END")
# Each is a transaction of WAL with a sync of its own, so that neither a killed process nor a power
# cut takes more than what came after the last one. The file is held by one process alone: two
# would give the same numbers. Then there is no shared memory beside it, which some disks lack.
SETTINGS = ('PRAGMA journal_mode = WAL', 'PRAGMA synchronous = FULL')


class MemoryFile:
    """Sightings in an SQLite file, or without a path in memory alone."""

    def __init__(self, path: Path | None) -> None:
        """
        Open the file; make it if there is none.

        :raises ValueError: for a file that is no memory, is damaged, of another version, or held
            by another process.
        """
        self._path = path
        if path is not None:
            with self._explained():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch(mode=0o600)  # pictures of a home concern nobody else
        with self._explained():
            self._connection = sqlite3.connect(path or ':memory:', PATIENCE, isolation_level=None)
        try:
            with self._explained():
                self._prepare()
        except ValueError:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        self._connection.execute('PRAGMA locking_mode = EXCLUSIVE')
        if not self._ask('SELECT count(*) FROM sqlite_master')[0]:
            for setting in SETTINGS:
                self._connection.execute(setting)
            with self._transaction():
                for command in (*TABLES, f'PRAGMA application_id = {APPLICATION}',
                                f'PRAGMA user_version = {VERSION}'):
                    self._connection.execute(command)
            return
        kind, version = self._ask('PRAGMA application_id')[0], self._ask('PRAGMA user_version')[0]
        if kind != APPLICATION:
            raise ValueError('it holds other tables')
        if version != VERSION:
            raise ValueError(f'it is of version {version}, this program knows {VERSION}')
        for setting in SETTINGS:
            self._connection.execute(setting)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeDecodeError, ValueError, TypeError) as error:
            held = '; another process holds it, end that first' if 'locked' in str(error) else (
                '; remove it, or name another file')
            raise ValueError(f'{self._path}: expected a memory of vl2v_ros that can be used, but '
                             f'{one_line(error)}{held}') from error

    def _ask(self, question: str) -> tuple:
        answer: tuple = self._connection.execute(question).fetchone()
        return answer

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute('BEGIN IMMEDIATE')
        try:
            yield
            self._connection.execute('COMMIT')
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute('ROLLBACK')
            raise

    def origin(self) -> tuple[Origin, int] | None:
        """Return origin and D of the vectors, None if there are none; raises ValueError."""
        with self._explained():
            row = self._connection.execute('SELECT space, student, width FROM origin').fetchone()
            if row is None:
                return None
            space, student, width = row
            if not (isinstance(space, str) and isinstance(student, str)
                    and isinstance(width, int) and 0 < width <= 1 << 16):
                raise ValueError('its origin is damaged')
            return Origin(space, student), width

    def rows(self, width: int, newest: int) -> Iterator[tuple[Sighting, np.ndarray]]:
        """
        Yield the newest sightings with their vectors, without thumbnails; raises ValueError.

        :param width: D of the vectors.
        :param newest: number of them at most.
        """
        with self._explained():
            least = (self._ask('SELECT max(number) FROM sightings')[0] or 0) - newest
            for *facts, vector in self._connection.execute(
                    f'SELECT {FACTS}, vector FROM sightings WHERE number > ? ORDER BY number',
                    (least,)):
                if not isinstance(vector, bytes) or len(vector) != 2 * width:
                    raise ValueError('a vector in it is damaged')
                yield _sighting(facts), np.frombuffer(vector, np.float16).astype(np.float32)

    def read(self, number: int) -> Sighting | None:
        """Return a sighting with its thumbnail, None if it is not there; raises ValueError."""
        with self._explained():
            row = self._connection.execute(
                f'SELECT {FACTS}, thumbnail FROM sightings WHERE number = ?', (number,)).fetchone()
            if row is None:
                return None
            sighting = _sighting(row[:-1])
            sighting.thumbnail = bytes(row[-1] or b'')
            return sighting

    def write(self, origin: tuple[Origin, int], sightings: Iterable[tuple[Sighting, np.ndarray]],
              forgotten: Sequence[int], least: int) -> None:
        """
        Write all of it in one transaction; afterwards it is on the disk.

        :param sightings: new ones with their vectors, or known ones that were seen again.
        :param forgotten: numbers of those to remove.
        :param least: lowest number that stays.
        :raises OSError: if it cannot be written; the file is then as before.
        """
        try:
            with self._transaction():
                if not self._ask('SELECT count(*) FROM origin')[0]:
                    self._connection.execute('INSERT INTO origin VALUES (?, ?, ?)',
                                             (*origin[0], origin[1]))
                self._connection.executemany(WRITE, (
                    (*_facts(sighting), row.astype(np.float16).tobytes(), sighting.thumbnail)
                    for sighting, row in sightings))
                self._connection.executemany('DELETE FROM sightings WHERE number = ?',
                                             ((number,) for number in forgotten))
                self._connection.execute('DELETE FROM sightings WHERE number < ?', (least,))
        except sqlite3.Error as error:
            raise OSError(f'{self._path} cannot be written: {one_line(error)}') from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _facts(sighting: Sighting) -> tuple:
    box, position = sighting.box, sighting.position
    return (sighting.number, sighting.camera, sighting.frame_id, sighting.first, sighting.last,
            sighting.at, sighting.count,
            box and json.dumps((box.x, box.y, box.width, box.height, box.angle)),
            position and json.dumps(position))


def _sighting(facts: Sequence) -> Sighting:
    *others, box, position = facts
    number, camera, frame_id, first, last, at, count = others
    return Sighting(int(number), str(camera), str(frame_id), int(first), int(last), float(at),
                    int(count), Box(*map(float, json.loads(box))) if box else None,
                    _position(json.loads(position)) if position else None)


def _position(told: Sequence) -> Position:
    frame_id, x, y, z = told
    return Position(str(frame_id), float(x), float(y), float(z))
