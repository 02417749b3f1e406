"""Tasks: which images are learnt from and which tested on, and what does not fit."""
from pathlib import Path
import shutil

import numpy as np
import pytest
from support.tiny_data import (
    CLASSES,
    LABELS,
    ROOT,
    write_images,
    write_recipe,
    write_split,
    write_vocabulary,
)
from support.tiny_models import WIDTH, write_tower
import torch
from training.data.task import check_folders, describe, read_task, Task, vocabulary_of
from training.recipe import Data, TeacherSource
from training.recipe_file import read_command
from training.teachers.opening import open_teacher, tower_beside
from training.teachers.teacher import CallableTeacher, OpenClipTeacher
from vl2v_ros.words.cached_text import open_text_tower
from vl2v_ros.words.clip_text import ClipText
from vl2v_ros.words.encoder import TextEmbeddings, TextTower
from vl2v_ros.words.labels import Entry


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / 'images')


def names_of(task: Task, part: str) -> list[tuple[str, str]]:
    """Return (domain, class) of each image; both are folders of its file."""
    return [tuple(file.split('/')[:2]) for file in getattr(task, part).files]


def test_a_part_of_each_class_and_domain_is_held_out(images: Path) -> None:
    task = read_task(Data(images=images, hold_out=0.4))
    assert task.class_names == CLASSES and task.labels == LABELS and task.trained == 4
    assert task.seen_domains == ('day', 'night')
    cells = [(domain, name) for domain in ('day', 'night') for name in CLASSES]
    assert sorted(names_of(task, 'train')) == sorted(cells * 3)
    assert sorted(names_of(task, 'test')) == sorted(cells * 2)
    assert not set(task.train.files) & set(task.test.files)
    for part in (task.train, task.test):
        assert [CLASSES[label] for label in part.labels] == [
            file.split('/')[1] for file in part.files]
    again = read_task(Data(images=images, hold_out=0.4))
    assert again.test.files == task.test.files


def test_unseen_domains_and_classes_are_tested_with_all_their_images(
        images: Path, tmp_path: Path) -> None:
    split = write_split(tmp_path / 'split.yaml', ('white_cross', 'blue_square'),
                        ('red_circle', 'green_star'))
    task = read_task(Data(images=images, domains=('night',), split=split, hold_out=0.2))
    assert task.class_names == ('white_cross', 'blue_square', 'red_circle', 'green_star')
    assert task.trained == 2 and task.seen_domains == ('night',)
    trained = [('night', name) for name in ('blue_square', 'white_cross')]
    assert sorted(names_of(task, 'train')) == sorted(trained * 4)
    rest = [(domain, name) for domain in ('day', 'night') for name in CLASSES
            if (domain, name) not in trained]
    assert sorted(names_of(task, 'test')) == sorted(trained + rest * 5)
    for part in (task.train, task.test):  # id classes first, in the order of the split
        assert [task.class_names[label] for label in part.labels] == [
            file.split('/')[1] for file in part.files]
    assert task.train.class_names == task.class_names[:2]


def test_test_folder_is_tested_with_all_its_images(images: Path, tmp_path: Path) -> None:
    test = write_images(tmp_path / 'other', domains=('day', 'fog'), count=2)
    task = read_task(Data(images=images, test=test))
    assert len(task.train) == 40 and len(task.test) == 16 and task.test.root == test
    assert task.seen_domains == ('day',)
    # The images need not show the classes that are not trained on, the test images must.
    shutil.rmtree(images / 'day' / 'red_circle')
    shutil.rmtree(images / 'night' / 'red_circle')
    split = write_split(tmp_path / 'split.yaml')
    with pytest.raises(ValueError, match='has no class red_circle'):
        read_task(Data(images=images, split=split))
    assert len(read_task(Data(images=images, test=test, split=split)).test) == 16


