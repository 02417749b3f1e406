"""The cache of image embeddings: what is computed, what is kept, and what survives accidents."""
from collections.abc import Callable, Sequence
from dataclasses import replace
import json
from pathlib import Path
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest
from support.tiny_models import python, write_tower
import torch
from torch.nn import functional
from training.data import image_index
from training.data.images import Images
from training.recipe import Augmentation
from training.teachers.embedding_cache import CachedTeacher, embeddings, Preparation
from training.teachers.embedding_store import KEY
from training.teachers.teacher import CallableTeacher, OpenClipTeacher

COUNT, WIDTH, SIDE = 10, 12, 8
ROOT = Path(__file__).parents[2]
VIEWS = Augmentation(scale=(0.3, 1.0))


def write_image(path: Path, seed: int) -> None:
    """Write smooth noise of 40 x 30 px."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(small).resize((40, 30), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def index(tmp_path: Path) -> image_index.Index:
    for number in range(COUNT):
        write_image(tmp_path / 'data' / 'a' / f'class {number % 2}' / f'{number}.png', number)
    return image_index.read_folders(tmp_path / 'data')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / 'embeddings'


def quarters(pixels: np.ndarray) -> np.ndarray:
    """Embed (B, S, S, 3) as the mean colour of each quarter, in [-1, 1]."""
    count, side = len(pixels), pixels.shape[1] // 2
    return pixels.reshape(count, 2, side, 2, side, 3).mean((2, 4)).reshape(count, 12) / 127.5 - 1


def black_box(identity: str = 'quarters', **fields: object) -> CallableTeacher:
    return CallableTeacher(**{'images': quarters, 'texts': len, 'identity': identity,
                              'width': WIDTH, 'image_size': SIDE, **fields})


def plain(index: image_index.Index) -> np.ndarray:
    """Return the (N, 1, D) rows that `quarters` makes, without any cache."""
    return black_box().embed_images(
        torch.stack([sample.image for sample in Images(index, SIDE)]))[:, None]


def store_of(folder: Path) -> Path:
    """Return the one teacher's folder there is."""
    (store,) = folder.iterdir()
    return store


def test_embeddings_are_the_teachers_and_are_paid_for_once(
        index: image_index.Index, folder: Path, capsys: pytest.CaptureFixture) -> None:
    teacher = black_box()
    rows = embeddings(index, CachedTeacher(teacher, folder), batch=4)
    assert rows.shape == (COUNT, 1, WIDTH) and rows.dtype == np.float16
    assert isinstance(rows, np.memmap) and not rows.flags.writeable
    np.testing.assert_allclose(rows, plain(index), atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(rows.astype(float), axis=-1), 1, atol=1e-3)
    assert f'{COUNT} of {COUNT} images are new or have changed; ' in capsys.readouterr()[0]
    again = black_box()
    np.testing.assert_array_equal(embeddings(index, CachedTeacher(again, folder)), rows)
    assert (teacher.queries, again.queries) == (COUNT, 0)
    assert capsys.readouterr()[0] == ''


def test_a_real_model_is_cached_as_any_other(index: image_index.Index, folder: Path,
                                             tmp_path: Path) -> None:
    tower = write_tower(tmp_path / 'model')
    teacher = OpenClipTeacher(tower, tmp_path / 'model')
    rows = embeddings(index, CachedTeacher(teacher, folder), batch=3, workers=2)
    images = torch.stack([sample.image for sample in Images(index, 32)])
    np.testing.assert_allclose(rows[:, 0], teacher.embed_images(images), atol=1e-3)


def test_rows_follow_the_index(index: image_index.Index, folder: Path) -> None:
    rows = embeddings(index, CachedTeacher(black_box(), folder))
    order, teacher = [7, 2, 2, 9], black_box()
    taken = embeddings(index.take(order), CachedTeacher(teacher, folder))
    assert isinstance(taken, np.memmap) and not taken.flags.writeable
    np.testing.assert_array_equal(taken, rows[order])
    assert embeddings(index.take([]), CachedTeacher(teacher, folder)).shape == (0, 1, WIDTH)
    assert teacher.queries == 0


