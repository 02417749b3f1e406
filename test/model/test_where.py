"""Where: maps of labels, parts of maps as boxes, and boxes that a second look agrees with."""
from pathlib import Path

import numpy as np
import pytest
from support import shapes
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.regions import Box
from vl2v_ros.labeller import Labeller
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.model.where import Found, MOST_BOXES, parts_of, Where, without_doubles

LABELS = 'red circle', 'blue square', 'green star', 'yellow triangle'
SIDE = 240


@pytest.fixture(scope='module')
def labeller(shapes_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Labeller:
    return Labeller.open(shapes_student, cache_dir=tmp_path_factory.mktemp('cache'))


@pytest.fixture(scope='module')
def where(labeller: Labeller) -> Where:
    return Where(labeller.classifier, labeller.classifier.open_cells())


def two_shapes() -> Frame:
    """Draw a red circle left, a blue square right."""
    rng = np.random.default_rng(0)
    return Frame(np.hstack([shapes.draw(label, SIDE, SIDE, rng, (0, 0)) for label in LABELS[:2]]))


def found(label: str, box: Box, certainty: float) -> Found:
    return Found(box, Prediction((label,), (0.5,), (1.0,), False, 0.1, 1), certainty)


@pytest.mark.long
def test_each_shape_is_found_where_it_is(labeller: Labeller, where: Where) -> None:
    words, frame = labeller.vocabulary(LABELS), two_shapes()
    maps = where.maps(frame, words, 96)
    for one in maps[:2]:
        assert one.shape[2] == len(LABELS)
        assert one.sum(2) == pytest.approx(1, abs=1e-4)
    assert maps.cosines[:2].min() > maps.cosines[2:].max()  # what is there looks most like it
    half = maps.fine.shape[1] / 2
    for label, left in ((0, True), (1, False)):
        column = maps.fine[..., label].max(0).argmax()
        assert (column < half) == left
    boxes = where.boxes(frame, maps, words, 0.1, unknown_threshold=-1)
    named = {one.prediction.labels[0]: one.box for one in reversed(boxes)}
    assert named['red circle'].x < SIDE < named['blue square'].x


def test_what_is_background_has_no_map(labeller: Labeller, where: Where, tmp_path: Path) -> None:
    words = labeller.vocabulary(LABELS[1:])
    (tmp_path / 'words.yaml').write_text(
        'labels: {blue square: , green star: , yellow triangle: }\nbackground: [red circle]\n')
    known = labeller.vocabulary(tmp_path / 'words.yaml')
    left = np.s_[:, :2]
    assert where.maps(two_shapes(), known, 96).fine[left].max() < where.maps(
        two_shapes(), words, 96).fine[left].max()


def test_parts_of_a_map_are_boxes() -> None:
    maps = np.zeros((6, 8, 3), np.float32)
    maps[1:3, 1:4, 1] = 0.9
    maps[4, 6, 1] = 0.8
    maps[..., 2] = 0.05  # too little
    boxes = parts_of((maps, maps), 800, 600)
    assert {label for label, _ in boxes} == {1}
    centres = {(round(box.x, -2), round(box.y, -2)) for _, box in boxes}
    assert centres == {(200, 200), (600, 400)}  # [px], of numbers that are rounded to even
    assert all(0 <= left < right <= 800 and 0 <= top < bottom <= 600
               for left, top, right, bottom in (box.upright() for _, box in boxes))


def test_no_more_boxes_than_a_second_look_can_take() -> None:
    maps = np.zeros((40, 40, 2), np.float32)
    maps[::4, ::4, 0] = 1
    assert len(parts_of((maps, maps), 640, 640)) == MOST_BOXES
    assert parts_of([np.zeros((3, 3, 2), np.float32)] * 2, 10, 10) == []


def test_of_boxes_that_overlap_the_surest_stays() -> None:
    sure, less = found('mug', Box(50, 50, 40, 40), 0.9), found('mug', Box(52, 50, 40, 40), 0.8)
    inner, other = found('mug', Box(50, 50, 10, 10), 0.7), found('cup', Box(50, 50, 40, 40), 0.6)
    apart = found('mug', Box(150, 50, 40, 40), 0.5)
    assert without_doubles([apart, other, inner, less, sure]) == [sure, other, apart]
