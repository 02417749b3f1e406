"""Labels of any script: which font draws which letter, and what is said where none does."""
from collections.abc import Iterator
import os
from pathlib import Path
import subprocess
import sys

import numpy as np
from PIL import features
import pytest
from support.tiny_fonts import write_font
from vl2v_ros.drawing import contact_sheet, overlay, text
from vl2v_ros.drawing.contact_sheet import Part, Tile
from vl2v_ros.drawing.text import check_font, files, line, missing, width
from vl2v_ros.images.frame import Frame
from vl2v_ros.model.prediction import Prediction

SIZE = 20
CACHES = text.line, text._file_with, text._installed, text._has, text._probe, text._font, text.font


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the only folder of fonts of the system, which is empty; DejaVu Sans is still there."""
    monkeypatch.setattr(text, 'FOLDERS', (str(tmp_path / 'system'),))
    for cache in CACHES:
        cache.cache_clear()
    yield tmp_path / 'system'
    for cache in CACHES:
        cache.cache_clear()


def ink(drawn: str, file: str = '', most: int = 1000) -> int:
    """Return how many pixels of a line are white."""
    return int((np.asarray(line(drawn, SIZE, most, file))[..., 3] == 255).sum())


def test_a_letter_is_drawn_in_the_font_of_the_system_that_has_it(system: Path) -> None:
    write_font(system / 'deep' / 'Dog.ttf', '犬')
    write_font(system / 'Cat.OTF', '猫')
    assert ink('犬') == ink('猫') == 16 * 16  # 0.8 of the size
    assert ink('犬猫') == 2 * 16 * 16 and width('犬猫', SIZE) == 2 * SIZE
    assert ink('a犬b') == ink('a') + ink('b') + 16 * 16
    assert files(['a', '猫 or 犬', '猫']) == (str(system / 'Cat.OTF'),
                                            str(system / 'deep' / 'Dog.ttf'))
    assert missing(['犬', 'a 猫', 'é']) == ''


def test_a_system_without_fonts_has_the_one_that_matplotlib_brings(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, '-c', 'from vl2v_ros.drawing import text\ntext.FOLDERS = ()\n'
         'print(text.missing(["café", "чашка"]) or "none", text.font(20).getname()[0])'],
        capture_output=True, text=True, check=True, env=os.environ | {
            'XDG_DATA_DIRS': str(tmp_path), 'XDG_DATA_HOME': str(tmp_path)})
    assert done.stdout == 'none DejaVu Sans\n'


def test_a_named_font_is_tried_first(system: Path, tmp_path: Path) -> None:
    named = str(write_font(tmp_path / 'mine.ttf', 'a犬'))
    write_font(system / 'other.ttf', '犬猫')
    assert ink('a', named) == 16 * 16 != ink('a')
    assert ink('b', named) == ink('b')
    assert files(['ab犬猫'], named) == (named, str(system / 'other.ttf'))


def test_what_no_font_has_is_said_with_what_to_install(system: Path) -> None:
    assert missing(['mug', 'Tasse à café', 'чашка', '12 %', ' ']) == ''
    said = missing(['犬と猫', 'भ', '🪠', 'mug'])
    assert said.startswith('no font has 犬 (U+72AC), と (U+3068), 猫 (U+732B) and 2 more, so ')
    assert 'install fonts-noto-cjk, fonts-noto-core, fonts-noto-color-emoji, or name' in said
    assert ink('犬') > 0  # a box


def test_marks_joiners_and_blanks_between_words_from_the_right_stay(system: Path) -> None:
    font = str(write_font(system / 'x.ttf', '犬🪠אב'))
    named = str(write_font(system / 'hebrew.ttf', 'אב'))
    assert list(text._runs('a犬\u0301 b', '')) == [('', 'a'), (font, '犬\u0301'), ('', ' b')]
    assert list(text._runs('🪠\u200d🪠\ufe0f', '')) == [(font, '🪠\u200d🪠\ufe0f')]
    assert list(text._runs('(אב בא)', named)) == [('', '('), (named, 'אב בא'), ('', ')')]


@pytest.mark.skipif(not features.check('raqm'), reason='needs a Pillow that can shape')
def test_arabic_is_shaped_and_runs_from_the_right(system: Path) -> None:
    apart = sum(width(letter, SIZE) for letter in 'كلب')
    assert width('كلب', SIZE) < apart  # its letters are joined
    mixed = np.asarray(line('كلب.', SIZE, 1000))[..., 3] > 0
    first = np.flatnonzero(mixed.any(0))[0]
    assert not mixed[:SIZE // 2, first].any()  # the full stop, at the left end


@pytest.mark.parametrize('label', ['犬', '🍌', '한국', 'कुत्ता'])
def test_the_fonts_of_this_system_are_used(label: str) -> None:
    if missing([label]):
        pytest.skip(f'no font for it: {missing([label])}')
    box = np.asarray(line('\uffff' * len(label), SIZE, 1000))[..., 3]
    drawn = np.asarray(line(label, SIZE, 1000))
    assert not np.array_equal(drawn[..., 3], box) and (drawn[..., 3] > 128).sum() > 20
    assert (label == '🍌') == bool(np.ptp(drawn[drawn[..., 3] == 255][:, :3], axis=1).max() > 50)
    assert drawn.shape[0] == line('mug', SIZE, 1000).height


def test_a_line_is_no_wider_than_asked_for(system: Path) -> None:
    write_font(system / 'x.ttf', '犬')
    for drawn in ('x' * 200, '犬' * 200, '', ' '):
        assert 1 <= line(drawn, SIZE, 50).width <= 50


def test_overlay_and_page_draw_it(system: Path, tmp_path: Path) -> None:
    named = str(write_font(tmp_path / 'mine.ttf', '犬'))
    frame = Frame(np.zeros((480, 640, 3), np.uint8))
    prediction = Prediction(('犬',), (0.3,), (0.0,), False, 0.1, 1)
    tile = Tile(np.zeros((48, 64, 3), np.uint8), '犬', 0.0)
    for draw in (lambda font: overlay.draw(frame, prediction, font),
                 lambda font: contact_sheet.draw([Part('犬', [tile])], font=font)):
        white = [int((draw(font) == 255).all(2).sum()) for font in ('', named)]
        assert white[1] > white[0] + 100


@pytest.mark.parametrize('name', ['', 'DejaVuSans.ttf', '{good}'])
def test_a_font_is_accepted(tmp_path: Path, name: str) -> None:
    check_font(name.format(good=write_font(tmp_path / 'good.ttf', 'a')))


@pytest.mark.parametrize('name', ['/no/such.ttf', '{text}', '{folder}', ' '])
def test_what_is_no_font_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / 'text.ttf').write_text('no font')
    name = name.format(text=tmp_path / 'text.ttf', folder=tmp_path)
    with pytest.raises(ValueError, match='font: expected a font file .*, got '):
        check_font(name)
