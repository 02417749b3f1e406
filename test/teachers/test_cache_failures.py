"""Cached embeddings of runs that were killed, full disks and damaged files."""
from collections.abc import Callable, Sequence
from pathlib import Path
import signal
import time

import numpy as np
import pytest
from support import warm
from support.teacher_images import black_box, COUNT, plain, quarters, SIDE, WIDTH, write_image
import torch
from training.data import image_index
from training.teachers.embedding_cache import CachedTeacher, embeddings
from training.teachers.embedding_store import KEY


def store_of(folder: Path) -> Path:
    """Return the one teacher's folder there is."""
    (store,) = folder.iterdir()
    return store


SCRIPT = """
from pathlib import Path
import sys, time
from training.data import image_index
from training.teachers.embedding_cache import CachedTeacher, embeddings
from support.teacher_images import black_box, quarters

def slowly(pixels):
    print('asked', flush=True)
    if sys.argv[3] == 'hang' and teacher.queries > 6:
        time.sleep(600)
    return quarters(pixels)

teacher = black_box(images=slowly)
index = image_index.read_folders(Path(sys.argv[1]))
if sys.argv[3] != 'hang':
    print('ready', flush=True)
    while not Path(sys.argv[3]).exists():
        time.sleep(0.001)
rows = embeddings(index, CachedTeacher(teacher, Path(sys.argv[2])), batch=2)
print('paid', teacher.queries, rows.tobytes().hex())
"""


def start(index: image_index.Index, folder: Path, how: object, said: Path) -> warm.Program:
    """Start a process that hangs after some answers, or waits until there is a file."""
    script = said.with_suffix('.py')
    script.write_text(SCRIPT)
    return warm.Program([script, index.root, folder, how], said, said.with_suffix('.errors'))


def wait_for(said: Path, line: str, count: int, process: warm.Program) -> None:
    """Wait until a process has said a line so many times."""
    while not said.exists() or said.read_text().splitlines().count(line) < count:
        assert process.poll() is None, said.read_text()
        time.sleep(0.005)


def test_killed_run_goes_on_where_it_stopped(
        index: image_index.Index, folder: Path, tmp_path: Path) -> None:
    killed = start(index, folder, 'hang', tmp_path / 'said')
    try:
        wait_for(tmp_path / 'said', 'asked', 4, killed)  # in the fourth batch of two it hangs
    finally:
        killed.kill()
    assert killed.wait(warm.LIMIT) == -signal.SIGKILL
    teacher = black_box()
    rows = embeddings(index, CachedTeacher(teacher, folder), batch=2)
    assert teacher.queries == COUNT - 6
    whole = embeddings(index, CachedTeacher(black_box(), tmp_path / 'other'), batch=2)
    np.testing.assert_array_equal(rows, whole)


def test_two_processes_at_once_pay_together_once(
        index: image_index.Index, folder: Path, tmp_path: Path) -> None:
    said = [tmp_path / 'first', tmp_path / 'second']
    both = [start(index, folder, tmp_path / 'go', path) for path in said]
    try:
        for path, process in zip(said, both, strict=True):
            wait_for(path, 'ready', 1, process)
    finally:
        (tmp_path / 'go').touch()
    assert [process.wait(warm.LIMIT) for process in both] == [0, 0]
    last = [path.read_text().splitlines()[-1].split() for path in said]
    assert sum(int(paid) for _, paid, _ in last) == COUNT
    expected = embeddings(index, CachedTeacher(black_box(), folder)).tobytes().hex()
    assert [rows for _, _, rows in last] == [expected] * 2


def interrupted(pixels: np.ndarray) -> np.ndarray:
    if interrupted.left == 0:
        raise KeyboardInterrupt
    interrupted.left -= 1
    return quarters(pixels)


def test_interruption_keeps_what_is_done(index: image_index.Index, folder: Path) -> None:
    interrupted.left = 2
    with pytest.raises(KeyboardInterrupt):
        embeddings(index, CachedTeacher(black_box(images=interrupted), folder), batch=3)
    teacher = black_box()
    embeddings(index, CachedTeacher(teacher, folder), batch=3)
    assert teacher.queries == COUNT - 6


def longer_rows(store: Path) -> int:
    with open(store / 'rows.f16', 'ab') as file:
        file.write(b'\xff' * 31)  # a row and a bit
    return 0


def cut_rows(store: Path) -> int:
    path = store / 'rows.f16'
    path.write_bytes(path.read_bytes()[:-2 * WIDTH - 3])
    return 2


