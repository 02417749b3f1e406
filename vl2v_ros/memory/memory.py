"""A memory of what was seen: what looks the same in a row is one sighting, the oldest go first."""
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
import time

import numpy as np
from vl2v_ros.memory.file import MemoryFile
from vl2v_ros.memory.index import Index
from vl2v_ros.memory.sighting import Found, Seen, Sighting, Where
from vl2v_ros.words.vectors.origin import Origin, unit_rows

LIMIT = 100_000  # sightings
ALIKE = 0.9  # cosine from which two views in a row are one sighting
GAP = 5_000_000_000  # longest time that a thing may be out of sight within a sighting [ns]
MOST_RECENT = 256  # sightings of a camera that a new view may belong to
MOST_UNSAVED = 2_000  # that wait for a disk that cannot be written; further ones are not kept
CAMERAS = 1_000
PRUNED = 60.0  # time from one look for what is too old to the next [s]


class Memory:
    """
    Sightings by their vectors, in one file; a search compares all of them.

    They are found at once, and are on the disk after `save`. It is not thread-safe.

    origin: of the vectors; None as long as there are none.
    lost: number of sightings that were never on the disk, as it could not be written.
    """

    def __init__(self, path: Path | None = None, limit: int = LIMIT, max_age: float = 0.0,
                 alike: float = ALIKE) -> None:
        """
        Open a memory.

        :param path: SQLite file, made if it is not there; None: in memory alone.
        :param limit: number of sightings from which the oldest are forgotten.
        :param max_age: time since they came after which they are forgotten [s]; 0: never.
        :param alike: cosine from which views of a camera in a row are one sighting.
        :raises ValueError: as MemoryFile does.
        """
        self.limit, self.max_age, self.alike = limit, max_age, alike
        self.origin: Origin | None = None
        self.lost = 0
        self._file = MemoryFile(path)
        self._index = Index(limit, 1)  # until the first vector tells D
        self._next = 1
        self._cameras: dict[str, int] = {}
        self._recent: dict[tuple[str, bool], list[Sighting]] = {}  # by camera, and whether boxes
        self._unsaved: dict[int, Sighting] = {}
        self._forgotten: list[int] = []  # what the file still has to forget
        self._pruned = -PRUNED
        try:
            self._load()
        except ValueError:
            self._file.close()
            raise

    def _load(self) -> None:
        if (known := self._file.origin()) is None:
            return
        self.origin, width = known
        self._index = Index(self.limit, width)
        for sighting, row in self._file.rows(width, self.limit):
            self._index.put(sighting, self._camera(sighting.camera), _unit(row))
            self._next = sighting.number + 1

    def __len__(self) -> int:
        """Return the number of sightings."""
        return len(self._index)

    @property
    def unsaved(self) -> int:
        """Number of sightings with something that is not yet on the disk."""
        return len(self._unsaved)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that have seen something."""
        return tuple(self._cameras)

    def check(self, vector: Sequence[float] | np.ndarray, origin: Origin) -> np.ndarray:
        """
        Return a vector that can be compared with those of this memory, as (D,) float32.

        :param origin: where it comes from; without a student, as that of a text, only its space
            counts.
        :raises ValueError: for a vector of another origin or D, or that is no unit vector.
        """
        width = self._index.width if self.origin else 0
        try:
            rows = unit_rows(vector, origin, self.origin or origin, 'memory', width)
        except ValueError as error:
            known = self.origin is None or origin in (self.origin, Origin(self.origin.space))
            advice = '' if known else '; give the memory another file for these'
            raise ValueError(f'{error}{advice}') from error
        if len(rows) != 1:
            raise ValueError(f'expected one vector of {width} numbers, got {rows.size} numbers')
        return rows[0]

    def see(self, origin: Origin, seen: Sequence[Seen],
            thumbnail: Callable[[Seen], bytes] = lambda seen: b'') -> list[Sighting]:
        """
        Remember what one image shows.

        :param seen: the image or boxes in it; what is seen of one image belongs to different
            sightings.
        :param thumbnail: draws a new sighting as JPEG, or one that has no picture yet.
        :return: their sightings, in order.
        :raises ValueError: as `check` does; then nothing of it is remembered.
        """
        rows = [self.check(one.vector, origin) for one in seen]
        if len({len(row) for row in rows}) > 1:
            raise ValueError('expected vectors of one width')
        if self.origin is None and rows:
            self.origin, self._index = origin, Index(self.limit, len(rows[0]))
        found: list[Sighting] = []
        for one, row in zip(seen, rows, strict=True):
            found.append(self._again(one, row, found, thumbnail)
                         or self._new(one, row, thumbnail))
        return found

    def _again(self, one: Seen, row: np.ndarray, taken: Sequence[Sighting],
               thumbnail: Callable[[Seen], bytes]) -> Sighting | None:
        """Add a view to the sighting that it continues, if there is one."""
        key = one.camera, one.box is not None
        recent = self._recent[key] = [
            sighting for sighting in self._recent.get(key, ())
            if 0 <= one.stamp - sighting.last <= GAP][-MOST_RECENT:]
        free = [sighting for sighting in recent if all(sighting is not other for other in taken)]
        if not free:
            return None
        similarities = np.stack([self._index.row(sighting.number) for sighting in free]) @ row
        best = int(similarities.argmax())
        if similarities[best] < self.alike:
            return None
        sighting = free[best]
        sighting.last, sighting.at, sighting.count = one.stamp, time.time(), sighting.count + 1
        sighting.frame_id, sighting.box = one.frame_id, one.box
        sighting.position = one.position or sighting.position
        sighting.thumbnail = sighting.thumbnail or thumbnail(one)  # the first image may be lost
        self._keep(sighting, self._index.row(sighting.number))
        return sighting

    def _new(self, one: Seen, row: np.ndarray, thumbnail: Callable[[Seen], bytes]) -> Sighting:
        sighting = Sighting(self._next, one.camera, one.frame_id, one.stamp, one.stamp,
                            time.time(), box=one.box, position=one.position,
                            thumbnail=thumbnail(one))
        self._next += 1
        self._recent.setdefault((one.camera, one.box is not None), []).append(sighting)
        # As the file holds it: a search gives the same after the next start.
        self._keep(sighting, _unit(row.astype(np.float16)))
        return sighting

    def _keep(self, sighting: Sighting, row: np.ndarray) -> None:
        self._index.put(sighting, self._camera(sighting.camera), row)
        self._unsaved[sighting.number] = sighting
        if len(self._unsaved) > MOST_UNSAVED:
            number = next(iter(self._unsaved))
            del self._unsaved[number]
            self._index.drop(number)
            self.lost += 1

    def _camera(self, name: str) -> int:
        if name not in self._cameras and len(self._cameras) >= CAMERAS:
            raise ValueError(f'expected at most {CAMERAS} cameras, got {name!r:.80} as another')
        return self._cameras.setdefault(name, len(self._cameras))

    def find(self, vector: np.ndarray, k: int, where: Where = Where()) -> Found:
        """
        Find the k sightings that are the most similar to a vector.

        :param vector: (D,) float32 unit row of a text or an image, see `check`.
        :raises ValueError: for a vector of another D or length, a camera that has seen nothing,
            or a damaged file.
        """
        if self.origin is None:
            return Found((), 0)
        query = self.check(vector, self.origin)
        if where.camera is not None and where.camera not in self._cameras:
            known = ', '.join(map(repr, self._cameras))
            raise ValueError(f'expected a camera that has seen something ({known}), got '
                             f'{where.camera!r:.80}')
        pairs, compared = self._index.search(
            query, k, None if where.camera is None else self._cameras[where.camera], where.after,
            where.before)
        sightings = []
        for number, similarity in pairs:
            sighting = self._unsaved.get(number) or self._file.read(number)
            if sighting is not None:
                sightings.append(replace(sighting, similarity=similarity))
        return Found(sightings, compared)

    def save(self) -> None:
        """
        Write what is new, and forget what is too old.

        :raises OSError: if it cannot be written; it is kept for the next time.
        """
        if self.max_age and time.monotonic() > self._pruned + PRUNED:
            self._pruned = time.monotonic()
            for number in self._index.older(time.time() - self.max_age):
                self._index.drop(number)
                self._unsaved.pop(number, None)
                self._forgotten.append(number)
        if self.origin is None or not (self._unsaved or self._forgotten):
            return
        least = self._next - self.limit
        self._file.write((self.origin, self._index.width), (
            (sighting, self._index.row(number)) for number, sighting in self._unsaved.items()
            if number >= least), self._forgotten, least)
        self._unsaved.clear()
        self._forgotten.clear()

    def close(self) -> None:
        """Write what is new if that is possible, and close the file."""
        with suppress(OSError):
            self.save()
        self._file.close()


def _unit(row: np.ndarray) -> np.ndarray:
    """Return a row that was stored in half precision as a float32 unit row."""
    row = row.astype(np.float32)
    return row / np.linalg.norm(row)
