"""Recordings that do not fit or are damaged are refused with a reason."""
from collections.abc import Callable
import json
from pathlib import Path
import shutil

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from support.recorded_answers import CLIP, command, IDENTITY, made_up, PROMPTS, SIDE, unit, write
from support.tiny_data import draw, write_png
from training.data.image_index import read_folders
from training.recipe import Augmentation, TeacherSource
from training.teachers import opening
from training.teachers.embedding_cache import CachedTeacher, embeddings, Views
from training.teachers.queries import Queries
from training.teachers.teacher import OpenClipTeacher
from vl2v_ros.words.open_clip_models import create, find

pytestmark = pytest.mark.usefixtures('cache_dir', 'no_network')


@pytest.mark.long
def test_missing_images_are_named(teacher: OpenClipTeacher, photos: Path, cache_dir: Path
                                  ) -> None:
    for number in range(7):
        write_png(photos / f'day/red_circle/new {number}.png',
                  draw('red_circle', 'day', number, 9))
    queries = Queries()
    cached = CachedTeacher(teacher, cache_dir / 'embeddings', queries)
    with pytest.raises(ValueError, match=(
            rf'^7 images have no recorded answer of {IDENTITY} \(day/red_circle/new 0.png, .*'
            r'new 4.png, \.\.\.\), and it cannot be asked; connect once to a network, import')):
        embeddings(read_folders(photos), cached)
    with pytest.raises(ValueError, match=r'^80 augmented views \(--views 0 needs plain images '
                                         r'alone\) of 40 images .*\(day/blue_square/0.png, day'):
        embeddings(read_folders(photos).take(range(40)), cached, Views(2, Augmentation()))
    assert queries.images.asked == 0
    # With the model at hand, only these are asked for.
    teacher.model = create(find(CLIP.model, CLIP.pretrained), pretrained=None)
    embeddings(read_folders(photos), cached)
    assert queries.plain()['images'] == {'asked': 47, 'from cache': 40, 'missing': 7}


def test_missing_prompts_are_named(teacher: OpenClipTeacher) -> None:
    queries = Queries()
    with pytest.raises(ValueError, match=(
            rf"^70 prompts have no recorded answer of {IDENTITY} \('new 0', 'new 1', 'new 2', "
            r"'new 3', 'new 4', \.\.\.\), and it cannot be asked; connect once")):
        opening.cached(teacher, TeacherSource(), queries).encode(
            [PROMPTS[0], *(f'new {number}' for number in range(70)), 'new 0'])
    with pytest.raises(ValueError, match=r"^1 prompts .* \('the other'\), and"):
        opening.cached(teacher, TeacherSource(), queries).encode(['the other'])
    assert queries.prompts.asked == 0


def test_answers_of_another_teacher_are_refused(photos: Path, tmp_path: Path, cache_dir: Path
                                                ) -> None:
    right = made_up(photos)
    command('import', write(tmp_path / 'right.safetensors', right))
    before = {path: path.read_bytes() for path in cache_dir.rglob('*') if path.is_file()}
    for fields, message in (
        ({'prompt_rows': unit(4, 9)}, "to the prompt 'a photo of a blue square.' is turned by a "
                                      'cosine of'),
        ({'image_rows': unit(40, 9)}, 'to an image is turned by a cosine of'),
        ({'identity': 'ViT-B-32/openai'}, f'expected answers of {IDENTITY}, as the weights of '
                                          'this tag want it, got some of ViT-B-32/openai'),
        ({'identity': 'ViT-L-14-quickgelu/openai'}, 'expected answers of width 768'),
        ({'prompt_rows': unit(4, 0, 640), 'image_rows': unit(40, 0, 640)}, 'got width 640'),
        ({'image_size': 240}, f'images of {SIDE} px, as {IDENTITY} has them, got width 512 and '
                              '240 px'),
    ):
        wrong = made_up(photos, **fields, prompts=(*PROMPTS[:3], 'another'))
        said = command('import', write(tmp_path / 'wrong.safetensors', wrong))
        assert said.startswith('failed recordings: ') and 'wrong.safetensors: ' in said
        assert message in said
        assert before == {path: path.read_bytes() for path in before}
    said = command('import', tmp_path / 'right.safetensors', '--teacher', 'other')
    assert f'expected answers of other, got some of {IDENTITY}' in said


