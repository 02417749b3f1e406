"""The cache of prompts on disk: shared, and done without where it is unusable."""
from collections.abc import Callable, Sequence
import json
import logging
from pathlib import Path
import shutil
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from support.prompts import FITS, no_tower, PROMPTS
from support.tiny_models import python, WIDTH
from vl2v_ros.words.cached_text import CachedText, default_cache_dir, open_text_tower
from vl2v_ros.words.clip_text import ClipText
from vl2v_ros.words.encoder import TextEmbeddings, TextTower


class Recorded:
    """A real tower that notes what reaches it."""

    def __init__(self, encoder: ClipText) -> None:
        self.encoder, self.width = encoder, encoder.width
        self.prompts: list[str] = []

    def encode(self, prompts: Sequence[str]) -> TextEmbeddings:
        self.prompts += prompts
        return self.encoder.encode(prompts)


def test_truncation_is_remembered_by_the_cache(clip_text: ClipText, cache_dir: Path) -> None:
    prompts = [f'{FITS} dog', FITS]
    for load in (lambda: clip_text, no_tower):
        truncated = CachedText('tiny', WIDTH, load, cache_dir).encode(prompts).truncated
        assert truncated.dtype == bool and truncated.tolist() == [True, False]


SECOND_PROCESS = """
import json, sys
from pathlib import Path
from vl2v_ros.words.cached_text import default_cache_dir, open_text_tower
from vl2v_ros.words.encoder import TextTower
tower, folder, prompts = json.loads(sys.argv[1])
encoder = open_text_tower(TextTower(*tower), 8, Path(folder), default_cache_dir())
print(encoder.encode(prompts).rows.tobytes().hex(), 'torch' in sys.modules)
"""


def test_another_process_needs_no_tower_for_cached_prompts(
        folder: Path, tower: TextTower, cache_dir: Path) -> None:
    first = open_text_tower(tower, WIDTH, folder, default_cache_dir()).encode(PROMPTS).rows
    assert (cache_dir / 'prompts.sqlite').is_file()
    shutil.rmtree(folder)
    backwards = PROMPTS[::-1]
    names = [tower.model, tower.pretrained, tower.identity]
    second, imported = python(
        SECOND_PROCESS, json.dumps([names, str(folder), backwards])).split()
    assert bytes.fromhex(second) == first[::-1].tobytes()
    assert imported == 'False'


def test_only_missing_prompts_reach_the_tower(clip_text: ClipText, cache_dir: Path) -> None:
    recorded = Recorded(clip_text)
    cached = CachedText('tiny', WIDTH, lambda: recorded, cache_dir)
    cached.encode(PROMPTS[:2])
    mixed = [PROMPTS[2], PROMPTS[0], PROMPTS[2], PROMPTS[1]]
    rows = cached.encode(mixed).rows
    assert recorded.prompts == [*PROMPTS[:2], PROMPTS[2]]
    np.testing.assert_allclose(rows, clip_text.encode(mixed).rows, atol=1e-6)


def test_towers_do_not_share_cached_prompts(clip_text: ClipText, cache_dir: Path) -> None:
    CachedText('one', WIDTH, lambda: clip_text, cache_dir).encode(PROMPTS)
    recorded = Recorded(clip_text)
    CachedText('other', WIDTH, lambda: recorded, cache_dir).encode(PROMPTS)
    assert recorded.prompts == PROMPTS