def test_equal_images_are_paid_for_once(index: image_index.Index, folder: Path) -> None:
    first = index.root / index.files[0]
    (first.parent / 'copy.png').write_bytes(first.read_bytes())
    index, teacher = image_index.read_folders(index.root), black_box()
    rows = embeddings(index, CachedTeacher(teacher, folder))
    assert teacher.queries == COUNT and len(rows) == COUNT + 1
    np.testing.assert_array_equal(rows[0], rows[list(index.files).index('a/class 0/copy.png')])


def test_changed_image_is_embedded_again_and_said(
        index: image_index.Index, folder: Path, capsys: pytest.CaptureFixture) -> None:
    before = np.array(embeddings(index, CachedTeacher(black_box(), folder)))
    write_image(index.root / index.files[3], 99)
    capsys.readouterr()
    teacher = black_box()
    rows = embeddings(index, CachedTeacher(teacher, folder))
    assert teacher.queries == 1
    assert f'1 of {COUNT} images are new or have changed; quarters embeds them now' in (
        capsys.readouterr()[0])
    np.testing.assert_allclose(rows, plain(index), atol=1e-3)
    assert [row for row in range(COUNT) if (rows[row] != before[row]).any()] == [3]


def test_boxes_of_a_file_are_told_apart(index: image_index.Index, folder: Path) -> None:
    boxes = np.array([[0, 0, 20, 30], [20, 0, 20, 30]])
    parts = replace(index.take([0, 0]), boxes=boxes)
    teacher = black_box()
    rows = embeddings(parts, CachedTeacher(teacher, folder))
    np.testing.assert_allclose(rows, plain(parts), atol=1e-3)
    assert teacher.queries == 2
    moved = black_box()
    embeddings(replace(parts, boxes=boxes + [[0, 0, 0, 0], [0, 1, 0, -1]]),
               CachedTeacher(moved, folder))
    assert moved.queries == 1


@pytest.mark.parametrize(('teacher', 'settings', 'asked'), [
    ({'identity': 'other'}, {}, COUNT), ({'image_size': 16}, {}, COUNT),
    ({}, {'resize_mode': 'squash'}, COUNT),
    ({}, {'seed': 5}, 0), ({}, {'augmentation': VIEWS}, 0)])
def test_what_makes_other_embeddings_is_embedded_anew(
        index: image_index.Index, folder: Path, teacher: dict, settings: dict, asked: int) -> None:
    embeddings(index, CachedTeacher(black_box(), folder))
    other = black_box(**teacher)
    embeddings(index, CachedTeacher(other, folder), Preparation(**settings))
    assert other.queries == asked


# Augmented views

def test_views_are_what_a_students_images_are_at_each_epoch(
        index: image_index.Index, folder: Path) -> None:
    teacher = black_box()
    rows = embeddings(index, CachedTeacher(teacher, folder), Preparation(3, VIEWS, seed=4),
                      batch=7, workers=2)
    assert rows.shape == (COUNT, 3, WIDTH) and teacher.queries == 3 * COUNT
    images = Images(index, SIDE, VIEWS, seed=4)
    for view in range(3):
        images.set_epoch(view)
        batch = torch.stack([sample.image for sample in images])
        np.testing.assert_allclose(rows[:, view], black_box().embed_images(batch), atol=1e-3)
    assert abs(rows[:, 0] - rows[:, 1]).max(axis=1).min() > 0.01  # and they differ


@pytest.mark.parametrize(('views', 'settings', 'asked'), [
    (2, {}, 0), (1, {}, 0), (3, {}, COUNT), (2, {'seed': 1}, 2 * COUNT),
    (2, {'augmentation': replace(VIEWS, hue=0.1)}, 2 * COUNT), (0, {}, COUNT),
    (2, {'resize_mode': 'squash'}, 0)])
def test_views_are_cached_by_what_they_depend_on(
        index: image_index.Index, folder: Path, views: int, settings: dict, asked: int) -> None:
    embeddings(index, CachedTeacher(black_box(), folder), Preparation(2, VIEWS))
    teacher = black_box()
    rows = embeddings(index, CachedTeacher(teacher, folder), Preparation(
        views, **{'augmentation': VIEWS, **settings}))
    assert rows.shape == (COUNT, max(1, views), WIDTH) and teacher.queries == asked


