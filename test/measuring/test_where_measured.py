"""Where a student finds things: mean average precision, and the command that measures it."""
import json
from pathlib import Path
import sys

import numpy as np
import pytest
from support import shapes
from support.tiny_data import write_png
from training import naming
from training.measuring.scenes.average_precision import Boxed, mean_average_precision, overlaps
import yaml

SIDE = 160
NAMES = {'a': 'red circle', 'b': 'blue square'}


def box(label: str, left: float, score: float = 1.0) -> Boxed:
    return Boxed(label, (left, 0, left + 10, 10), score)


def test_overlaps_are_shares_of_the_union() -> None:
    assert overlaps([box('a', 0)], [box('b', 0), box('b', 5), box('b', 20)]).tolist() == [
        [1, pytest.approx(1 / 3), 0]]
    assert overlaps([], [box('a', 0)]).shape == (0, 1)


@pytest.mark.parametrize(('found', 'expected'), [
    ([box('a', 1, 0.9), box('b', 50, 0.8)], 1.0),
    ([box('a', 1, 0.9)], 0.5),  # b has nothing
    ([box('a', 90, 0.9), box('a', 1, 0.8), box('b', 50)], 0.75),  # a false one comes first
    ([box('a', 1, 0.9), box('a', 2, 0.8), box('b', 50)], 1.0),  # a double after the right one
    ([box('a', 30, 0.9), box('a', 1, 0.8), box('b', 50)], 1.0),  # of what does not count
    ([box('a', 5, 0.9), box('b', 50)], 0.5),  # too little overlap
    ([], 0.0)])
def test_mean_average_precision(found: list[Boxed], expected: float) -> None:
    truth = [([box('a', 0), box('b', 50)], [box('a', 30)])]
    assert mean_average_precision([found], truth) == pytest.approx(expected)


def test_resampled_images_count_as_often_as_they_are_chosen() -> None:
    truth = [([box('a', 0)], []), ([box('a', 0)], [])]
    answers = [[box('a', 0)], []]
    assert mean_average_precision(answers, truth) == 0.5
    assert mean_average_precision(answers, truth, [0, 0]) == 1
    assert mean_average_precision(answers, truth, [1]) == 0


@pytest.fixture
def scene(tmp_path: Path, cache_dir: Path) -> Path:
    """Write one picture of two shapes, as COCO annotations and as boxes drawn by hand."""
    rng = np.random.default_rng(0)
    write_png(tmp_path / 'scene/0.png', np.hstack(
        [shapes.draw(label, SIDE, SIDE, rng, (0, 0)) for label in NAMES.values()]))
    (tmp_path / 'scene/annotations.json').write_text(json.dumps({
        'images': [{'id': 1, 'file_name': '0.png', 'width': 2 * SIDE, 'height': SIDE}],
        'annotations': [{'id': number + 1, 'image_id': 1, 'category_id': number + 1,
                         'bbox': [number * SIDE, 0, SIDE, SIDE]} for number in range(2)],
        'categories': [{'id': 1, 'name': 'a'}, {'id': 2, 'name': 'b'}]}))
    (tmp_path / 'names.yaml').write_text(yaml.safe_dump(NAMES))
    (tmp_path / 'boxes.yaml').write_text(yaml.safe_dump({'0.png': [
        {'label': label, 'box': [number / 2, 0, number / 2 + 0.5, 1]}
        for number, label in enumerate(NAMES.values())]}))
    return tmp_path


def measure(monkeypatch: pytest.MonkeyPatch, student: Path, scene: Path, *more: object
            ) -> list[dict[str, float]]:
    monkeypatch.setattr(sys, 'argv', list(map(str, (
        'naming.py', 'where', '--checkpoint', student, '--out', scene / 'out', '--images',
        scene / 'scene', '--names', scene / 'names.yaml', '--sizes', 96, *more))))
    naming.main()
    table: list[dict[str, float]] = json.loads((scene / 'out/result.json').read_text())['table']
    return table


def test_coco_and_boxes_drawn_by_hand_are_measured_alike(
        scene: Path, shapes_student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid, maps = measure(monkeypatch, shapes_student, scene, '--grids', 1)
    assert (grid['way'], maps['way']) == ('crops, 1 x 1', 'maps, 96 px')
    assert grid['mAP at 0.5 [%]'] == pytest.approx(100)  # three squares, of which two are right
    assert maps['peak is inside [%]'] == 100
    by_hand, = measure(monkeypatch, shapes_student, scene, '--grids', '--boxes',
                       scene / 'boxes.yaml')
    assert by_hand['mAP at 0.5 [%]'] == maps['mAP at 0.5 [%]']
    assert by_hand['mean IoU [%]'] == maps['mean IoU [%]']


@pytest.mark.parametrize(('content', 'said'), [
    ({'0.png': [{'label': 'kiwi', 'box': [0, 0, 1, 1]}]}, 'expected names of .*, got kiwi'),
    ({'0.png': [{'label': 'red circle'}]}, 'expected photos with a label and a box'),
    (['0.png'], 'expected photos with a label and a box')])
def test_wrong_boxes_are_refused(scene: Path, shapes_student: Path, content: object, said: str,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    (scene / 'boxes.yaml').write_text(yaml.safe_dump(content))
    with pytest.raises(SystemExit, match=said):
        measure(monkeypatch, shapes_student, scene, '--boxes', scene / 'boxes.yaml')
