"""Plots of why: what is drawn where, for vocabularies of every kind."""
from collections.abc import Sequence
from pathlib import Path
import warnings

import numpy as np
from PIL import Image
import pytest
from support.tiny_fonts import write_font
from vl2v_ros.drawing.explanation_plot import Explanation, MOST_IMAGES, plot
from vl2v_ros.images.frame import Frame
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.words.explain import Reason

TEAL, ORANGE = (38, 128, 120), (170, 100, 20)  # RGB of bars


def explanation(similarities: Sequence[float] = (0.6, 0.3), names: Sequence[str] = ('mug', 'cup'),
                unknown: bool = False, background: Sequence[float] = ()) -> Explanation:
    """Explain a picture by two prompts for each label, a little off its similarity."""
    reasons = [Reason(label, f'a photo of a {label}. {number}', similarity + 0.02 - 0.04 * number)
               for label, similarity in zip(names, similarities, strict=True)
               for number in range(2)]
    reasons += [Reason('', f'nothing {similarity}', similarity) for similarity in background]
    pixels = np.full((60, 80, 3), (250, 0, 250), np.uint8)
    scores = tuple(1 / len(names) for _ in names)
    return Explanation('folder/x.png', Frame(pixels), Prediction(
        tuple(names), tuple(similarities), scores, unknown, 0.3, 1), reasons)


def drawn(path: Path, *explanations: Explanation, threshold: float = 0.2) -> np.ndarray:
    """Plot; return (H, W, 3) RGB."""
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        plot(explanations, threshold, path)
    with Image.open(path) as picture:
        assert picture.format == 'PNG'
        return np.asarray(picture.convert('RGB'))


def width_of(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Return the longest row of a bar's colour [px]."""
    return int(of_colour(pixels, colour).sum(1).max())


def of_colour(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Return (H, W) bool: where a bar is, half transparent on white."""
    wanted = np.array(colour) * 0.6 + 255 * 0.4
    return abs(pixels - wanted).max(2) < 4


def test_bars_are_as_long_as_similarities(tmp_path: Path) -> None:
    lengths = [width_of(drawn(tmp_path / 'x', explanation((0.6, one)), threshold=0.05), TEAL)
               for one in (0.1, 0.6)]
    alone = width_of(drawn(tmp_path / 'x', explanation((0.3, 0.0)), threshold=0.64), TEAL)
    assert lengths[0] == pytest.approx(lengths[1], abs=6)  # the longer of two
    assert alone == pytest.approx(lengths[0] / 2, rel=0.1)  # the axis ends at the threshold


def test_unknown_has_a_colour_of_its_own(tmp_path: Path) -> None:
    known, unknown = (drawn(tmp_path / 'x', explanation(unknown=unknown))
                      for unknown in (False, True))
    assert width_of(known, ORANGE) == 0 < 100 < width_of(known, TEAL)
    assert width_of(unknown, ORANGE) > 100


def test_each_prompt_has_a_mark_of_its_own(tmp_path: Path) -> None:
    picture = drawn(tmp_path / 'x', explanation((0.6,), ('mug',)), threshold=0)
    rows, columns = np.nonzero(of_colour(picture, TEAL))
    middle = (rows.min() + rows.max()) // 2
    around = picture[middle - 3:middle + 4, columns.min() + 5:columns.max() + 30]
    marks = 5 + np.flatnonzero((around.max(2) < 140).all(0))
    marks = marks[np.diff(marks, prepend=-2) > 1]  # the first column of each
    length = columns.max() - columns.min()
    assert marks == pytest.approx([length * 58 / 60, length * 62 / 60], abs=3)


def test_images_stand_one_below_the_other(tmp_path: Path) -> None:
    one = drawn(tmp_path / 'x', explanation())
    many = drawn(tmp_path / 'x', *[explanation() for _ in range(MOST_IMAGES)])
    assert many.shape[0] == pytest.approx(one.shape[0] * MOST_IMAGES, abs=2)
    magenta = (abs(many.astype(int) - (250, 0, 250)).max(2) < 4).any(1)
    assert np.count_nonzero(np.diff(magenta.astype(int)) == 1) == MOST_IMAGES


@pytest.mark.parametrize('given', [
    {'similarities': (-0.2, -0.4)}, {'background': (0.5, -0.3)}, {'unknown': True},
    {'names': ('犬と猫', 'كلب 🐕')}, {'names': ('x' * 200, 'a' + ' long' * 39)},
    {'names': ('$x^2', r'\frac{1')}, {'names': ('{label}', '%s <b>')},
    {'names': tuple('abcdefghijklmnopqrstuvwxyz'),
     'similarities': tuple(np.linspace(0.9, -0.1, 26))}], ids=lambda given: '+'.join(given))
def test_any_vocabulary_is_drawn(tmp_path: Path, given: dict[str, object]) -> None:
    picture = drawn(tmp_path / 'x', explanation(**given))
    assert picture.shape[1] == 960
    assert (picture < 100).any(2).sum() > 500  # texts
    assert (picture[:, :3] > 250).all()  # nothing reaches the edge
    assert (picture[:, -3:] > 250).all()


def test_letters_are_drawn_in_the_font_that_has_them(tmp_path: Path) -> None:
    font = write_font(tmp_path / 'mine.ttf', '犬')
    pictures = []
    for named in ('', str(font)):
        plot([explanation(names=('犬' * 20, 'cup'))], 0.2, tmp_path / 'x', named)
        with Image.open(tmp_path / 'x') as picture:
            pictures.append((np.asarray(picture.convert('L')) < 60).sum())
    assert pictures[1] > pictures[0] + 1000  # squares instead of boxes or strokes


@pytest.mark.parametrize('height, width', [(2000, 3000), (1, 300), (300, 1), (1, 1)])
def test_images_of_any_size_are_drawn(tmp_path: Path, height: int, width: int) -> None:
    one = explanation()
    frame = Frame(np.full((height, width, 3), (250, 0, 250), np.uint8))
    picture = drawn(tmp_path / 'x', Explanation('x', frame, one.prediction, one.reasons))
    assert (picture[..., 0] > picture[..., 1] + 100).any()  # some of it, though it be a line
    assert (tmp_path / 'x').stat().st_size < 150_000
