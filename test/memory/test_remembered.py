"""Memory: what is one sighting, what is found, what is refused, what stays on the disk."""
from contextlib import closing
from pathlib import Path
import sqlite3
import time

import numpy as np
import pytest
from vl2v_ros.images.regions import Box
from vl2v_ros.memory import memory as memories
from vl2v_ros.memory.memory import Memory
from vl2v_ros.memory.sighting import Position, Seen, Where
from vl2v_ros.words.vectors.origin import Origin

ORIGIN = Origin('a tower', 'a student')
SECOND = 10 ** 9  # [ns]
D = 16


def row(seed: int) -> np.ndarray:
    """Return a (D,) float32 unit row; those of two seeds are far from each other."""
    vector = np.random.default_rng(seed).normal(size=D).astype(np.float32)
    return vector / np.linalg.norm(vector)


def near(seed: int, part: float = 0.02) -> np.ndarray:
    vector = row(seed) + part * row(seed + 1000)
    return vector / np.linalg.norm(vector)


def see(memory: Memory, *seen: Seen) -> list[int]:
    return [one.number for one in memory.see(ORIGIN, seen, lambda one: b'picture')]


def at(seconds: float, seed: int, camera: str = 'front', **fields: object) -> Seen:
    return Seen(row(seed), round(seconds * SECOND), camera, 'optical', **fields)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / 'deep' / 'memory.sqlite'


def test_what_looks_the_same_in_a_row_is_one_sighting(path: Path) -> None:
    memory = Memory(path)
    assert see(memory, at(0, 1)) == [1]
    assert see(memory, Seen(near(1), SECOND, 'front', 'optical')) == [1]
    assert see(memory, at(2, 2)) == [2]
    assert see(memory, at(3, 1)) == [1]  # it was out of sight for less than GAP
    assert see(memory, at(3, 1, 'rear')) == [3]  # another camera
    assert see(memory, at(2.5, 1)) == [4]  # time went back: not in a row
    assert see(memory, at(60, 1)) == [5]  # too late
    assert see(memory, at(60, 1, box=Box(5, 5, 4, 4))) == [6]  # a box is no whole image
    first = memory.find(row(1), 9, Where('front', before=3 * SECOND)).sightings
    assert [(one.number, one.count, one.first, one.last) for one in first] == [
        (1, 3, 0, 3 * SECOND), (4, 1, round(2.5 * SECOND), round(2.5 * SECOND)),
        (2, 1, 2 * SECOND, 2 * SECOND)]
    assert first[0].similarity == pytest.approx(1, abs=1e-3)
    assert (first[0].camera, first[0].frame_id, first[0].thumbnail) == (
        'front', 'optical', b'picture')


def test_two_alike_in_one_image_are_two_sightings_that_are_followed(path: Path) -> None:
    memory = Memory(path)
    boxes = [at(0, 1, box=Box(5, 5, 4, 4)), at(0, 1, box=Box(50, 5, 4, 4))]
    assert see(memory, *boxes) == [1, 2]
    assert sorted(see(memory, *boxes)) == [1, 2]
    assert len(memory) == 2


def test_the_search_keeps_to_camera_time_and_number(path: Path) -> None:
    memory = Memory(path)
    for number in range(20):
        see(memory, at(10 * number, number, f'camera {number % 2}'))
    found = memory.find(row(7), 3)
    assert found.compared == 20 and len(found.sightings) == 3
    cosines = [one.similarity for one in found.sightings]
    assert found.sightings[0].first == 70 * SECOND and cosines == sorted(cosines)[::-1]
    assert memory.find(row(7), 3, Where('camera 0')).compared == 10
    window = memory.find(row(7), 50, Where(after=50 * SECOND, before=80 * SECOND))
    assert sorted(one.first for one in window.sightings) == [
        second * SECOND for second in (50, 60, 70, 80)]
    assert memory.find(row(7), 5, Where(after=10 ** 18)).sightings == []
    with pytest.raises(ValueError, match="expected a camera that has seen something .*'rear'"):
        memory.find(row(7), 3, Where('rear'))
    with pytest.raises(ValueError, match='expected rows of 16 numbers'):
        memory.find(row(7)[1:], 3)
    assert Memory().find(row(7), 3).compared == 0


def test_all_that_was_saved_is_there_again(path: Path) -> None:
    memory = Memory(path)
    see(memory, at(1, 1, box=Box(1, 2, 3, 4, 0.5), position=Position('map', 1, 2, 3)))
    see(memory, at(2, 2))
    memory.save()
    see(memory, Seen(near(2), 3 * SECOND, 'front', 'optical'))
    see(memory, at(-5, 3))  # a strange stamp
    see(memory, at(2 ** 33, 4))
    before = [memory.find(row(seed), 9).sightings for seed in (1, 2, 3, 4)]
    memory.close()
    again = Memory(path)
    assert [again.find(row(seed), 9).sightings for seed in (1, 2, 3, 4)] == before
    assert before[0][0].box == Box(1, 2, 3, 4, 0.5)
    assert before[0][0].position == Position('map', 1, 2, 3)
    assert before[1][0].count == 2
    assert see(again, at(4, 5)) == [5]
    assert path.stat().st_mode & 0o777 == 0o600  # it holds pictures


