"""Recorded answers: recorded, imported, trained from without the teacher, and what is refused."""
from collections.abc import Callable
from contextlib import redirect_stdout
from hashlib import sha256
import io
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import open_clip
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from support.tiny_data import draw, LABELS, ROOT, write_images, write_png, write_recipe
from support.tiny_models import write_tower
from training import recordings
from training.data.image_index import read_folders
from training.recipe import Augmentation, TeacherSource
from training.teachers import opening, recorded
from training.teachers.embedding_cache import CachedTeacher, embeddings, Preparation
from training.teachers.queries import Queries
from training.teachers.teacher import CannotLoad, OpenClipTeacher
from vl2v_ros.words import recording
from vl2v_ros.words.open_clip_models import create, find
from vl2v_ros.words.recording import Recording

pytestmark = pytest.mark.usefixtures('cache_dir')
CLIP = TeacherSource('ViT-B-32', 'openai')
IDENTITY, WIDTH, SIDE = 'ViT-B-32-quickgelu/openai', 512, 224
PROMPTS = [f'a photo of a {label}.' for label in LABELS]


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub's client, here and in processes that are started, find and fetch nothing."""
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'hub'))
    monkeypatch.setenv('HF_HOME', str(tmp_path / 'hub'))


def command(*arguments: object) -> str:
    """Run recordings.py; return what it says, which begins with 'failed' if it does."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as said:
        patch.setattr(sys, 'argv', ['recordings.py', *map(str, arguments)])
        try:
            recordings.main()
        except SystemExit as error:
            return f'failed {error.code}'
    return said.getvalue()


def process(script: str, *arguments: object) -> str:
    """Run a script of training in a process of its own; return all that it says."""
    done = subprocess.run([sys.executable, str(ROOT / f'training/{script}'),
                           *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert 'Traceback' not in done.stderr, done.stderr
    return done.stdout + done.stderr


def unit(count: int, seed: int, width: int = WIDTH) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def digests(root: Path) -> np.ndarray:
    files = sorted(root.rglob('*.png'))
    return np.array([list(sha256(path.read_bytes()).digest()) for path in files], np.uint8)


def made_up(root: Path, **fields: Any) -> Recording:
    """Return answers of what could be CLIP to the images of a folder and some prompts."""
    found = digests(root)
    return Recording(**{
        'identity': IDENTITY, 'image_size': SIDE, 'licence': 'made up', 'prompts': tuple(PROMPTS),
        'names': tuple(LABELS), 'prompt_rows': unit(len(PROMPTS), 0), 'image_digests': found,
        'image_rows': unit(len(found), 1), **fields})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_images(tmp_path / 'images')


def write(path: Path, found: Recording) -> Path:
    recording.write(found, path)
    return path


# From a teacher into a file, and back

def test_what_a_teacher_says_is_recorded_imported_and_not_asked_again(
        tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tower(tmp_path / 'teacher')
    source = TeacherSource(str(tmp_path / 'teacher/tiny.json'),
                           str(tmp_path / 'teacher/tiny.safetensors'))
    (photos / 'deep/er').mkdir(parents=True)
    shutil.copy(next(photos.rglob('*.png')), photos / 'deep/er/copy.png')
    (photos / 'broken.png').write_bytes(b'no image')
    (tmp_path / 'prompts.txt').write_text(
        f'{PROMPTS[0]}\tblue square\n\n{PROMPTS[1]}\nein Foto von Äpfeln\t\n{PROMPTS[0]}\tagain\n',
        encoding='utf-8')
    arguments = ['record', '--images', photos, '--prompts', tmp_path / 'prompts.txt', '--licence',
                 'CC0', '--out', tmp_path / 'it.safetensors', '--teacher.model', source.model,
                 '--teacher.pretrained', source.pretrained, '--device', 'cpu', '--workers', '0']
    said = process('recordings.py', *arguments)
    assert '1 corrupt files left out: broken.png: expected a BMP' in said
    assert 'images 40 asked, 0 from cache, 40 missing; prompts 3 asked, 0 from cache' in said
    assert '40 asked, 40 from cache, 0 missing; prompts 3 asked, 3 from' in command(*arguments)
    found = recording.read(tmp_path / 'it.safetensors')
    teacher = opening.open_teacher(source)
    assert (found.identity, found.image_size, found.licence) == (teacher.identity, 32, 'CC0')
    assert dict(zip(found.prompts, found.names, strict=True)) == {
        PROMPTS[0]: 'again', PROMPTS[1]: '', 'ein Foto von Äpfeln': ''}
    np.testing.assert_allclose(found.prompt_rows, teacher.encode(found.prompts).rows, atol=1e-3)
    assert len(found.image_rows) == 41  # the copy, too
    # Elsewhere, where the caches are empty.
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'elsewhere'))
    said = command('import', tmp_path / 'it.safetensors', '--images', photos)
    assert 'prompts, 3 of them new; 40 different images, 40 of them new' in said
    assert '41 of 42 images have an answer, 1 have none (broken.png); 0 answers fit no' in said
    assert '0 of them new; 40 different images, 0 of' in command(
        'import', tmp_path / 'it.safetensors')
    queries, index = Queries(), read_folders(photos / 'day')
    rows = embeddings(index, CachedTeacher(
        teacher, tmp_path / 'elsewhere/vl2v_ros/embeddings', queries))
    answers = {digest.tobytes().hex(): row
               for digest, row in zip(found.image_digests, found.image_rows, strict=True)}
    np.testing.assert_array_equal(
        rows[:, 0], [answers[sha256((index.root / file).read_bytes()).hexdigest()]
                     for file in index.files])
    opening.cached(teacher, TeacherSource(), queries).encode(found.prompts)
    assert queries.plain() == {'images': {'asked': 20, 'from cache': 20, 'missing': 0},
                               'prompts': {'asked': 3, 'from cache': 3, 'missing': 0}}


def test_table_of_numpy_becomes_a_recording(tmp_path: Path, photos: Path) -> None:
    files = [path.relative_to(tmp_path).as_posix() for path in sorted(photos.rglob('*.png'))]
    np.savez(tmp_path / 'images.npz', embeddings=3 * unit(len(files), 1), files=files)
    np.savez(tmp_path / 'texts.npz', embeddings=unit(4, 0), prompts=PROMPTS, names=LABELS)
    np.savez(tmp_path / 'more.npz', embeddings=unit(2, 0), prompts=[PROMPTS[0], 'a'])
    said = command('from-npz', *(tmp_path / f'{name}.npz' for name in ('images', 'texts', 'more')),
                   '--identity', IDENTITY, '--image-size', SIDE, '--licence', 'made up',
                   '--out', tmp_path / 'it.safetensors', '--without', 'images/night')
    assert f'answers of {IDENTITY} to 6 prompts and 20 images' in said
    found, expected = recording.read(tmp_path / 'it.safetensors'), made_up(photos)
    assert found.prompts == (*PROMPTS, PROMPTS[0], 'a')
    assert found.names == (*LABELS, '', '')
    np.testing.assert_allclose(found.image_rows, expected.image_rows[:20], atol=1e-3)
    np.testing.assert_array_equal(found.image_digests, expected.image_digests[:20])


# Training from a file alone

def test_student_is_distilled_from_recorded_answers_alone(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, {'enrich': False, 'templates': ['a photo of a {label}.']},
                          teacher=vars(CLIP))
    found = made_up(tmp_path / 'images')
    command('import', write(tmp_path / 'it.safetensors', found))
    said = process('distill.py', '--config', recipe)
    assert ('queries to the teacher: images 40 asked, 40 from cache, 0 missing; '
            'prompts 4 asked, 4 from cache, 0 missing') in said
    result = json.loads((tmp_path / 'runs/tiny_seed0/result.json').read_text())
    assert result['queries']['images'] == {'asked': 40, 'from cache': 40, 'missing': 0}
    said = process('distill.py', '--config', recipe, '--name', 'other', '--data.templates',
                   'a {label}', 'no {label}')
    assert (f"distill: 8 prompts have no recorded answer of {IDENTITY} ('a blue square', "
            "'no blue square', 'a green star', 'no green star', 'a red circle', ...), and it "
            'cannot be asked; connect once to a network, import a recording') in said


@pytest.fixture
def teacher(photos: Path, cache_dir: Path) -> OpenClipTeacher:
    """Return CLIP as far as it is recorded."""
    found = made_up(photos)
    recorded.keep(found, cache_dir)
    return opening.open_teacher(CLIP)


def test_known_model_is_not_loaded(teacher: OpenClipTeacher, photos: Path, cache_dir: Path
                                   ) -> None:
    assert (teacher.identity, teacher.width, teacher.image_size) == (IDENTITY, WIDTH, SIDE)
    np.testing.assert_allclose(teacher.mean.flatten(), open_clip.OPENAI_DATASET_MEAN)
    np.testing.assert_allclose(teacher.std.flatten(), open_clip.OPENAI_DATASET_STD)
    found, queries = made_up(photos), Queries()
    rows = embeddings(read_folders(photos), CachedTeacher(
        teacher, cache_dir / 'embeddings', queries))
    np.testing.assert_array_equal(rows[:, 0], found.image_rows)  # both in the order of the files
    texts = opening.cached(teacher, TeacherSource(), queries).encode([*PROMPTS, PROMPTS[0]]).rows
    np.testing.assert_allclose(texts, found.prompt_rows[[0, 1, 2, 3, 0]], atol=1e-3)
    assert queries.plain() == {'images': {'asked': 40, 'from cache': 40, 'missing': 0},
                               'prompts': {'asked': 4, 'from cache': 4, 'missing': 0}}
    assert 'model' not in vars(teacher)
    with pytest.raises(CannotLoad, match=f'{IDENTITY} is not cached'):
        _ = teacher.model


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
        embeddings(read_folders(photos).take(range(40)), cached, Preparation(2, Augmentation()))
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


def test_weights_of_the_teacher_are_loaded_where_the_student_begins_with_them(
        tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, {'enrich': False, 'templates': ['a photo of a {label}.']},
                          {'weights': 'teacher'}, teacher=vars(CLIP))
    command('import', write(tmp_path / 'it.safetensors', made_up(tmp_path / 'images')))
    said = process('distill.py', '--config', recipe)
    assert 'distill: teacher: the text tower' in said and 'is not cached, and' in said


# What is refused

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


def test_width_of_a_teacher_that_open_clip_does_not_know_stays(photos: Path, tmp_path: Path
                                                               ) -> None:
    for width, ok in ((8, True), (9, False)):
        said = command('import', write(tmp_path / 'it.safetensors', made_up(
            photos, identity='mine', prompt_rows=unit(4, 0, width),
            image_rows=unit(40, 0, width))))
        assert said.startswith('failed') is not ok
    assert 'expected embeddings of width 9, which the teacher mine has, found 8' in said


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


# The real CLIP

@pytest.mark.skipif('VL2V_DATA' not in os.environ, reason='needs $VL2V_DATA')
def test_answers_of_the_real_clip_train_here(tmp_path: Path) -> None:
    given = Path(os.environ['VL2V_DATA']) / 'clip_vit_b32'
    command('from-npz', given / 'image_embeddings.npz', given / 'text_embeddings.npz',
            '--identity', IDENTITY, '--image-size', SIDE, '--licence', 'see there', '--without',
            'images/objects', '--out', tmp_path / 'clip.safetensors')
    said = command('import', tmp_path / 'clip.safetensors', '--images', given / 'images')
    assert '4503 prompts, 4503 of them new' in said
    assert '2436 of 2897 images have an answer' in said
    for name, folder in (('dog', 'dogs'), ('flower', 'flowers'), ('dress', 'unsplash_a')):
        shutil.copytree(given / 'images' / folder, tmp_path / 'photos' / name)
    recipe = write_recipe(tmp_path, {
        'images': str(tmp_path / 'photos'), 'enrich': False, 'templates': ['a {label}']},
        teacher=vars(CLIP))
    said = process('distill.py', '--config', recipe)
    assert 'images 166 asked, 166 from cache, 0 missing; prompts 3 asked, 3 from' in said
    result = json.loads((tmp_path / 'runs/tiny_seed0/result.json').read_text())
    assert result['teacher'][0]['X_id'] > 0.4  # of the teacher, on what it was said to show
