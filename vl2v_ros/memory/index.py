"""Vectors in memory, and those that are the most similar to one."""
import numpy as np
from vl2v_ros.memory.sighting import Sighting

NOBODY = -1  # number of the camera where no sighting is


class Index:
    """
    The newest vectors, in a ring: number n lies in row n % limit, in place of n - limit.

    A search compares all of them, so its answer is exact. Room is taken as rows are filled.
    """

    def __init__(self, limit: int, width: int) -> None:
        """
        Make an empty ring.

        :param limit: number of rows.
        :param width: D of the vectors.
        """
        self.limit, self.width = limit, width
        self._rows = np.zeros((limit, width), np.float32)  # the system gives pages when written
        self._numbers = np.zeros(limit, np.int64)
        self._cameras = np.full(limit, NOBODY, np.int16)
        self._firsts, self._lasts = np.zeros(limit, np.int64), np.zeros(limit, np.int64)
        self._times = np.zeros(limit)
        self._used = 0  # rows from here on are empty

    def put(self, sighting: Sighting, camera: int, row: np.ndarray) -> None:
        """
        Add a sighting, or what is new of it.

        :param camera: number of its camera, from 0.
        :param row: (D,) float32 unit row.
        """
        place = sighting.number % self.limit
        self._rows[place], self._numbers[place] = row, sighting.number
        self._cameras[place], self._times[place] = camera, sighting.at
        self._firsts[place], self._lasts[place] = sighting.first, sighting.last
        self._used = max(self._used, place + 1)

    def row(self, number: int) -> np.ndarray:
        """Return the (D,) float32 unit row of a sighting."""
        return self._rows[number % self.limit]

    def drop(self, number: int) -> None:
        """Leave out a sighting from now on."""
        place = number % self.limit
        if self._numbers[place] == number:
            self._cameras[place] = NOBODY

    def older(self, time: float) -> list[int]:
        """Return the numbers of those that came last before a time [s]."""
        used = slice(self._used)
        return self._numbers[used][(self._cameras[used] != NOBODY)
                                   & (self._times[used] < time)].tolist()

    def __len__(self) -> int:
        """Return the number of sightings."""
        return int(np.count_nonzero(self._cameras[:self._used] != NOBODY))

    def search(self, query: np.ndarray, k: int, camera: int | None = None,
               after: int | None = None, before: int | None = None
               ) -> tuple[list[tuple[int, float]], int]:
        """
        Return number and cosine of the k most similar sightings, and how many were compared.

        :param query: (D,) float32 unit row.
        :param camera: only those of this camera.
        :param after, before: only those between these stamps, at least in part [ns].
        """
        used = slice(self._used)
        cameras = self._cameras[used]
        wanted = cameras != NOBODY if camera is None else cameras == camera
        if after is not None:
            wanted &= self._lasts[used] >= after
        if before is not None:
            wanted &= self._firsts[used] <= before
        compared = int(np.count_nonzero(wanted))
        similarities = self._rows[used] @ query
        similarities[~wanted] = -np.inf
        k = min(k, compared)
        best = np.argpartition(-similarities, max(k - 1, 0))[:k] if k else np.zeros(0, np.int64)
        best = best[np.argsort(-similarities[best], kind='stable')]
        return list(zip(self._numbers[used][best].tolist(), similarities[best].tolist(),
                        strict=True)), compared