def test_the_oldest_go_first(path: Path) -> None:
    memory = Memory(path, limit=5)
    for number in range(12):
        see(memory, at(10 * number, number))
        memory.save()
    assert [one.number for one in memory.find(row(0), 99).sightings] and len(memory) == 5
    memory.close()
    with closing(sqlite3.connect(path)) as base:
        assert base.execute('SELECT min(number), count(*) FROM sightings').fetchone() == (8, 5)
    fewer = Memory(path, limit=3)
    assert {one.number for one in fewer.find(row(0), 99).sightings} == {10, 11, 12}


def test_what_is_too_old_is_forgotten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, now = Memory(path, max_age=100), time.time()
    for age, seed in ((150, 1), (50, 2)):
        monkeypatch.setattr(memories.time, 'time', lambda age=age: now - age)
        see(memory, at(10 ** 9, seed))  # whatever the stamp says
    monkeypatch.setattr(memories.time, 'time', lambda: now)
    memory.save()
    assert [one.number for one in memory.find(row(1), 9).sightings] == [2]
    memory.close()
    assert len(Memory(path)) == 1


def test_vectors_of_another_origin_are_refused(path: Path) -> None:
    memory = Memory(path)
    see(memory, at(0, 1))
    for origin, vector, said in (
            (Origin('another', 'a student'), row(1), 'space .a tower.*another'),
            (Origin('a tower', 'another'), row(1), 'student .a student.*another.*give the memory'),
            (ORIGIN, row(1)[1:], 'memory: expected rows of 16 numbers')):
        with pytest.raises(ValueError, match=said):
            memory.see(origin, [Seen(vector, 1)])
    for vector in (np.zeros(D), np.full(D, np.nan), np.full(D, np.inf), np.zeros(0)):
        with pytest.raises(ValueError, match='expected unit vectors|expected one vector'):
            memory.see(ORIGIN, [Seen(vector.astype(np.float32), 1)])
    memory.close()
    again = Memory(path)
    with pytest.raises(ValueError, match='give the memory another file'):
        again.check(row(1), Origin('another'))
    assert again.check(row(1), Origin('a tower')).tolist() == row(1).tolist()
    assert len(again) == 1


def test_a_full_disk_is_said_and_nothing_is_lost(path: Path) -> None:
    memory = Memory(path)
    see(memory, at(0, 1))
    memory.save()
    pages, = memory._file._connection.execute('PRAGMA page_count').fetchone()
    memory._file._connection.execute(f'PRAGMA max_page_count = {pages}')
    for number in range(2, 40):
        memory.see(ORIGIN, [at(10 * number, number)], lambda one: bytes(3000))
    with pytest.raises(OSError, match='cannot be written: database or disk is full'):
        memory.save()
    assert memory.unsaved == 38 and memory.find(row(20), 1).sightings[0].number == 20
    memory._file._connection.execute('PRAGMA max_page_count = 100000')
    memory.save()
    assert memory.unsaved == 0
    memory.close()
    assert len(Memory(path)) == 39


def test_what_waits_for_the_disk_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memories, 'MOST_UNSAVED', 10)
    memory = Memory(path)
    for number in range(15):
        see(memory, at(10 * number, number))
    assert (memory.unsaved, memory.lost, len(memory)) == (10, 5, 10)
    memory.close()
    assert len(Memory(path)) == 10


def test_files_that_are_no_memory_are_refused_and_left_as_they_are(path: Path) -> None:
    memory = Memory(path)
    see(memory, at(0, 1))
    memory.save()
    with pytest.raises(ValueError, match='another process holds it'):
        Memory(path)
    memory.close()
    good = path.read_bytes()
    for command, said in (('PRAGMA user_version = 7', 'it is of version 7, this program knows 1'),
                          ('PRAGMA application_id = 5', 'it holds other tables'),
                          ("UPDATE sightings SET vector = 'x'", 'a vector in it is damaged'),
                          ("UPDATE sightings SET first = 'x'", 'invalid literal'),
                          ("UPDATE origin SET width = 'x'", 'its origin is damaged')):
        path.write_bytes(good)
        with sqlite3.connect(path) as base:
            base.execute(command)
        base.close()
        changed = path.read_bytes()
        with pytest.raises(ValueError, match=said) as error:
            Memory(path)
        assert '\n' not in str(error.value) and path.name in str(error.value)
        assert path.read_bytes() == changed
    path.write_text('no database, ' * 1000)
    with pytest.raises(ValueError, match='file is not a database; remove it, or name another'):
        Memory(path)
    with pytest.raises(ValueError, match='unable to open database file|directory'):
        Memory(path.parent)
    assert path.read_text().startswith('no database')


def test_a_picture_that_was_lost_is_taken_from_a_later_view(path: Path) -> None:
    memory = Memory(path)
    for second, picture in enumerate([b'', b'', b'later', b'last']):
        memory.see(ORIGIN, [at(second, 1)], lambda one, picture=picture: picture)
        memory.save()  # also of a sighting that is in the file already
    memory.close()
    again = Memory(path)
    found, = again.find(row(1), 9).sightings
    assert (found.thumbnail, found.count) == (b'later', 4)
    again.close()
