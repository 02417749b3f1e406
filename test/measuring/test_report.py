"""Reports of evaluations: one file that shows everything, fetches nothing and runs nothing."""
from dataclasses import replace
import math
from pathlib import Path
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from support.html_view import View
from training.measuring.pages import charts
from training.measuring.pages import report as reports
from training.measuring.pages.report import markdown_table, Mistake, Report, write

LABELS = ('apple', 'banana', 'golf ball')
HEADS = ('Results', 'Accuracy per domain', 'What was taken for what', 'Mixed up most often',
         'Mistakes', 'Losses', 'Can the scores be trusted?')
NASTY = '<script>alert("a")</script>', '"><img src=x onerror=alert(1)>', '$x_1$ & {{ 7 * 6 }}'


def report(labels: tuple[str, ...] = LABELS, **fields: object) -> Report:
    """Return a report with all its parts, some of them other than usual."""
    red = np.zeros((60, 300, 3), np.uint8)
    red[..., 0] = 250
    return Report(**{
        'title': 'Student on unseen domains', 'facts': {'command': 'train --seed 0', 'seed': '0'},
        'table': [{'set': 'id', 'images': 90, 'top-1 [%]': 91.63, 'gap': 0.00001},
                  {'set': 'ood', 'top-1 [%]': np.float32(48.2), 'note': 'new'}],
        'per_domain': {'photo': 0.914, 'sketch': 0.482},
        'confusion': np.array([[20, 3, 7], [0, 30, 0], [1, 0, 29]]), 'labels': labels,
        'mistakes': [Mistake(red, labels[0], labels[2], 0.934, 'photo/apple/00003.jpg')],
        'losses': {'L_cls': [(0, 3.0), (10, 1.0), (20, 0.7)], 'L_mse': [(0, 1.0), (9, 0.01)],
                   'VL2V': [(0, -0.1), (9, -0.9)]},
        'reliability': [(0.35, 0.3, 4), (math.nan, math.nan, 0), (0.9, 0.8, 86)], 'ece': 0.0412,
        **fields})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where to write a report."""
    return tmp_path / 'new' / 'report.html'


def words(figure: ElementTree.Element) -> list[str]:
    return [text.text for text in figure.iter('text')]


def test_everything_is_shown(path: Path) -> None:
    write(report(), path)
    page = View(path)
    for text in (*HEADS, 'Student on unseen domains', 'command', 'train --seed 0', 'top-1 [%]',
                 '91.6', '48.2', '1.0e-05', '90', 'new', 'photo/apple/00003.jpg'):
        assert text in page.texts
    assert 'score 0.93' in ' '.join(page.texts) and 'error: 4.1 %' in ' '.join(page.texts)
    figures = page.figures()
    assert list(figures) == ['domains', 'confusion', 'losses', 'reliability']
    assert {'photo', 'sketch', '91.4', '48.2', 'accuracy [%]'} <= set(words(figures['domains']))
    assert {*LABELS, '20', '30', '29', '7', 'truth', 'taken for'} <= set(
        words(figures['confusion']))
    assert sorted(words(figures['confusion'])).count('apple') == 2  # row and column
    assert words(figures['losses']).count('step') == words(figures['losses']).count('loss') == 3
    assert {'L_cls', 'L_mse', 'VL2V', '0.01'} <= set(words(figures['losses']))
    assert {'images', 'accuracy [%]', 'calibrated'} <= set(words(figures['reliability']))


def test_pictures_are_in_the_page_and_have_their_colours(path: Path) -> None:
    write(report(), path)
    picture, cells, *_ = View(path).pictures()
    assert picture.shape == (45, 224, 3)  # of 60 x 300
    np.testing.assert_allclose(picture.mean((0, 1)), (0, 0, 250), atol=3)  # BGR
    assert cells.shape[2] == 4 and cells[..., 3].min() == 0 and cells[..., 3].max() == 255


def test_nothing_is_fetched_or_run(path: Path) -> None:
    write(report(NASTY, title=NASTY[0], facts={NASTY[0]: NASTY[1]},
                 table=[dict.fromkeys(NASTY, 1)], per_domain=dict.fromkeys(NASTY, 0.5),
                 losses={NASTY[0]: [(0, 1.0)]},
                 mistakes=[Mistake(np.zeros((8, 8, 3), np.uint8), *NASTY[:2], 1, NASTY[1])]), path)
    page = View(path)
    page.assert_closed()
    assert len(page.named('img')) == 1
    assert set(NASTY) <= set(page.texts)  # as they are, braces and dollars too
    for name in ('confusion', 'domains'):
        assert set(NASTY) <= set(words(page.figures()[name]))


def test_figures_take_the_colour_of_the_page_and_keep_apart(path: Path) -> None:
    write(report(), path)
    page = View(path)
    assert charts.INK not in page.source and 'currentColor' in page.source
    assert 'prefers-color-scheme: dark' in page.source
    names = [attributes['id'] for _, attributes in page.elements if 'id' in attributes]
    assert len(names) == len(set(names)) > 50
    used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page.source)
    assert used and {one or other for one, other in used} <= set(names)


@pytest.mark.parametrize(('fields', 'missing'), [
    ({'mistakes': []}, 'Mistakes'), ({'losses': {}}, 'Losses'), ({'losses': {'a': []}}, 'Losses'),
    ({'per_domain': {}}, 'Accuracy per domain'), ({'table': []}, 'Results'),
    ({'reliability': []}, 'Can the scores be trusted?'),
    ({'reliability': [(math.nan, math.nan, 0)]}, 'Can the scores be trusted?'),
    ({'confusion': np.diag([1, 2, 3])}, 'Mixed up most often')])
def test_empty_part_is_left_out(path: Path, fields: dict, missing: str) -> None:
    write(report(**fields), path)
    assert [head for head in HEADS if head not in View(path).texts] == [missing]
    assert len(View(path).named('h2')) == len(HEADS) - 1


def test_report_of_nothing_is_a_page(path: Path) -> None:
    write(Report('Empty', {}, [], {}, np.zeros((0, 0), int), [], [], {}, [], math.nan), path)
    page = View(path)
    assert page.texts == ['Empty', 'Empty']  # title and heading
    assert not page.named('svg') + page.named('img') + page.named('h2') + page.named('table')


@pytest.mark.long
def test_sixty_labels_are_named_and_of_more_the_worst(path: Path) -> None:
    labels = tuple(f'thing {number}' for number in range(70))
    counts = np.diag(np.full(70, 5))
    counts[10:, 0] = 1  # things 0 to 9 are never taken for others
    write(report(labels, confusion=counts, mistakes=[]), path)
    page = View(path)
    shown = words(page.figures()['confusion'])
    assert set(labels[10:]) == set(labels) & set(shown)
    assert '410 images of 70 labels.' in ' '.join(page.texts)
    assert 'Shown are the 60 labels with most mistakes.' in ' '.join(page.texts)
    write(report(labels[:60], confusion=counts[:60, :60], mistakes=[]), path)
    assert set(labels[:60]) <= set(words(View(path).figures()['confusion']))
    assert 'Shown are' not in View(path).source


def test_logarithmic_where_a_loss_falls_far_and_stays_positive() -> None:
    curves = {'L_cls': [(0, 3.0), (1, 1.0)], 'L_mse': [(0, 1.0), (1, 0.01)],
              'VL2V': [(0, -0.01), (1, -0.9)], 'zero': [(0, 1.0), (1, 0.0)],
              'broken': [(0, 5.0), (1, math.nan), (2, 0.1), (3, math.inf)]}
    drawn = reports.figures(report(losses=curves))['losses'].axes
    assert {axes.get_title(): axes.get_yscale() for axes in drawn} == {
        'L_cls': 'linear', 'L_mse': 'log', 'VL2V': 'linear', 'zero': 'linear', 'broken': 'log'}
    for axes in drawn:
        np.testing.assert_array_equal(axes.lines[0].get_xydata(), curves[axes.get_title()])


def test_mixed_up_labels_are_listed_most_often_first() -> None:
    assert reports.mixed_up(report().confusion, LABELS) == [
        ('apple', 'golf ball', 7, 7 / 30), ('apple', 'banana', 3, 0.1),
        ('golf ball', 'apple', 1, 1 / 30)]


def test_strange_names_and_domains_without_images_do_no_harm(path: Path) -> None:
    one = replace(report().mistakes[0], name='bad\udcff\x01name')  # of a file, not UTF-8
    write(report(('苹果', 'a\x01b', '\udcff'), mistakes=[one],
                 per_domain={'empty': math.nan, 'full': 1.0}), path)
    page = View(path)
    assert {'苹果', 'a?b', '?'} <= set(words(page.figures()['confusion']))
    assert '100.0' in words(page.figures()['domains'])


@pytest.mark.long
def test_existing_report_is_replaced_only_by_a_whole_one(path: Path) -> None:
    write(report(), path)
    content = path.read_bytes()
    write(report(), path)
    assert path.read_bytes() == content  # the same whenever it is written
    with pytest.raises(AssertionError):
        write(report(mistakes=[replace(report().mistakes[0], image=np.zeros((3, 3)))]), path)
    assert path.read_bytes() == content
    write(report(title='Another'), path)
    assert 'Another' in View(path).texts and [item.name for item in path.parent.iterdir()] == [
        'report.html']


@pytest.mark.parametrize('fields', [
    {'confusion': np.zeros((2, 3), int)}, {'confusion': np.zeros((2, 2), int)},
    {'per_domain': {'photo': 91.4}}, {'ece': 4.1}])
def test_wrong_shapes_and_units_are_refused(fields: dict) -> None:
    with pytest.raises(AssertionError):
        report(**fields)


def test_markdown_table() -> None:
    assert markdown_table([]) == ''
    assert markdown_table(report().table).splitlines() == [
        '| set | images | top-1 [%] | gap | note |',
        '| --- | ---: | ---: | ---: | --- |',
        '| id | 90 | 91.6 | 1.0e-05 |  |',
        '| ood |  | 48.2 |  | new |']
    assert markdown_table([{'a|b': '<b>\n*x* \\'}]).splitlines()[::2] == [
        r'| a\|b |', r'| \<b> \*x\* \\ |']


@pytest.mark.parametrize(('value', 'text'), [
    (91.63, '91.6'), (-12.34, '-12.3'), (2.174, '2.17'), (0.5156, '0.516'), (0.0, '0.000'),
    (0.0004, '4.0e-04'), (math.nan, 'nan'), (1234.5, '1234.5'), (np.float32(0.25), '0.250'),
    (np.int64(7), '7'), (7, '7'), (None, ''), ('7.00', '7.00')])
def test_numbers_have_one_to_three_digits(value: object, text: str) -> None:
    assert markdown_table([{'x': value}]).splitlines()[-1] == f'| {text} |'
