"""LatestFrames: the newest item of every camera, handed from the callbacks to one worker."""
from collections.abc import Hashable
import threading
from typing import Generic, TypeVar

T = TypeVar('T')


class LatestFrames(Generic[T]):
    """
    A box with one place per camera; a newer item replaces one that was not taken.

    Thread-safe. `dropped` counts, per camera, the items that were replaced before they were taken.
    """

    def __init__(self) -> None:
        """Make an empty, open box."""
        self._changed = threading.Condition()
        self._items: dict[Hashable, T] = {}
        self._closed = False
        self.dropped: dict[Hashable, int] = {}

    def put(self, camera: Hashable, item: T) -> bool:
        """Store the camera's newest item; return False, and do nothing, once the box is closed."""
        with self._changed:
            if self._closed:
                return False
            if camera in self._items:
                self.dropped[camera] = self.dropped.get(camera, 0) + 1
            self._items[camera] = item
            self._changed.notify()
            return True

    def take(self, timeout: float | None = None) -> dict[Hashable, T]:
        """
        Wait for items and return all of them by camera, leaving the box empty.

        :param timeout: longest wait [s]; None waits for ever.
        :return: empty when the time is over or the box was closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout)
            items, self._items = self._items, {}
            return {} if self._closed else items

    def close(self) -> dict[Hashable, T]:
        """Wake the worker and return what it did not take; from now on `take` returns nothing."""
        with self._changed:
            self._closed = True
            items, self._items = self._items, {}
            self._changed.notify_all()
            return items
