"""Pictures and their labels on one page."""
import numpy as np
import pytest
from vl2v_ros.drawing import contact_sheet
from vl2v_ros.drawing.contact_sheet import CAPTION, GAP, HEADING, Part, Tile, WIDTH
from vl2v_ros.drawing.overlay import BAR, UNKNOWN

COLOURS = ((200, 30, 30), (30, 160, 40), (40, 60, 210), (90, 90, 90), (180, 180, 20))
HEIGHT = WIDTH * 3 // 4


def tile(number: int, score: float = 0.5, unknown: bool = False, label: str = 'mug') -> Tile:
    return Tile(np.full((48, 64, 3), COLOURS[number], np.uint8), label, score, unknown)


def place(row: int, column: int, parts: int) -> tuple[int, int]:
    """Return the top left corner of a picture below a number of headings."""
    return (parts * HEADING + GAP + row * (HEIGHT + CAPTION + GAP), GAP + column * (WIDTH + GAP))


def test_every_picture_is_there_in_its_order() -> None:
    page = contact_sheet.draw([Part('one', [tile(number) for number in range(3)]),
                               Part('two', [tile(3), tile(4)])], columns=2)
    rows = 3
    assert page.shape == (2 * HEADING + rows * (HEIGHT + CAPTION + GAP) + GAP,
                          2 * (WIDTH + GAP) + GAP, 3)
    for number, (row, column, parts) in enumerate([(0, 0, 1), (0, 1, 1), (1, 0, 1), (2, 0, 2),
                                                   (2, 1, 2)]):
        top, left = place(row, column, parts)
        assert (page[top:top + HEIGHT, left:left + WIDTH] == COLOURS[number]).all()


@pytest.mark.parametrize('unknown', [False, True])
@pytest.mark.parametrize('score', [0.1, 0.9])
def test_a_bar_below_it_is_as_long_as_its_score(score: float, unknown: bool) -> None:
    page = contact_sheet.draw([Part('', [tile(0, score, unknown)])], columns=1)
    top, left = place(0, 0, 1)
    bar = (page[top + HEIGHT + 1, left:left + WIDTH] == (UNKNOWN if unknown else BAR)).all(-1)
    assert bar.sum() == pytest.approx(score * WIDTH, abs=2)
    assert bar[:bar.sum()].all()


def test_long_texts_are_cut_off_and_stay_in_their_places() -> None:
    long = 'a label that nobody would say of a thing that one can hold in a hand'
    short = contact_sheet.draw([Part('', [tile(0), tile(1)])])
    page = contact_sheet.draw([Part(20 * long, [tile(0, label=long), tile(1)])])
    assert page.shape == short.shape
    top, left = place(0, 1, 1)
    assert (page[top:, left:] == short[top:, left:]).all()
    assert (page[:HEADING, -GAP:] == short[:HEADING, -GAP:]).all()
