"""Newest: newest wins, drops are counted, and nobody waits for ever."""
from collections.abc import Hashable
import threading

import pytest
from vl2v_ros.nodes.worker import Newest

PATIENCE = 20.0  # [s], for what must happen


class Taker(threading.Thread):
    """A worker that takes once, without a timeout."""

    def __init__(self, box: Newest[int]) -> None:
        super().__init__(daemon=True)
        self.box, self.running = box, threading.Event()
        self.taken: dict[Hashable, int] | None = None
        self.start()
        assert self.running.wait(PATIENCE)

    def run(self) -> None:
        self.running.set()
        self.taken = self.box.take()


def test_newest_item_wins() -> None:
    box = Newest[int]()
    for item in range(5):
        assert box.put('front', item)
    assert box.take(0) == {'front': 4}


def test_all_cameras_are_taken_at_once_and_only_once() -> None:
    box = Newest[int]()
    for camera, item in (('front', 1), ('rear', 2), (3, 3)):
        box.put(camera, item)
    assert box.take(0) == {'front': 1, 'rear': 2, 3: 3}
    assert box.take(0) == {}


def test_drops_are_counted_per_camera_and_only_when_not_taken() -> None:
    box = Newest[int]()
    for camera in ('front', 'front', 'front', 'rear', 'rear', 'left'):
        box.put(camera, 0)
    assert box.dropped == {'front': 2, 'rear': 1}
    box.take(0)
    box.put('front', 1)
    assert box.dropped == {'front': 2, 'rear': 1}
    box.put('front', 2)
    assert box.dropped == {'front': 3, 'rear': 1}


def test_falsy_items_are_items() -> None:
    box = Newest[int | None]()
    box.put(0, None)
    assert box.take(0) == {0: None}


@pytest.mark.parametrize('timeout', [0, 0.01])
def test_take_returns_nothing_when_its_time_is_over(timeout: float) -> None:
    assert Newest[int]().take(timeout) == {}


def test_put_wakes_a_waiting_take() -> None:
    box = Newest[int]()
    taker = Taker(box)
    box.put('front', 7)
    taker.join(PATIENCE)
    assert taker.taken == {'front': 7}


def test_close_wakes_every_waiting_take() -> None:
    box = Newest[int]()
    takers = [Taker(box), Taker(box)]
    assert box.close() == {}
    for taker in takers:
        taker.join(PATIENCE)
        assert taker.taken == {}


def test_close_returns_what_was_not_taken() -> None:
    box = Newest[int]()
    box.put('front', 1)
    box.put('rear', 2)
    assert box.close() == {'front': 1, 'rear': 2}
    assert box.take() == {}
    assert box.close() == {}


def test_put_after_close_is_refused_and_changes_nothing() -> None:
    box = Newest[int]()
    box.put('front', 1)
    box.close()
    assert not box.put('front', 2)
    assert not box.put('front', 3)
    assert box.take(0) == {}
    assert box.close() == {}
    assert box.dropped == {}


def test_every_item_of_many_threads_is_either_taken_or_dropped() -> None:
    box, cameras, items = Newest[int](), range(4), 500
    taken: dict[Hashable, list[int]] = {camera: [] for camera in cameras}

    def fill(camera: int) -> None:
        for item in range(items):
            box.put(camera, item)

    fillers = [threading.Thread(target=fill, args=(camera,)) for camera in cameras]
    for filler in fillers:
        filler.start()
    while any(taken[camera][-1:] != [items - 1] for camera in cameras):
        batch = box.take(PATIENCE)
        assert batch
        for camera, item in batch.items():
            taken[camera].append(item)
    for camera in cameras:
        assert taken[camera] == sorted(set(taken[camera]))
        assert len(taken[camera]) + box.dropped.get(camera, 0) == items
