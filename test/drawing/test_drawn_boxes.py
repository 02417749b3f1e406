"""Boxes with names: what is drawn where, for boxes of every kind."""
import numpy as np
import pytest
from vl2v_ros.drawing.boxes import draw_boxes, GREY, Mark, MOST
from vl2v_ros.drawing.overlay import BAR
from vl2v_ros.images.regions import Box

BOX = Box(320, 240, 200, 100)


def drawn(*marks: Mark, height: int = 480, width: int = 640) -> np.ndarray:
    picture = np.zeros((height, width, 3), np.uint8)
    draw_boxes(picture, marks)
    return picture


def where(picture: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    rows, columns = (np.flatnonzero((picture == colour).all(2).any(axis)) for axis in (1, 0))
    return columns[0], rows[0], columns[-1], rows[-1]


def test_a_box_without_a_label_is_thin_and_grey() -> None:
    picture = drawn(Mark(BOX))
    assert where(picture, GREY) == (220, 190, 420, 290)
    assert (picture[240] > 0).any(1).sum() == 2
    assert (drawn(Mark(BOX, 'mug'))[240] == BAR).all(1).sum() >= 4


def test_name_and_distance_stand_above_the_box() -> None:
    plain, near = drawn(Mark(BOX, 'mug')), drawn(Mark(BOX, 'mug', 0.5))
    left, top, right, bottom = where(plain, BAR)
    assert (left, right, bottom) == pytest.approx((220, 420, 290), abs=2)
    assert 165 < top < 180
    changed = (plain != near).any(2)
    assert changed.any() and not changed[190:].any()
    assert not np.array_equal(near, drawn(Mark(BOX, 'mug', 0.6)))


def test_a_turned_box_is_drawn_turned() -> None:
    left, top, right, bottom = where(drawn(Mark(Box(320, 240, 200, 100, np.pi / 2))), GREY)
    assert (left, top, right, bottom) == pytest.approx((270, 140, 370, 340), abs=1)


@pytest.mark.parametrize('box', [
    Box(float('nan'), 5, 9, 9), Box(50, 50, 0, 0), Box(9, 9, -4, 9), Box(-500, 5, 9, 9),
    Box(float('inf'), 0, 1, 1)])
def test_boxes_that_show_nothing_are_left_out(box: Box) -> None:
    assert not drawn(Mark(box, 'mug', 1.0)).any()


@pytest.mark.parametrize('box', [
    Box(0, 0, 300, 300), Box(640, 480, 300, 300, 1.0), Box(320, 240, 1e300, 40, 0.1),
    Box(320, 240, 1e6, 1e6), Box(320, 240, 1e308, 1e308, 0.8)])
@pytest.mark.parametrize('label', ['mug', 'x' * 300, '犬', ''])
@pytest.mark.parametrize('height, width', [(480, 640), (3, 200), (200, 3), (1, 1)])
def test_any_box_can_be_drawn_in_any_picture(box: Box, label: str, height: int, width: int
                                             ) -> None:
    drawn(Mark(Box(width / 2, height / 2, width, height), label, 1.0), Mark(box, label, 1e9),
          height=height, width=width)
    assert drawn(Mark(Box(0, 0, 300, 300), 'mug')).any()


def test_names_of_neighbours_stand_beside_each_other() -> None:
    both = drawn(Mark(BOX, 'mug'), Mark(Box(322, 242, 204, 104), 'plate'))
    white = (both == 255).all(2).any(1)
    assert white[:190].any() and white[290:].any()  # above the smaller box, below the larger


def test_the_boxes_with_a_label_come_first() -> None:
    far = Mark(Box(20, 460, 20, 20), 'mug')
    assert (drawn(*[Mark(BOX)] * 2 * MOST, far) == BAR).all(2).any()
