"""Mixtures: images of several sources, each with what is known of them, in every batch."""
from dataclasses import replace
import itertools
from pathlib import Path

import numpy as np
import pytest
from support.coloured_data import make_teacher, Place, read
from support.image_folders import write_coco
from support.tiny_data import CLASSES, write_images
import torch
from training.data.class_names import read_classes
from training.learning import mixture
from training.learning.mixture import Known, mixture_batches, NO_NAME
from training.learning.rows import rows_between, shares
from training.recipe import Augmentation, Data, Loss, Recipe, Source, Stage, StudentSource
from training.teachers.embedding_cache import CachedTeacher, embeddings
from training.teachers.teacher import CallableTeacher
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.regions import Box, cut
import yaml

NAMES = {CLASSES[0]: 'sea', CLASSES[1]: 'leaf'}
PLAIN = Augmentation(scale=(1.0, 1.0), flip=0, jitter=0, hue=0, grey=0)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Return a recipe of four sources: named, with all answers, with known ones, with nothing."""
    for number, (name, classes) in enumerate((('named', CLASSES[:3]), ('asked', CLASSES[:2]),
                                              ('partly', CLASSES[2:]), ('bare', CLASSES[3:]))):
        write_images(tmp_path / name, classes, ('day',), 4 + number)
    (tmp_path / 'names.yaml').write_text(yaml.safe_dump(NAMES))
    sources = (Source(tmp_path / 'named', tmp_path / 'names.yaml', part=2),
               Source(tmp_path / 'asked', teacher='all'),
               Source(tmp_path / 'partly', teacher='known'), Source(tmp_path / 'bare'))
    return Recipe(data=Data(sources=sources), student=StudentSource('test_resnet', '', 16),
                  loss=Loss(cls=1, img_cos=1), batch=10, workers=0, device='cpu',
                  augmentation=PLAIN, stages=(Stage('all', 1),))


@pytest.fixture
def known(recipe: Recipe, tmp_path: Path) -> list[Known]:
    """Return the sources; of `partly`, three images were embedded before."""
    cached = CachedTeacher(make_teacher(), tmp_path / 'cache')
    partly = mixture.read_images(recipe.data.sources[2])
    embeddings(partly.take([0, 5, 7]), cached)
    return mixture.read_sources(recipe, tuple(NAMES.values()), cached)


def drawn(recipe: Recipe, known: list[Known], place: Place = Place(), count: int = 9,
          epoch: int = 0, step: int = 0) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    batches = mixture_batches(place, recipe, known, torch.eye(2, 4))
    source = batches.draw(epoch, step)
    steps = list(itertools.islice(source, count))
    source.close()
    return steps


# Which rows

@pytest.mark.parametrize('parts, batch, expected', [
    ((1,), 7, [7]), ((1, 1), 8, [4, 4]), ((4, 1, 2, 2, 3), 12, [4, 1, 2, 2, 3]),
    ((4, 1, 2, 2, 3), 512, [171, 42, 86, 85, 128]), ((0.1, 0.3), 4, [1, 3])])
def test_shares(parts: tuple[float, ...], batch: int, expected: list[int]) -> None:
    assert shares(parts, batch) == expected


def test_a_batch_smaller_than_its_sources_is_refused(recipe: Recipe, known: list[Known]) -> None:
    for batch in (2, 3):
        with pytest.raises(ValueError, match='batch: expected at least one image of each of 4 '
                                             'sources, got a batch of . with the parts 2'):
            mixture_batches(Place(), replace(recipe, batch=batch), known, torch.eye(2, 4))
    with pytest.raises(ValueError, match='batch: expected at least one image of each of 2'):
        shares([100, 1], 10)
    with pytest.raises(ValueError, match='batch: expected a multiple of the 3 processes'):
        mixture_batches(Place(world_size=3), recipe, known, torch.eye(2, 4))


@pytest.mark.parametrize('count', [1, 5, 7])
def test_rows_come_once_in_each_pass_from_any_start(count: int) -> None:
    whole = rows_between(count, 0, 5 * count, [3, 1])
    passes = whole.reshape(5, count)
    assert (np.sort(passes, axis=1) == np.arange(count)).all()
    if count > 1:
        assert len({tuple(one) for one in passes.tolist()}) > 1
        assert rows_between(count, 0, 5 * count, [3, 2]).tolist() != whole.tolist()
    for start, stop in itertools.combinations(range(5 * count + 1), 2):
        assert rows_between(count, start, stop, [3, 1]).tolist() == whole[start:stop].tolist()


# What is read

def test_what_is_known_of_each_source(recipe: Recipe, known: list[Known]) -> None:
    named, asked, partly, bare = known
    assert [len(one.index) for one in known] == [12, 10, 3, 7]
    shown = [file.split('/')[-2] for file in named.index.files]
    assert named.labels.tolist() == [[*NAMES].index(name) if name in NAMES else NO_NAME
                                     for name in shown]
    assert all((one.labels == NO_NAME).all() for one in known[1:])
    assert named.targets is None and bare.targets is None
    assert asked.targets.shape == (10, 4) and partly.targets.shape == (3, 4)
    assert [one.part for one in known] == [2, 1, 1, 1]
    assert mixture.labels_of(recipe.data.sources) == ('sea', 'leaf')


def test_folders_can_be_left_out(tmp_path: Path) -> None:
    write_images(tmp_path, CLASSES[:2], ('day', 'night'), 1)
    found = mixture.read_images(Source(tmp_path, without=('night', f'day/{CLASSES[0]}')))
    assert found.files == (f'day/{CLASSES[1]}/0.png',)
    with pytest.raises(ValueError, match='has no folder dusk to leave out'):
        mixture.read_images(Source(tmp_path, without=('dusk',)))
    with pytest.raises(ValueError, match='expected images in .*, found none$'):
        mixture.read_images(Source(tmp_path, without=('day', 'night')))
    with pytest.raises(ValueError, match='none, found none; there is no such folder'):
        mixture.read_images(Source(tmp_path / 'none'))


def test_boxes_are_cut_as_the_node_cuts_them(recipe: Recipe, tmp_path: Path) -> None:
    write_coco(tmp_path / 'boxes/dim', {
        '0.png': [('cup', [4, 2, 6, 25], {}), ('tea_pot', [2, 2, 30, 26], {'visible': 0.5}),
                  ('tea_pot', [1, 1, 30, 26], {'visible': 0.2}), ('cup', [1, 1, 23, 26], {}),
                  ('cup', [90, 90, 30, 30], {})]}, ['cup', 'tea_pot'])
    source = Source(tmp_path / 'boxes', named=True, boxes=True)
    index = mixture.read_images(source)  # neither what is small nor what is hidden
    assert [index.class_names[label] for label in index.labels] == ['tea_pot']
    whole = Frame(replace(index, boxes=None).read(0))
    assert (index.read(0) == cut(whole, Box(17, 15, 30, 26), 0.1, 0).pixels).all()
    assert mixture.names_of(source) == {'cup': 'cup', 'tea_pot': 'tea pot'}
    (tmp_path / 'called.yaml').write_text('tea_pot: kettle')
    named = replace(source, named=False, names=tmp_path / 'called.yaml', teacher='all')
    [known] = mixture.read_sources(
        replace(recipe, data=replace(recipe.data, sources=(named,))), ['leaf', 'kettle'],
        CachedTeacher(make_teacher(), tmp_path / 'cache'))
    assert known.labels.tolist() == [1] and known.targets is not None
    with pytest.raises(ValueError, match='data.sources: expected .*/annotations.json'):
        mixture.read_images(replace(source, images=tmp_path / 'none'))
    with pytest.raises(ValueError, match='without: expected no folders beside boxes'):
        replace(source, without=('dim',))


def test_corrupt_images_are_left_out_and_named(tmp_path: Path,
                                               capsys: pytest.CaptureFixture) -> None:
    write_images(tmp_path, CLASSES[:1], ('day',), 2)
    (tmp_path / 'day' / CLASSES[0] / '0.png').write_bytes(b'')
    assert len(mixture.read_images(Source(tmp_path))) == 1
    assert '1 corrupt files left out: day/blue_square/0.png: expected' in capsys.readouterr().out


def test_answers_that_are_not_there(recipe: Recipe, tmp_path: Path) -> None:
    names = tuple(NAMES.values())
    other = CallableTeacher(lambda images: images[:, 0, 0, :1] * [1, 1, 1, 1] + 1, read, 'other',
                            4, 8)
    with pytest.raises(ValueError, match='the caches have no answer of other to an image in '
                                         '.*partly; import a recording of them'):
        mixture.read_sources(recipe, names, CachedTeacher(other, tmp_path / 'cache'))


def test_names_of_other_folders_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / 'names.yaml').write_text('elsewhere: thing')
    with pytest.raises(ValueError, match="names.yaml names none of the folders of images in "
                                         ".*named, such as 'blue_square'"):
        mixture.read_sources(recipe, ('thing',), CachedTeacher(
            make_teacher(), tmp_path / 'cache'))


@pytest.mark.parametrize('text', ['', '[a]', 'a: 1', '1: a', 'a: [b]', '{}', "a: ''", 'a: ['])
def test_files_of_names_that_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'it.yaml'
    path.write_text(text)
    with pytest.raises(ValueError, match='names .*it.yaml: expected a (mapping|YAML file)'):
        mixture.read_names(path)


@pytest.mark.parametrize('text', ['', 'a: b', '[1]', '[]', 'a', '[a'])
def test_files_of_classes_that_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'it.yaml'
    path.write_text(text)
    with pytest.raises(ValueError, match='classes .*it.yaml: expected a (list of names|YAML)'):
        read_classes(path)
    with pytest.raises(ValueError, match='classes .*none.yaml: expected a YAML file'):
        read_classes(tmp_path / 'none.yaml')


def test_folders_are_found_in_any_unicode_form(tmp_path: Path) -> None:
    path = tmp_path / 'it.yaml'
    path.write_text('Ka\u0308se: cheese', encoding='utf-8')
    assert mixture.read_names(path) == {'K\u00e4se': 'cheese'}
    path.write_text('[crane, b, crane]')
    assert read_classes(path) == ('crane', 'b', 'crane')


# Batches

@pytest.mark.parametrize('resident', [False, True])
@pytest.mark.parametrize('workers', [0, 1])
def test_batches_have_a_fixed_part_of_each_source(
        recipe: Recipe, known: list[Known], resident: bool, workers: int) -> None:
    if resident and workers:
        pytest.skip('workers load nothing there')
    asked, seen = known[1].targets, set()
    means = {number: torch.stack([torch.tensor(one.index.read(row)).float().mean((0, 1)) / 255
                                  for row in range(len(one.index))])
             for number, one in enumerate(known)}
    for images, parts in drawn(replace(recipe, resident=resident, workers=workers), known):
        assert images.shape == (10, 3, 16, 16) and 0 <= images.min() and images.max() <= 1
        assert parts['told'].tolist() == [False] * 4 + [True] * 4 + [False] * 2
        assert (parts['labels'][4:] == NO_NAME).all()
        assert torch.equal(parts['named'], parts['labels'] != NO_NAME)
        assert torch.equal(parts['prototypes'], torch.eye(2, 4))
        for at in range(10):  # which image it is, by its mean colour
            number = (0, 0, 0, 0, 1, 1, 2, 2, 3, 3)[at]
            far = (means[number] - images[at].mean((1, 2))).abs().amax(1)
            row = int(far.argmin())
            seen.add((number, row))
            if number == 0:
                assert parts['labels'][at] == known[0].labels[
                    [int(one) for one in torch.nonzero(far < far.min() + 1e-6)[:, 0]]][0]
            if number == 1:
                best = (torch.tensor(asked.astype(np.float32)) @ parts['teacher'][at]).max()
                assert best > 0.999
    assert {number for number, _ in seen} == {0, 1, 2, 3} and len(seen) > 20


@pytest.mark.parametrize('resident', [False, True])
def test_batches_go_on_where_they_were_left(recipe: Recipe, known: list[Known],
                                            resident: bool) -> None:
    recipe = replace(recipe, resident=resident, augmentation=Augmentation())
    batches = mixture_batches(Place(), recipe, known, torch.eye(2, 4))
    assert batches.per_epoch == 3
    whole = drawn(recipe, known)
    for start in (1, 3, 5):
        for (images, parts), (other, same) in zip(
                drawn(recipe, known, count=3, epoch=start // 3, step=start % 3), whole[start:],
                strict=False):
            assert torch.equal(images, other)
            assert all(torch.equal(parts[name], same[name]) for name in parts)
    assert not torch.equal(whole[0][0], whole[3][0])


def rows_of(steps: list[tuple[torch.Tensor, dict[str, torch.Tensor]]]) -> list[list[bytes]]:
    """Return the images of each step."""
    return [sorted(image.contiguous().numpy().tobytes() for image in images)
            for images, _ in steps]


def test_two_processes_see_what_one_does(recipe: Recipe, known: list[Known]) -> None:
    recipe = replace(recipe, batch=20)  # 8, 4, 4 and 4; of two processes 4, 2, 2 and 2
    one = rows_of(drawn(recipe, known, count=4))
    first, second = (rows_of(drawn(recipe, known, Place(rank, 2), count=4)) for rank in (0, 1))
    assert [sorted(a + b) for a, b in zip(first, second, strict=True)] == one
    assert first != second


# What does not fit

@pytest.mark.parametrize('fields, message', [
    ({'data.shards': True}, 'expected no data.shards beside them, got True; leave it out'),
    ({'data.captions': Path('a.csv')}, 'expected no data.captions beside them'),
    ({'data.split': Path('a.yaml')}, 'expected no data.split beside them'),
    ({'data.test': Path('a')}, 'expected no data.test beside them'),
    ({'data.domains': ('a',)}, 'expected no data.domains beside them'),
    ({'views': 2}, 'expected no views beside them, got 2'),
    ({'loss': Loss(cls=1), 'student.closed_set': True}, 'expected no student.closed_set beside'),
    ({'student.closed_set': True}, 'loss.weights: expected cls and kd alone with student'),
    ({'loss': Loss(caption=1)}, 'expected no loss.caption beside them'),
    ({'resident': True, 'augmentation': Augmentation(rand_augment=(2, 9))},
     'resident: expected no augmentation.rand_augment'),
    ({'data.sources': (Source(Path('a')),)}, 'loss: img_cos learns from a teacher, but no source'),
    ({'data.sources': (Source(Path('a'), teacher='all'),)}, 'cls learns from names, but no'),
    ({'student.classes': Path('a')}, "student.classes: expected the file .*, got ''"),
    ({'data.sources': (), 'resident': True}, 'resident: expected data.sources beside it'),
    ({'data.sources': (), 'student.classes': Path('a')}, 'student.classes: expected data.sour'),
    ({'data.sources': (), 'student.classes': Path('a'), 'loss': Loss(cls=1, keep=1)},
     'student.classes: expected data.sources beside it, got none')])
def test_what_does_not_go_with_sources_is_refused(recipe: Recipe, fields: dict,
                                                  message: str) -> None:
    changed = {}
    for name, value in fields.items():
        head, _, tail = name.partition('.')
        if tail:
            value = replace(changed.get(head, getattr(recipe, head)), **{tail: value})
        changed[head] = value
    with pytest.raises(ValueError, match=message):
        replace(recipe, **changed)


def test_what_goes_with_sources(recipe: Recipe) -> None:
    assert recipe.data.sources
    replace(recipe, student=StudentSource(  # a linear projector may have a memory
        weights='a.safetensors', classes=Path('a'), projector='linear'))


@pytest.mark.parametrize('field, message', [
    ({'teacher': 'some'}, "teacher: expected '', known, all or start, got 'some'"),
    ({'part': 0.0}, 'part: expected a positive number'),
    ({'part': float('inf')}, 'part: expected a positive')])
def test_sources_out_of_range_are_refused(field: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Source(Path('a'), **field)