def test_folders_without_domains_are_one_domain(tmp_path: Path) -> None:
    train = write_images(tmp_path / 'train', domains=('',))
    test = write_images(tmp_path / 'test', domains=('',), count=2)
    assert read_task(Data(images=train)).seen_domains == ('train',)
    assert read_task(Data(images=train, test=test)).seen_domains == ('test',)


def test_empty_classes_are_named(images: Path, tmp_path: Path) -> None:
    for domain in ('day', 'night'):
        (images / domain / 'yellow_moon').mkdir()
    (images / 'day' / '.hidden').mkdir()
    with pytest.raises(ValueError, match='no image in the folders of the class yellow_moon; add'):
        read_task(Data(images=images))
    split = write_split(tmp_path / 'split.yaml')  # it leaves the class out
    assert len(read_task(Data(images=images, split=split)).test) == 24
    (images / 'night' / 'yellow_moon').rmdir()
    for picture in (images / 'day' / 'blue_square').iterdir():
        picture.rename(images / 'day' / 'yellow_moon' / picture.name)
    check_folders(read_task(Data(images=images)).test)  # by night there are still some
    with pytest.raises(ValueError, match=r'no image to train on of the class blue_square; add'):
        read_task(Data(images=images, domains=('day',)))


def test_corrupt_files_are_left_out_and_named(
        images: Path, capsys: pytest.CaptureFixture) -> None:
    (images / 'day' / 'red_circle' / '0.png').write_bytes(b'')
    task = read_task(Data(images=images))
    assert 'day/red_circle/0.png' not in task.train.files + task.test.files
    assert len(task.train) + len(task.test) == 39
    said = capsys.readouterr().out
    assert '1 corrupt files left out: day/red_circle/0.png: expected a ' in said
    for picture in images.glob('*/green_star/*.png'):
        picture.write_bytes(b'no image')
    with pytest.raises(ValueError, match='no image to train on of the class green_star'):
        read_task(Data(images=images))
    assert '11 corrupt files' in (said := capsys.readouterr().out) and 'and 1 more' in said


@pytest.mark.parametrize(('content', 'message'), [
    (None, r'data.split: .*No such file.*correct the path'),
    ('id: [', 'data.split: .*expected a YAML file: while parsing'),
    ('id: &a [*a, x]\nood: [b]', 'expected two lists'),
    ('[a, b]', 'expected two lists of class names, id and ood'),
    ('id: [blue_square]\nood: [red_circle]', 'at least 2 classes to train on, got blue_square'),
    ('id: [blue_square, moon]\nood: [red_circle]', 'has no class moon; it has blue_square')])
