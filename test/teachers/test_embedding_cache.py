"""The cache of image embeddings: what is computed, what is kept, and for which images."""
from dataclasses import replace
import json
from pathlib import Path

import numpy as np
import pytest
from support.teacher_images import black_box, COUNT, plain, VIEWS, WIDTH, write_image
from support.tiny_models import write_tower
import torch
from training.data import image_index
from training.data.images import Images
from training.teachers.embedding_cache import CachedTeacher, embeddings, Views
from training.teachers.teacher import OpenClipTeacher


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
    embeddings(index, CachedTeacher(other, folder), Views(**settings))
    assert other.queries == asked


def test_teachers_have_folders_of_their_own(index: image_index.Index, folder: Path) -> None:
    names = ['../../out', 'sha256:00', 'ViT-B-32/openai bf16']
    for name in names:
        embeddings(index, CachedTeacher(black_box(name), folder))
    described = [json.loads((store / 'teacher.json').read_text()) for store in folder.iterdir()]
    assert sorted(one['identity'] for one in described) == sorted(names)
