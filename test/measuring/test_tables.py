"""The tables of an evaluation: groups of images, rows of domains, and objects in scenes."""
from pathlib import Path

import pytest
from support.tiny_data import write_images, write_scenes, write_split
import torch
from training.data.task import read_task, Task
from training.measuring.pages.tables import accuracy_by_domain, line, scene_objects
from training.recipe import Data


def of(best: list[int], count: int = 4, second: list[int] | None = None) -> torch.Tensor:
    """Return similarities of which these labels are best, and these the next."""
    rows = torch.zeros(len(best), count)
    rows[range(len(best)), second or best] = 0.5
    rows[range(len(best)), best] = 1.0
    return rows


def test_line_groups_images_as_the_paper_does() -> None:
    # Labels 0 and 1 are id, 2 and 3 ood. Rows: two id objects alone, two beside ood, three ood.
    labels = torch.tensor([0, 1, 0, 1, 2, 3, 3])
    with_ood = torch.tensor([False, False, True, True, True, True, True])
    similarities = of([0, 2, 1, 1, 2, 0, 2], second=[0, 1, 1, 1, 2, 3, 0])
    assert line(similarities, labels, with_ood, trained=2) == {
        'X_id': 1.0, 'X_id over all': 0.5, 'Y_id on X_ood': 0.5,
        'Y_ood on X_ood': pytest.approx(2 / 3), 'Y_ood over all': pytest.approx(1 / 3)}
    only = labels < 2
    assert line(similarities[only], labels[only], with_ood[only], 2).keys() == {
        'X_id', 'X_id over all', 'Y_id on X_ood'}
    # A closed set has no columns for ood labels: what it cannot say is not counted as wrong.
    assert line(similarities[:, :2], labels, with_ood, 2) == {'X_id': 1.0, 'Y_id on X_ood': 0.5}
    assert line(similarities, torch.tensor([0, 2, 1, 1, 2, 0, 3]), labels < 0, 4) == {
        'X_id': pytest.approx(6 / 7)}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / 'images', count=4)


@pytest.fixture
def task(images: Path, tmp_path: Path) -> Task:
    """Return a task of two classes and one domain trained on, of four classes and two domains."""
    return read_task(Data(images=images, split=write_split(tmp_path / 'split.yaml'),
                          domains=('day',), hold_out=0.5))


def test_table_has_a_row_per_group_of_domains(task: Task) -> None:
    right = of(task.test.labels.tolist())
    rows = {row['images']: row for row in accuracy_by_domain(right, task.test, task)}
    assert {name: row['count'] for name, row in rows.items()} == {
        'domains trained on': 12, 'unseen domains': 16, 'day': 12, 'night': 16}
    assert all(row['X_id'] == row['Y_ood on X_ood'] == 1 for row in rows.values())
    wrong_by_night = right.clone()
    night = torch.tensor(task.test.domains == task.test.domain_names.index('night'))
    wrong_by_night[night] = right[night].roll(1, dims=1)
    rows = {row['images']: row for row in accuracy_by_domain(wrong_by_night, task.test, task)}
    assert [rows[name]['X_id over all'] for name in rows] == [1, 0, 1, 0]


def test_domain_without_known_classes_keeps_its_row(task: Task) -> None:
    part = task.test.take(task.test.labels >= 2)
    rows = accuracy_by_domain(of(part.labels.tolist()), part, task)
    assert [row['Y_ood on X_ood'] for row in rows] == [1.0] * 4
    assert not any('X_id' in row for row in rows)


def test_scenes_that_do_not_fit_are_refused(task: Task, images: Path, tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / 'scenes', [['blue_square', 'red_circle']])
    with pytest.raises(ValueError, match='none of its 1 images shows id objects only'):
        scene_objects(scenes, task)
    with pytest.raises(ValueError, match='--scenes: expected classes that are not trained on; '
                                         'name an object split of them as --data.split'):
        scene_objects(scenes, read_task(Data(images=images, hold_out=0.5)))
    with pytest.raises(ValueError, match='expected .*annotations.json'):
        scene_objects(tmp_path / 'none', task)
    for other in scenes.glob('*/annotations.json'):
        other.write_text(other.read_text().replace('white_cross', 'yellow_moon'))
    with pytest.raises(ValueError, match='has no class white_cross'):
        scene_objects(scenes, task)
