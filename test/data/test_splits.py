"""Splits: which images are trained on and which are held out."""
from pathlib import Path

import numpy as np
import pytest
from support.image_folders import write_coco, write_folders
from training.data import coco, image_index, splits
import yaml

ROOT = Path(__file__).parents[2]
SPLIT = ROOT / 'config' / 'splits' / 'ycb_robot.yaml'
# papers.md's lists, counted by their numbers in the YCB set.
ID = (2, 6, 11, 13, 15, 24, 30, 32, 35, 37, 48, 56, 58, 62)
OOD = (3, 12, 14, 16, 17, 21, 26, 31, 36, 43, 53, 77)


def test_leave_one_domain_out_is_disjoint_and_complete(tmp_path: Path) -> None:
    index = image_index.read_folders(write_folders(tmp_path, ['a', 'b', 'c'], ['x', 'y']))
    parts = splits.leave_one_domain_out(index)
    assert list(parts) == ['a', 'b', 'c']
    for name, (source, target) in parts.items():
        assert sorted([*source, *target]) == list(range(len(index)))
        assert {index.files[row][0] for row in target} == {name}
        assert name not in {index.files[row][0] for row in source}


@pytest.mark.parametrize('domains, classes, message', [
    (['a'], ['x', 'y'], 'at least 2 domains.*has only a;'),
    (['a', 'b'], ['x'], 'at least 2 classes.*has only x;')])
def test_one_domain_or_one_class_cannot_be_split(
        tmp_path: Path, domains: list[str], classes: list[str], message: str) -> None:
    index = image_index.read_folders(write_folders(tmp_path, domains, classes))
    with pytest.raises(ValueError, match=message):
        splits.leave_one_domain_out(index)


def test_hold_out_takes_of_every_group(tmp_path: Path) -> None:
    index = image_index.read_folders(write_folders(tmp_path, ['a', 'b'], ['x', 'y'], 5))
    stay, held = splits.hold_out(index, 0.4, seed=1)
    assert sorted([*stay, *held]) == list(range(20))
    groups = [index.files[row].rsplit('/', 1)[0] for row in held]
    assert {group: groups.count(group) for group in groups} == {
        'a/x': 2, 'a/y': 2, 'b/x': 2, 'b/y': 2}
    assert held.tolist() == splits.hold_out(index, 0.4, seed=1)[1].tolist()
    assert held.tolist() != splits.hold_out(index, 0.4, seed=2)[1].tolist()


def test_the_shipped_split_is_the_papers() -> None:
    split = splits.read_object_split(SPLIT)
    assert [int(name[:3]) for name in split.id] == list(ID)
    assert [int(name[:3]) for name in split.ood] == list(OOD)
    assert len({*split.id, *split.ood}) == 26
    labels = {image_index.label_of(name) for name in (*split.id, *split.ood)}
    assert len(labels) == 26
    assert {'banana', 'phillips screwdriver', 'rubiks cube'} <= labels


@pytest.mark.parametrize('content, message', [
    ('', 'expected two lists'), ('id: [a]', 'expected two lists'),
    ('id: []\nood: [a]', 'expected two lists'), ('id: [a, b]\nood: [b]', 'got b twice')])
def test_broken_split_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / 'split.yaml').write_text(content)
    with pytest.raises(ValueError, match=message):
        splits.read_object_split(tmp_path / 'split.yaml')


SMALL = splits.ObjectSplit(('a', 'c'), ('b', 'd'))


def scenes(tmp_path: Path) -> image_index.Index:
    box = [1, 1, 9, 9]
    shown = ['a', 'ac', 'ab', 'bd', 'ae', 'be', '', 'c']  # e is in neither list
    write_coco(tmp_path, {f'{number}.png': [(name, box, {}) for name in names]
                          for number, names in enumerate(shown)}, 'abcde')
    return coco.read_scenes(tmp_path)


def test_scenes_are_split_by_their_objects(tmp_path: Path) -> None:
    index = scenes(tmp_path)
    sets = splits.split_objects(index, SMALL)
    assert sets.x_id.tolist() == [0, 1, 7]
    assert sets.x_ood.tolist() == [2, 3]
    assert sets.y_id.tolist() == [0, 2]
    assert sets.y_ood.tolist() == [1, 3]
    assert sets.left_out == 3
    assert index.labels[np.ix_(sets.x_ood, sets.y_id)].tolist() == [[True, False], [False, False]]
    with_others = splits.select_classes(index, SMALL.id + SMALL.ood)
    assert with_others.class_names == ('a', 'c', 'b', 'd')
    sets = splits.split_objects(with_others, SMALL)
    assert sets.x_id.tolist() == [0, 1, 4, 7]
    assert sets.x_ood.tolist() == [2, 3, 5]


def test_single_objects_are_split_by_their_class(tmp_path: Path) -> None:
    split = splits.read_object_split(SPLIT)
    names = [*split.id, *split.ood, '025_mug']
    index = image_index.read_folders(write_folders(tmp_path, ['a'], names, 1))
    sets = splits.split_objects(index, split)
    assert not set(sets.x_id) & set(sets.x_ood)
    assert len(sets.x_id) == 14
    assert len(sets.x_ood) == 12
    assert sets.left_out == 1
    assert {index.class_names[label] for label in index.labels[sets.x_id]} == set(split.id)
    assert sorted(index.labels[sets.x_ood]) == sorted(sets.y_ood)
    seen = splits.select_classes(index, split.id)
    assert [seen.class_names[label] for label in seen.labels] == [
        file.split('/')[1] for file in seen.files]
    assert set(seen.labels) == set(range(14))


def test_split_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    index = scenes(tmp_path)
    with pytest.raises(ValueError, match='has no class zebra; it has a, b'):
        splits.split_objects(index, splits.ObjectSplit(('a',), ('zebra',)))
    with pytest.raises(ValueError, match='shows ood objects.*--objects a c b d'):
        splits.split_objects(index.take([0, 1]), SMALL)


def test_split_file_is_plain_yaml() -> None:
    assert set(yaml.safe_load(SPLIT.read_text())) == {'id', 'ood'}
