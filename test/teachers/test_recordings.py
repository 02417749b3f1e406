"""Recorded answers: recorded, imported, and trained from without the teacher."""
from hashlib import sha256
import json
import os
from pathlib import Path
import shutil

import numpy as np
import open_clip
import pytest
from support import warm
from support.recorded_answers import (
    CLIP,
    command,
    IDENTITY,
    made_up,
    PROMPTS,
    SIDE,
    unit,
    WIDTH,
    write,
)
from support.tiny_data import LABELS, write_recipe
from support.tiny_models import write_tower
from training.data.image_index import read_folders
from training.recipe import TeacherSource
from training.teachers import opening
from training.teachers.embedding_cache import CachedTeacher, embeddings
from training.teachers.queries import Queries
from training.teachers.teacher import CannotLoad, OpenClipTeacher
from vl2v_ros.words import recording

pytestmark = [pytest.mark.long, pytest.mark.usefixtures('cache_dir', 'no_network')]


def distil(*arguments: object) -> str:
    """Run distill.py in a process of its own; return all that it says."""
    done = warm.run('training/distill.py', *arguments)
    assert 'Traceback' not in done.stderr, done.stderr
    return done.stdout + done.stderr


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
    done = warm.run('training/recordings.py', *arguments)
    assert done.returncode == 0, done.stderr
    said = done.stdout
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
    said = distil('--config', recipe)
    assert ('queries to the teacher: images 40 asked, 40 from cache, 0 missing; '
            'prompts 4 asked, 4 from cache, 0 missing') in said
    result = json.loads((tmp_path / 'runs/tiny_seed0/result.json').read_text())
    assert result['queries']['images'] == {'asked': 40, 'from cache': 40, 'missing': 0}
    said = distil('--config', recipe, '--name', 'other', '--data.templates',
                  'a {label}', 'no {label}')
    assert (f"distill: 8 prompts have no recorded answer of {IDENTITY} ('a blue square', "
            "'no blue square', 'a green star', 'no green star', 'a red circle', ...), and it "
            'cannot be asked; connect once to a network, import a recording') in said


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


def test_weights_of_the_teacher_are_loaded_where_the_student_begins_with_them(
        tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, {'enrich': False, 'templates': ['a photo of a {label}.']},
                          {'weights': 'teacher'}, teacher=vars(CLIP))
    command('import', write(tmp_path / 'it.safetensors', made_up(tmp_path / 'images')))
    said = distil('--config', recipe)
    assert 'distill: teacher: the text tower' in said and 'is not cached, and' in said


def test_width_of_a_teacher_that_open_clip_does_not_know_stays(photos: Path, tmp_path: Path
                                                               ) -> None:
    for width, ok in ((8, True), (9, False)):
        said = command('import', write(tmp_path / 'it.safetensors', made_up(
            photos, identity='mine', prompt_rows=unit(4, 0, width),
            image_rows=unit(40, 0, width))))
        assert said.startswith('failed') is not ok
    assert 'expected embeddings of width 9, which the teacher mine has, found 8' in said


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
    said = distil('--config', recipe)
    assert 'images 166 asked, 166 from cache, 0 missing; prompts 3 asked, 3 from' in said
    result = json.loads((tmp_path / 'runs/tiny_seed0/result.json').read_text())
    assert result['teacher'][0]['X_id'] > 0.4  # of the teacher, on what it was said to show