def cut_keys(store: Path) -> int:
    path = store / 'keys'
    path.write_bytes(path.read_bytes()[:-KEY - 5])
    return 2


def no_keys(store: Path) -> int:
    (store / 'keys').unlink()
    return COUNT


def no_rows(store: Path) -> int:
    (store / 'rows.f16').unlink()
    return COUNT


@pytest.mark.parametrize('damage', [longer_rows, cut_rows, cut_keys, no_keys, no_rows],
                         ids=lambda damage: damage.__name__)
def test_torn_files_are_repaired(
        index: image_index.Index, folder: Path, damage: Callable[[Path], int]) -> None:
    expected = np.array(embeddings(index, CachedTeacher(black_box(), folder)))
    lost, teacher = damage(store_of(folder)), black_box()
    np.testing.assert_array_equal(embeddings(index, CachedTeacher(teacher, folder)), expected)
    assert teacher.queries == lost
    write_image(index.root / index.files[0], 50)
    rows = embeddings(index, CachedTeacher(teacher, folder))  # what is added lies in its place
    np.testing.assert_allclose(rows, plain(index), atol=1e-3)
    assert teacher.queries == lost + 1
    count = (store_of(folder) / 'keys').stat().st_size / KEY
    assert (store_of(folder) / 'rows.f16').stat().st_size == 2 * WIDTH * count == (
        2 * WIDTH * (COUNT + 1))


FULL = """
import resource, sys
from pathlib import Path
from training.data import image_index
from training.teachers.embedding_cache import CachedTeacher, embeddings
from support.teacher_images import black_box
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    embeddings(image_index.read_folders(Path(sys.argv[1])),
               CachedTeacher(black_box(), Path(sys.argv[2])), batch=3)
except OSError as error:
    print('OSError', error.errno)
"""


def test_full_disk_is_said_and_what_was_written_is_kept(
        index: image_index.Index, folder: Path) -> None:
    room = 2 * WIDTH * 7 + 5  # for two batches of three, and a part of the third
    assert 'OSError' in warm.python(FULL, index.root, folder, room)
    assert (store_of(folder) / 'rows.f16').stat().st_size > 2 * WIDTH * 6
    teacher = black_box()
    rows = embeddings(index, CachedTeacher(teacher, folder))
    assert teacher.queries == COUNT - 6
    np.testing.assert_allclose(rows, plain(index), atol=1e-3)


def test_other_width_is_refused(index: image_index.Index, folder: Path) -> None:
    embeddings(index, CachedTeacher(black_box(), folder))
    wider = black_box(width=13)
    with pytest.raises(ValueError, match='expected embeddings of width 13.*quarters.*found 12'):
        embeddings(index, CachedTeacher(wider, folder))
    assert wider.queries == 0
    with pytest.raises(ValueError, match=r'expected \(10, 13\) numbers.*got \(10, 12\)'):
        embeddings(index, CachedTeacher(black_box('other', width=13), folder))


@pytest.mark.parametrize('text', ['{', '[]', '{}'])
def test_damaged_description_is_named(index: image_index.Index, folder: Path, text: str) -> None:
    embeddings(index, CachedTeacher(black_box(), folder))
    (store_of(folder) / 'teacher.json').write_text(text)
    with pytest.raises(ValueError, match=r'teacher\.json: damaged.*delete its folder'):
        embeddings(index, CachedTeacher(black_box(), folder))


class NotANumber:
    """A teacher of one's own that answers nonsense."""

    identity, width, image_size = 'nonsense', WIDTH, SIDE

    def embed_images(self, images: torch.Tensor) -> np.ndarray:
        return np.full((len(images), WIDTH), np.nan, np.float32)

    def encode(self, prompts: Sequence[str]) -> None:
        raise AssertionError


def test_nonsense_is_not_cached(index: image_index.Index, folder: Path) -> None:
    with pytest.raises(ValueError, match='teacher nonsense: expected finite rows'):
        embeddings(index, CachedTeacher(NotANumber(), folder))
    assert (store_of(folder) / 'keys').read_bytes() == b''


def test_deleted_image_is_named(index: image_index.Index, folder: Path) -> None:
    (index.root / index.files[1]).unlink()
    with pytest.raises(ValueError, match=r'2\.png: No such file.*read the index again'):
        embeddings(index, CachedTeacher(black_box(), folder))