def test_split_of_no_use_is_refused(
        images: Path, tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / 'split.yaml'
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_task(Data(images=images, split=path))


def test_too_few_images_and_wrong_names_are_refused(images: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='data.domains: .*has no domain fog; it has day, night'):
        read_task(Data(images=images, domains=('day', 'fog')))
    with pytest.raises(ValueError, match='found none; there is no such folder'):
        read_task(Data(images=tmp_path / 'nowhere'))
    few = write_images(tmp_path / 'few', count=2)
    with pytest.raises(ValueError, match='no image to test on .*data.hold_out 0.2, or name a'):
        read_task(Data(images=few))
    assert len(read_task(Data(images=few, domains=('day',))).test) == 8  # all of the night


def test_labels_without_description_are_named(tmp_path: Path) -> None:
    path = write_vocabulary(tmp_path / 'words.yaml', LABELS[:2])
    with pytest.raises(ValueError, match='lacks red circle, white cross; add a description for '
                                         'each, or train with --data.no-enrich'):
        describe(LABELS, Data(vocabulary=path))
    assert describe(LABELS, Data(vocabulary=path, enrich=False)) == dict.fromkeys(LABELS, Entry())
    assert describe(LABELS[1::-1], Data(vocabulary=path)) == {
        'green star': Entry(('Flat: a green star.',)),
        'blue square': Entry(('Flat: a blue square.',))}
    with pytest.raises(ValueError, match='expected a file, found none at'):
        describe(LABELS, Data(vocabulary=tmp_path / 'none.yaml'))


def test_words_are_the_prompts_of_the_templates(tmp_path: Path) -> None:
    tower = write_tower(tmp_path)
    data = Data(vocabulary=write_vocabulary(tmp_path / 'words.yaml'),
                templates=('{label} {description}', 'the {label}'))
    encoder = ClipText(tower, tmp_path)
    found = vocabulary_of(LABELS, data, encoder)
    assert list(found.labels) == LABELS
    rows = encoder.encode(['white cross Flat: a white cross.', 'the white cross']).rows.mean(0)
    np.testing.assert_allclose(found.prototypes[3], rows / np.linalg.norm(rows), atol=1e-6)


# Teachers

def make_black_box() -> CallableTeacher:
    """Return a teacher of two functions."""
    return CallableTeacher(lambda images: images[:, 0, 0],
                           lambda prompts: [[len(prompt), 1, 1] for prompt in prompts],
                           'made here', 3, 8)


@pytest.mark.usefixtures('cache_dir')
def test_teacher_is_a_function_a_service_or_files(tmp_path: Path) -> None:
    write_tower(tmp_path)
    source = TeacherSource(str(tmp_path / 'tiny.json'), str(tmp_path / 'tiny.safetensors'))
    assert isinstance(open_teacher(source), OpenClipTeacher)
    assert open_teacher(TeacherSource('test_task:make_black_box')).identity == 'made here'
    with pytest.raises(ValueError, match='tiny.none, which does not exist'):
        open_teacher(TeacherSource(source.model, str(tmp_path / 'tiny.none')))
    with pytest.raises(ValueError, match='expected an address like'):
        open_teacher(TeacherSource('http://user@localhost/'))


def test_text_tower_lies_beside_the_checkpoint(tmp_path: Path) -> None:
    written = write_tower(tmp_path / 'teacher')
    source = TeacherSource(str(tmp_path / 'teacher/tiny.json'),
                           str(tmp_path / 'teacher/tiny.safetensors'))
    teacher, folder = open_teacher(source), tmp_path / 'run'
    (folder / 'tiny.json').parent.mkdir()
    (folder / 'tiny.json').write_text('of another teacher')
    for _ in range(2):  # it may be there already
        tower = tower_beside(source, teacher, folder)
        assert tower == written
        assert sorted(path.name for path in folder.iterdir()) == ['tiny.json', 'tiny.safetensors']
    shutil.rmtree(tmp_path / 'teacher')
    rows = open_text_tower(tower, WIDTH, folder, tmp_path / 'cache').encode(['a cup']).rows
    np.testing.assert_allclose(rows, teacher.encode(['a cup']).rows, atol=1e-6)


@pytest.mark.usefixtures('cache_dir')
def test_black_box_is_a_tower_whose_prompts_are_in_the_cache(tmp_path: Path) -> None:
    source = TeacherSource('test_task:make_black_box', 'unused.safetensors')
    teacher = open_teacher(source)
    assert isinstance(teacher.encode(['a cup']), TextEmbeddings)
    tower = tower_beside(source, teacher, tmp_path)
    assert tower == TextTower('test_task:make_black_box', '', 'made here')
    assert not any(path.is_file() for path in tmp_path.glob('*'))
    assert teacher.embed_images(torch.ones(1, 3, 8, 8)).shape == (1, 3)


# Command lines

def test_recipe_of_a_command_line(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    for given in (['--config', str(path)], [f'--config={path}']):
        recipe, others = read_command([*given, '--seed', '3', '--data.no-enrich'])
        assert recipe.name == 'tiny' and others == ['--seed', '3', '--data.no-enrich']
    recipe, others = read_command([])
    assert recipe.data.split == ROOT / 'config/splits/ycb_robot.yaml' and others == []
    with pytest.raises(ValueError, match='recipe .*none.yaml: expected a YAML file'):
        read_command(['--config', str(tmp_path / 'none.yaml')])