def damaged(path: Path) -> None:
    path.write_bytes(b'no database' * 1000)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def of_another_kind(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute('CREATE TABLE prompts (word TEXT)')
    connection.close()


def is_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def lies_below_a_file(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.touch()


@pytest.mark.parametrize(
    'damage', [damaged, half, of_another_kind, is_a_folder, lies_below_a_file],
    ids=lambda damage: damage.__name__)
def test_unusable_cache_is_warned_of_and_done_without(
        clip_text: ClipText, cache_dir: Path, caplog: pytest.LogCaptureFixture,
        damage: Callable[[Path], None]) -> None:
    cached = CachedText('tiny', WIDTH, lambda: clip_text, cache_dir)
    expected = cached.encode(PROMPTS)
    assert not caplog.records
    damage(cache_dir / 'prompts.sqlite')
    for _ in range(2):
        caplog.clear()
        np.testing.assert_array_equal(cached.encode(PROMPTS).rows, expected.rows)
        warnings = [record.getMessage() for record in caplog.records
                    if record.levelno == logging.WARNING]
        assert len(warnings) == 2
        assert f'{cache_dir / "prompts.sqlite"} cannot be read' in warnings[0]
        assert 'cannot be written' in warnings[1]


HOLDER = """
import sqlite3
import sys
with sqlite3.connect(sys.argv[1]) as file:
    file.execute('BEGIN EXCLUSIVE')
    print('held', flush=True)
    sys.stdin.readline()
"""


def test_a_cache_that_another_process_holds_is_not_called_damaged(
        clip_text: ClipText, cache_dir: Path, caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch) -> None:
    cached = CachedText('tiny', WIDTH, lambda: clip_text, cache_dir)
    expected = cached.encode(PROMPTS)
    monkeypatch.setattr('vl2v_ros.sqlite_table.PATIENCE', 0.1)
    with subprocess.Popen([sys.executable, '-c', HOLDER, cache_dir / 'prompts.sqlite'],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == 'held\n'
        np.testing.assert_array_equal(cached.encode(PROMPTS).rows, expected.rows)
        holder.communicate('end\n', timeout=60)
    said = [record.getMessage() for record in caplog.records]
    assert [f'cannot be {what}: another process has held it for 0.1 s' in text
            for what, text in zip(('read', 'written'), said, strict=True)] == [True, True]
    assert 'damaged' not in caplog.text
    caplog.clear()
    CachedText('tiny', WIDTH, no_tower, cache_dir).encode(PROMPTS)  # nothing is lost
    assert not caplog.records


# The encoder is a stand-in so that the two processes meet in the cache, not in the tower.
WRITER = """
from pathlib import Path
import sys
import numpy as np
from vl2v_ros.words.cached_text import CachedText
from vl2v_ros.words.encoder import TextEmbeddings

class Encoder:
    width = 8
    def encode(self, prompts):
        rows = np.array([np.full(8, int(prompt)) for prompt in prompts], np.float32)
        return TextEmbeddings(rows, np.zeros(len(prompts), bool))

cached = CachedText('tiny', 8, Encoder, Path(sys.argv[1]))
print('ready', flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2]), 200, 2):
    cached.encode([str(number), str(1000 + int(sys.argv[2]))])
"""


def test_two_processes_writing_at_once_lose_nothing(cache_dir: Path) -> None:
    writers = [subprocess.Popen([sys.executable, '-c', WRITER, cache_dir, str(start)], text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE) for start in (0, 1)]
    assert [writer.stdout.readline() for writer in writers] == ['ready\n'] * 2
    for writer in writers:
        writer.stdin.write('go\n')
        writer.stdin.flush()
    assert [writer.communicate(timeout=120)[1] for writer in writers] == ['', '']  # no warnings
    numbers = [*range(200), 1000, 1001]
    rows = CachedText('tiny', 8, no_tower, cache_dir).encode([str(n) for n in numbers]).rows
    assert rows[:, 0].tolist() == numbers


@pytest.mark.parametrize(('xdg', 'expected'), [('/a/cache', '/a/cache'), ('', '/a/home/.cache'),
                                               (None, '/a/home/.cache')])
def test_cache_follows_xdg_cache_home(
        monkeypatch: pytest.MonkeyPatch, xdg: str | None, expected: str) -> None:
    monkeypatch.setenv('HOME', '/a/home')
    if xdg is None:
        monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    else:
        monkeypatch.setenv('XDG_CACHE_HOME', xdg)
    assert default_cache_dir() == Path(expected) / 'vl2v_ros'