def test_digests_that_fit_no_file_are_counted(photos: Path, tmp_path: Path) -> None:
    found = made_up(photos)
    shutil.rmtree(photos / 'night')
    for path in sorted((photos / 'day/red_circle').iterdir())[:2]:
        path.write_bytes(path.read_bytes() + b'changed')
    said = command('import', write(tmp_path / 'it.safetensors', found), '--images', photos)
    assert ('18 of 20 images have an answer, 2 have none (day/red_circle/0.png, '
            'day/red_circle/1.png); 22 answers fit no image here') in said


def nan(path: Path) -> None:
    tensors = load_file(path)
    with safe_open(path, 'np') as file:
        metadata = file.metadata()
    tensors['image_rows'][5, 7] = np.nan
    save_file(tensors, path, metadata)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-path.stat().st_size // 2])


def repeated(path: Path) -> None:
    with safe_open(path, 'np') as file:
        header = json.loads(file.metadata()['vl2v_recording'])
    header['prompts'][2] = header['prompts'][0]
    save_file(load_file(path), path, {'vl2v_recording': json.dumps(header)})


@pytest.mark.parametrize(('damage', 'message'), [
    (nan, 'image_rows: expected unit rows, got row 5 of length nan'),
    (cut_off, 'cut off'),
    (repeated, "'a photo of a blue square.' has two different embeddings (rows 0 and 2)"),
    (Path.unlink, 'found none at')], ids=lambda value: getattr(value, '__name__', ''))
def test_damaged_recording_is_refused_and_nothing_is_kept(
        photos: Path, tmp_path: Path, cache_dir: Path, damage: Callable, message: str) -> None:
    path = write(tmp_path / 'it.safetensors', made_up(photos))
    damage(path)
    said = command('import', path)
    assert said.startswith('failed recordings: recording') and message in said
    assert not cache_dir.exists()


@pytest.mark.parametrize(('columns', 'message'), [
    ({'prompts': ['a', 'b', 'a']}, "prompt 'a' has two different embeddings (rows 0 and 2)"),
    ({'prompts': ['a', 'b']}, "'prompts': (2,)"),
    ({'prompts': ['a', 'b', 'c'], 'names': ['a']}, "'names': (1,)"),
    ({}, 'expected embeddings (N, D), and prompts'),
    ({'files': ['none.png', 'b', 'c']}, 'none.png: No such file'),
    ({'prompts': ['a', 'b', 'c'], 'embeddings': np.full((3, 4), np.nan)}, 'row 0 of length nan'),
    ({'prompts': np.array(['a', {}, 'c'], object)}, 'of another format'),
    (None, 'missing, cut off or of another format')])
def test_table_of_no_use_is_refused(tmp_path: Path, columns: dict | None, message: str) -> None:
    path = tmp_path / 'it.npz'
    np.savez(path, **{'embeddings': unit(3, 0), **(columns or {})})
    if columns is None:
        path.write_bytes(path.read_bytes()[:500])
    said = command('from-npz', path, '--identity', 'mine', '--image-size', 8, '--licence', '',
                   '--out', tmp_path / 'it.safetensors')
    assert said.startswith('failed recordings: ') and message in said
    assert not (tmp_path / 'it.safetensors').exists()


def test_no_file_is_said() -> None:
    assert command('import') == (
        'failed recordings: expected at least one recording (*.safetensors), got none')
    assert 'expected at least one table (*.npz) with answers, got none' in command(
        'from-npz', '--identity', 'mine', '--licence', '', '--out', 'none.safetensors')


@pytest.mark.parametrize(('arguments', 'message'), [
    ([], 'expected --images, --prompts or both, got none'),
    (['--images', 'none'], 'expected a folder with images, found none in none'),
    (['--prompts', 'none'], '--prompts: none: expected a text file with a prompt per line')])
def test_nothing_to_record_is_said(tmp_path: Path, arguments: list[str], message: str) -> None:
    said = command('record', '--licence', '', '--out', tmp_path / 'it.safetensors', *arguments)
    assert said.startswith('failed recordings: ') and message in said
