"""Evaluation: the numbers of a table, calibration, scenes, and the command."""
from dataclasses import replace
import json
from pathlib import Path
import shutil
import subprocess
import sys

import numpy as np
import pytest
from support.tiny_data import CLASSES, ROOT, write_images, write_recipe, write_scenes, write_split
from support.tiny_models import spec, student, write_tower
import torch
from training.data.task import read_task, Task
from training.evaluate import Options, run, show
from training.learning.trainee import Trainee
from training.measuring.student import calibrated, evaluate, unknown_figures
from training.measuring.tables import accuracy_by_domain, line, scene_objects
from training.recipe import Data
from training.recipe_file import read_command
from training.teachers.teacher import OpenClipTeacher
from vl2v_ros.model import checkpoint
from vl2v_ros.words import vocabulary
from vl2v_ros.words.encoder import TextTower
from vl2v_ros.words.labels import check_labels

# Lines and tables


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
    result = evaluate(trainee, task, words, guide, tmp_path / 'embeddings', tmp_path, 'tiny',
                      {'backbone': 'tiny'}, {'cls': [(1, 2.0), (2, 1.0)]}, **more)
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


# Scenes

def test_objects_in_scenes_are_told_apart_by_their_scene(
        task: Task, guide: OpenClipTeacher, tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / 'scenes', [
        CLASSES[:2], ['blue_square'], ['blue_square', 'red_circle'], ['white_cross'], []])
    objects, with_ood = scene_objects(scenes, task)
    assert [task.class_names[label] for label in objects.labels] == [
        'blue_square', 'green_star', 'blue_square', 'blue_square', 'red_circle', 'white_cross']
    assert with_ood.tolist() == [False, False, False, True, True, True]
    result = measured(Trainee(student()), task, guide, tmp_path, scenes=scenes)
    row = result['table'][4]
    assert row['images'] == 'in scenes, domains trained on' and row['count'] == 6
    assert row.keys() >= {'X_id', 'Y_id on X_ood', 'Y_ood on X_ood', 'Y_ood over all'}
    assert [row['images'] for row in result['teacher'][4:]] == [
        'in scenes, domains trained on', 'in scenes, day']


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


# The command

@pytest.fixture
def written(tmp_path: Path, cache_dir: Path) -> Path:
    """Return a folder with a checkpoint, its teacher, and a recipe."""
    write_recipe(tmp_path, {'split': str(write_split(tmp_path / 'split.yaml'))})
    tower = write_tower(tmp_path / 'teacher')
    checkpoint.save(student(text_tower=tower), tmp_path / 'student.safetensors')
    return tmp_path


def options_of(folder: Path, **fields: object) -> Options:
    recipe, _ = read_command(['--config', str(folder / 'recipe.yaml')])
    return Options(**{**vars(recipe), 'out': folder / 'out',
                      'checkpoint': folder / 'student.safetensors', **fields})


def test_command_measures_a_checkpoint(written: Path) -> None:
    scenes = write_scenes(written / 'scenes', [['blue_square'], ['green_star', 'red_circle']])
    before = (written / 'student.safetensors').read_bytes()
    done = subprocess.run(
        [sys.executable, str(ROOT / 'training/evaluate.py'), '--checkpoint',
         str(written / 'student.safetensors'), '--out', str(written / 'out'), '--config',
         str(written / 'recipe.yaml'), '--data.hold-out', '0.4', '--scenes', str(scenes)],
        capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert '| Y_ood on X_ood | Y_ood over all | Y_id on X_ood |' in done.stdout
    assert '| in scenes, day | 3 |' in done.stdout and 'Its teacher:' in done.stdout
    result = json.loads((written / 'out/result.json').read_text())
    assert result['checkpoint'] == str(written / 'student.safetensors')
    assert result['table'][0]['count'] == 8 + 20
    assert '<h1>student.safetensors</h1>' in (written / 'out/report.html').read_text()
    assert (written / 'student.safetensors').read_bytes() == before


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.cuda)])
def test_calibrating_writes_the_checkpoint(written: Path, device: str) -> None:
    before = checkpoint.load(written / 'student.safetensors')
    figures = run(options_of(written, calibrate=True, device=device))['figures']
    after = checkpoint.load(written / 'student.safetensors')
    assert after.spec == replace(before.spec, temperature=figures['temperature'],
                                 unknown_threshold=figures['unknown threshold'])
    assert after.spec != before.spec
    for name, weight in before.state_dict().items():
        assert torch.allclose(weight, after.state_dict()[name], atol=1e-3)  # written in half
    again = run(options_of(written, device=device))['figures']
    assert again == pytest.approx(figures, rel=0.01, abs=0.01)


def test_another_teacher_than_the_checkpoints_is_refused(written: Path) -> None:
    path = written / 'student.safetensors'
    own = checkpoint.load(path)
    checkpoint.save(student(width=16, text_tower=own.spec.text_tower), path)
    with pytest.raises(ValueError, match='expected a teacher of width 16, got one of 8; name the '
                                         'one the student was distilled from as --teacher.model'):
        run(options_of(written))
    checkpoint.save(student(text_tower=replace(own.spec.text_tower, identity='sha256:0')), path)
    with pytest.raises(ValueError, match='expected a teacher of identity sha256:0, got one of '
                                         'sha256:[0-9a-f]{64}; name'):
        run(options_of(written))
    assert not (written / 'out').exists()


def test_results_of_a_training_are_not_written_over(written: Path) -> None:
    (written / 'out').mkdir()
    (written / 'out/result.json').write_text('{"recipe": {}}')
    with pytest.raises(ValueError, match='is the result of a training; choose another --out'):
        run(options_of(written))
    shutil.rmtree(written / 'out')
    for _ in range(2):  # its own are
        run(options_of(written))
