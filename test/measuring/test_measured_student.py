"""What is measured of a student: calibration, unknown images, and the page with all of it."""
from dataclasses import replace
import json
from pathlib import Path

import numpy as np
import pytest
from support.tiny_data import CLASSES, write_images, write_scenes, write_split
from support.tiny_models import spec, student, write_tower
import torch
from training.data.task import read_task, Task
from training.evaluate import show
from training.learning.trainee import Trainee
from training.measuring.pages.tables import scene_objects
from training.measuring.student import calibrated, evaluate, Page, unknown_figures
from training.recipe import Data
from training.teachers.embedding_cache import CachedTeacher
from training.teachers.teacher import OpenClipTeacher
from vl2v_ros.words import vocabulary
from vl2v_ros.words.encoder import TextTower
from vl2v_ros.words.labels import check_labels


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / 'images', count=4)


@pytest.fixture
def task(images: Path, tmp_path: Path) -> Task:
    """Return a task of two classes and one domain trained on, of four classes and two domains."""
    return read_task(Data(images=images, split=write_split(tmp_path / 'split.yaml'),
                          domains=('day',), hold_out=0.5))


# Calibration

def test_calibration_fits_the_scores_and_lets_95_percent_pass() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (4000,), generator=generator)
    similarities = 0.2 * torch.rand(4000, 5, generator=generator)
    # So that softmax(similarity / 0.05) is right about its own odds.
    labels = torch.multinomial((similarities / 0.05).softmax(1), 1, generator=generator)[:, 0]
    found = calibrated(spec(), similarities, labels)
    assert found.temperature == pytest.approx(0.05, rel=0.1)
    passed = (similarities.amax(1).double() >= found.unknown_threshold).double().mean()
    assert 0.95 <= passed <= 0.951
    assert replace(found, temperature=0.07, unknown_threshold=0.0) == spec()


def test_threshold_stays_a_cosine() -> None:
    above = torch.full((3, 2), 1.0000001)
    assert calibrated(spec(), above, torch.tensor([0, 0, 1])).unknown_threshold == 1.0


def test_unknown_images_are_those_of_other_classes_or_with_their_label_left_out() -> None:
    known, labels = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 1])
    assert unknown_figures(spec(), known, labels, torch.tensor([0.85, 0.1])) == {
        'temperature': 0.07, 'unknown threshold': 0.0, 'AUROC': 0.75, 'FPR95': 0.5}
    alone = unknown_figures(spec(), known, labels, torch.empty(0))  # 0.1 and 0.2 instead
    assert (alone['AUROC'], alone['FPR95']) == (1.0, 0.0)


# Evaluation

@pytest.fixture
def guide(tmp_path: Path) -> OpenClipTeacher:
    write_tower(tmp_path / 'teacher')
    return OpenClipTeacher(TextTower('tiny.json', 'tiny.safetensors'), tmp_path / 'teacher')


def measured(trainee: Trainee, task: Task, guide: OpenClipTeacher, tmp_path: Path, **more: object
             ) -> dict:
    words = vocabulary.build(check_labels(task.labels), guide, 1)
    page = Page(tmp_path, 'tiny', {'backbone': 'tiny'}, {'cls': [(1, 2.0), (2, 1.0)]})
    result = evaluate(trainee, task, words, CachedTeacher(guide, tmp_path / 'embeddings'), page,
                      **more)
    assert json.loads(json.dumps(result)) == result
    return result