@pytest.mark.parametrize('augmentation', [VIEWS, replace(VIEWS, rand_augment=(2, 9))])
def test_view_shows_the_same_crop_at_every_size(
        index: image_index.Index, augmentation: Augmentation) -> None:
    def view_at(side: int, view: int) -> torch.Tensor:
        """Return a view of all images at one size, reduced to 64 px."""
        images = Images(index, side, augmentation, seed=4)
        images.set_epoch(view)
        batch = torch.stack([sample.image for sample in images])
        return functional.interpolate(batch, (64, 64), mode='bilinear', antialias=True)

    for view in range(3):
        small, large, other = view_at(64, view), view_at(96, view), view_at(64, view + 3)
        assert (small - large).abs().mean((1, 2, 3)).max() < 0.04
        assert (other - large).abs().mean((1, 2, 3)).min() > 0.1


@pytest.mark.parametrize(('views', 'augmentation'), [(2, None), (-1, VIEWS)])
def test_views_need_an_augmentation(views: int, augmentation: Augmentation | None) -> None:
    with pytest.raises(ValueError, match='expected views and how to augment them, or 0 views'):
        Preparation(views, augmentation)


# Accidents

SCRIPT = """
from pathlib import Path
import sys, time
from training.data import image_index
from training.teachers.embedding_cache import CachedTeacher, embeddings
from test_embedding_cache import black_box, quarters

def slowly(pixels):
    print('asked', flush=True)
    if sys.argv[3] == 'hang' and teacher.queries > 6:
        time.sleep(600)
    return quarters(pixels)

teacher = black_box(images=slowly)
index = image_index.read_folders(Path(sys.argv[1]))
if sys.argv[3] == 'wait':
    print('ready', flush=True)
    sys.stdin.readline()
rows = embeddings(index, CachedTeacher(teacher, Path(sys.argv[2])), batch=2)
print('paid', teacher.queries, rows.tobytes().hex())
"""


def start(index: image_index.Index, folder: Path, how: str,
          monkeypatch: pytest.MonkeyPatch) -> subprocess.Popen:
    monkeypatch.setenv('PYTHONPATH', f'{ROOT}:{ROOT / "test"}:{Path(__file__).parent}')
    return subprocess.Popen([sys.executable, '-c', SCRIPT, str(index.root), str(folder), how],
                            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_killed_run_goes_on_where_it_stopped(
        index: image_index.Index, folder: Path, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    with start(index, folder, 'hang', monkeypatch) as killed:
        asked = 0
        while asked < 4:  # in the fourth batch of two it hangs
            line = killed.stdout.readline()
            assert line, 'it has ended'
            asked += line == 'asked\n'
        killed.kill()
    teacher = black_box()
    rows = embeddings(index, CachedTeacher(teacher, folder), batch=2)
    assert teacher.queries == COUNT - 6
    whole = embeddings(index, CachedTeacher(black_box(), tmp_path / 'other'), batch=2)
    np.testing.assert_array_equal(rows, whole)


def test_two_processes_at_once_pay_together_once(
        index: image_index.Index, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [start(index, folder, 'wait', monkeypatch) for _ in range(2)]
    assert [process.stdout.readline() for process in both] == ['ready\n'] * 2
    for process in both:
        process.stdin.write('go\n')
        process.stdin.flush()
    last = [process.communicate(timeout=120)[0].splitlines()[-1].split() for process in both]
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
from test_embedding_cache import black_box
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    embeddings(image_index.read_folders(Path(sys.argv[1])),
               CachedTeacher(black_box(), Path(sys.argv[2])), batch=3)
except OSError as error:
    print('OSError', error.errno)
"""


def test_full_disk_is_said_and_what_was_written_is_kept(
        index: image_index.Index, folder: Path, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PYTHONPATH', f'{ROOT}:{ROOT / "test"}:{Path(__file__).parent}')
    room = 2 * WIDTH * 7 + 5  # for two batches of three, and a part of the third
    assert 'OSError' in python(FULL, index.root, folder, room)
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


def test_teachers_have_folders_of_their_own(index: image_index.Index, folder: Path) -> None:
    names = ['../../out', 'sha256:00', 'ViT-B-32/openai bf16']
    for name in names:
        embeddings(index, CachedTeacher(black_box(name), folder))
    described = [json.loads((store / 'teacher.json').read_text()) for store in folder.iterdir()]
    assert sorted(one['identity'] for one in described) == sorted(names)
