"""Overlay: a panel in the upper left corner, for frames and labels of every kind."""
import numpy as np
import pytest
from vl2v_ros.drawing.overlay import BAR, draw, ROWS, UNKNOWN
from vl2v_ros.images.frame import CHANNELS, Frame, to_rgb
from vl2v_ros.model.prediction import Prediction

LABELS = ('mug', 'drill', 'banana', 'hammer', 'scissors', 'pear', 'plum')


def prediction(labels: tuple[str, ...] = LABELS, scores: tuple[float, ...] | None = None,
               unknown: bool = False) -> Prediction:
    count = len(labels)
    return Prediction(labels, tuple(0.3 - 0.01 * row for row in range(count)),
                      scores or (1 / count,) * count, unknown, 0.9 if unknown else 0.1, 1)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def changed(frame: Frame, drawn: np.ndarray) -> np.ndarray:
    return (drawn != to_rgb(frame)).any(2)


def count(drawn: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((drawn == colour).all(2).sum())


@pytest.mark.parametrize('order', CHANNELS)
@pytest.mark.parametrize('height, width', [
    (480, 640), (1080, 1920), (481, 641), (640, 480), (1, 1), (3, 200), (200, 3), (20, 20)])
def test_picture_is_rgb_of_the_size_of_the_frame(height: int, width: int, order: str) -> None:
    frame = Frame(noise(height, width, CHANNELS[order]), order)
    drawn = draw(frame, prediction())
    assert (drawn.shape, drawn.dtype) == ((height, width, 3), np.uint8)
    assert changed(frame, drawn)[0, 0]


@pytest.mark.parametrize('order', CHANNELS)
@pytest.mark.parametrize('height, width', [(480, 640), (1080, 1920), (961, 541)])
def test_only_the_panel_changes(height: int, width: int, order: str) -> None:
    frame = Frame(noise(height, width, CHANNELS[order]), order)
    touched = changed(frame, draw(frame, prediction()))
    assert touched[:height // 8, :width // 4].mean() > 0.9
    assert not touched[height // 2:].any()
    assert not touched[:, width // 2:].any()


def test_panel_grows_with_the_labels_up_to_its_rows() -> None:
    frame = Frame(np.full((480, 640, 3), 255, np.uint8))
    heights = [changed(frame, draw(frame, prediction(LABELS[:labels]))).any(1).sum()
               for labels in range(1, len(LABELS) + 1)]
    assert heights[:ROWS] == sorted(set(heights[:ROWS]))
    assert set(heights[ROWS:]) == {heights[ROWS - 1]}


@pytest.mark.parametrize('order', CHANNELS)
@pytest.mark.parametrize('height, width', [(480, 640), (1, 1), (3, 200)])
def test_frame_is_left_as_it_was(height: int, width: int, order: str) -> None:
    pixels = noise(height, width, CHANNELS[order])
    before = pixels.copy()
    drawn = draw(Frame(pixels, order), prediction())
    assert np.array_equal(pixels, before)
    assert not np.shares_memory(drawn, pixels)


def test_read_only_frame_is_drawn() -> None:
    pixels = noise(480, 640)
    pixels.flags.writeable = False
    assert changed(Frame(pixels), draw(Frame(pixels), prediction())).any()


def test_bar_is_as_long_as_the_score() -> None:
    frame = Frame(np.zeros((480, 640, 3), np.uint8))
    areas = [count(draw(frame, prediction(('.',), (score,))), BAR)
             for score in (0.0, 0.25, 0.5, 1.0)]
    assert areas == sorted(set(areas))
    # The text covers some of each bar, and a bar of score 0 is one pixel wide.
    assert areas[3] - areas[2] == pytest.approx(2 * (areas[2] - areas[1]), rel=0.35)


@pytest.mark.parametrize('unknown', [False, True])
def test_unknown_is_marked_on_the_best_label_only(unknown: bool) -> None:
    frame = Frame(np.zeros((480, 640, 3), np.uint8))
    drawn = draw(frame, prediction(LABELS[:3], (0.5, 0.5, 0.5), unknown))
    rows = (drawn == UNKNOWN).all(2).any(1), (drawn == BAR).all(2).any(1)
    assert rows[0].any() == unknown
    assert rows[1].any()
    if unknown:  # above all others
        assert np.flatnonzero(rows[0]).max() < np.flatnonzero(rows[1]).min()


def test_texts_are_drawn() -> None:
    frame = Frame(np.zeros((480, 640, 3), np.uint8))
    pictures = [draw(frame, prediction((label,), (0.2,))) for label in ('mug', 'gum', 'mug')]
    assert not np.array_equal(pictures[0], pictures[1])
    assert np.array_equal(pictures[0], pictures[2])


@pytest.mark.parametrize('label', [
    'x' * 200, 'собака', '犬と猫', 'كلب', '🐕', 'é' * 60, "it's 50 % \\n {label} <b>", ' '])
@pytest.mark.parametrize('unknown', [False, True])
@pytest.mark.parametrize('height, width', [(480, 640), (3, 200)])
def test_any_label_stays_within_the_panel(label: str, unknown: bool, height: int,
                                          width: int) -> None:
    frame = Frame(noise(height, width))
    plain = changed(frame, draw(frame, prediction(('mug',), (0.5,))))
    touched = changed(frame, draw(frame, prediction((label,), (0.5,), unknown)))
    assert touched.any()
    assert not touched[:, plain.any(0).nonzero()[0].max() + 1:].any()
    assert not touched[plain.any(1).nonzero()[0].max() + 1:].any()