def test_evaluation_says_all_and_sets_the_spec(
        task: Task, guide: OpenClipTeacher, tmp_path: Path) -> None:
    trainee = Trainee(student())
    result = measured(trainee, task, guide, tmp_path)
    figures = result['figures']
    assert figures.keys() == {
        'mse', 'angle [deg]', 'M_vlalign(2)', 'ood mse', 'ood angle [deg]', 'ood M_vlalign(2)',
        'ood M_vlalign(3)', 'temperature', 'unknown threshold', 'AUROC', 'FPR95', 'ECE'}
    assert trainee.student.spec.temperature == figures['temperature'] != spec().temperature
    assert trainee.student.spec.unknown_threshold == figures['unknown threshold'] != 0
    assert [row['images'] for row in result['table']] == [
        'domains trained on', 'unseen domains', 'day', 'night']
    assert [row['count'] for row in result['teacher']] == [12, 16, 12, 16]
    assert result['per_domain'].keys() == {'day', 'night'} and result['left_out'] == []
    page = (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert page.count('<svg') == 4 and 'data:image/jpeg;base64,' in page
    assert 'src="http' not in page and 'unseen domains' in page


def test_teacher_is_as_far_from_itself_as_nothing(
        task: Task, guide: OpenClipTeacher, tmp_path: Path) -> None:
    class Itself(Trainee):
        """The teacher as a student."""

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, None]:
            return torch.from_numpy(guide.embed_images(images)), None

    result = measured(Itself(student()), task, guide, tmp_path)
    figures = result['figures']
    assert figures['mse'] < 1e-6 and figures['angle [deg]'] < 0.1  # kept in half precision
    assert figures['M_vlalign(2)'] < 0.2
    for mine, its in zip(result['table'], result['teacher'], strict=True):
        assert mine == pytest.approx(its, abs=0.1)


def test_closed_set_is_measured_by_its_logits(
        task: Task, guide: OpenClipTeacher, tmp_path: Path) -> None:
    trainee = Trainee(student(), classes=2)
    result = measured(trainee, task, guide, tmp_path)
    assert result['figures'].keys() == {'ECE'} and trainee.student.spec == spec()
    assert all(row.keys() == {'images', 'count', 'X_id'} for row in result['table'])
    assert 'Y_ood over all' in result['teacher'][0]


def test_checkpoints_own_calibration_is_measured(
        task: Task, guide: OpenClipTeacher, tmp_path: Path) -> None:
    trainee = Trainee(student(temperature=0.5, unknown_threshold=0.25))
    own = measured(trainee, task, guide, tmp_path, choose=False)['figures']
    assert (own['temperature'], own['unknown threshold']) == (0.5, 0.25)
    assert trainee.student.spec == spec(temperature=0.5, unknown_threshold=0.25)
    chosen = measured(trainee, task, guide, tmp_path)['figures']
    assert chosen['ECE'] != own['ECE'] and chosen['AUROC'] == own['AUROC']


@pytest.mark.parametrize('rows', [[0], [], [0, 1], [0, 4, 9]])
def test_tiny_test_sets_say_what_is_left_out(
        task: Task, guide: OpenClipTeacher, tmp_path: Path, rows: list[int],
        capsys: pytest.CaptureFixture) -> None:
    day = np.flatnonzero((task.test.labels < 2) & (task.test.domains == 0))
    night = np.flatnonzero((task.test.labels < 2) & (task.test.domains == 1))
    kept = [*day[[row for row in rows if row < len(day)]], *night[:2]]
    few = replace(task, test=task.test.take(kept))
    result = measured(Trainee(student()), few, guide, tmp_path)
    show(result)
    said = capsys.readouterr().out
    if len(kept) < 4:
        assert f'Left out: calibration and unknown detection: expected at least 2 test images of '\
            f'classes and domains trained on, got {len(kept) - 2}' in said
        assert 'ECE' not in result['figures']
    else:
        assert 'Left out' not in said and 'ECE' in said
    assert 'unseen domains' in said and 'Its teacher' in said


def test_objects_in_scenes_are_told_apart_by_their_scene(
        task: Task, guide: OpenClipTeacher, tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / 'scenes', [
        CLASSES[:2], ['blue_square'], ['blue_square', 'red_circle'], ['white_cross'], []])
    objects, with_ood = scene_objects(scenes, task)
    assert [task.class_names[label] for label in objects.labels] == [
        'blue_square', 'green_star', 'blue_square', 'blue_square', 'red_circle', 'white_cross']
    assert with_ood.tolist() == [False, False, False, True, True, True]
    result = measured(Trainee(student()), replace(task, scenes=scenes), guide, tmp_path)
    row = result['table'][4]
    assert row['images'] == 'in scenes, domains trained on' and row['count'] == 6
    assert row.keys() >= {'X_id', 'Y_id on X_ood', 'Y_ood on X_ood', 'Y_ood over all'}
    assert [row['images'] for row in result['teacher'][4:]] == [
        'in scenes, domains trained on', 'in scenes, day']
