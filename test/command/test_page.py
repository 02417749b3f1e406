"""The page of vl2v_classify: what it shows, and that it stays small and closed."""
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import image_bags
from support.classify_command import draw, LABELS, refused
from support.html_view import View
from support.image_bags import DELAY, SECOND, START
from vl2v_ros.command import page as pages
from vl2v_ros.command.classify import main
from vl2v_ros.command.page import Card, Cards, Page
from vl2v_ros.command.timeline import Band, chart, clock, joined, MOST_BANDS, Track
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.sources import Picture
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.words.explain import Reason

NASTY = '<script>alert("a")</script>', '"><img src=x onerror=alert(1)>', '{{ 7 * 6 }} & \u202e $'
GREY = Frame(np.full((30, 40, 3), 90, np.uint8))


def prediction(*labels: str, unknown: bool = False, similarity: float = 0.5) -> Prediction:
    count = len(labels)
    return Prediction(labels, (similarity,) * count, (1 / count,) * count, unknown, 0.2, 1)


def written(page: Page, path: Path, inputs: tuple[str, ...] = ('x',)) -> View:
    page.write(path, [Path(name) for name in inputs], 4, 0.25)
    view = View(path)
    view.assert_closed()
    return view


def bands(view: View) -> list[list[tuple[str, float, float]]]:
    """Return label, begin and end [%] of each band, track by track."""
    tracks: list[list[tuple[str, float, float]]] = []
    for tag, attributes in view.elements:
        if tag == 'div' and attributes.get('class') == 'track':
            tracks.append([])
        elif tag == 'span' and 'title' in attributes:
            left, width = (float(part.partition(':')[2].rstrip('%'))
                           for part in attributes['style'].split(';'))
            tracks[-1].append((attributes['title'].rpartition(', ')[0], left, left + width))
    return tracks


@pytest.mark.usefixtures('warm_cache')
def test_a_folder_is_shown_with_what_could_not_be_read(
        folder: Path, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
        ) -> None:
    path = tmp_path / 'new' / 'report.html'
    main([str(folder), *options, '--html', str(path), '--out', str(tmp_path / 'x.csv')])
    assert capsys.readouterr().out.splitlines()[-1] == f'wrote {path}'
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    view = View(path)
    view.assert_closed()
    assert [attributes['alt'] for attributes in view.named('img')] == [
        f'{label}: {folder / f"{number}.png"}' for number, label in enumerate(LABELS)]
    for number, picture in enumerate(view.pictures()):
        wanted = cv2.imread(str(folder / f'{number}.png'))
        assert picture.shape == (120, 160, 3)
        assert abs(picture.astype(int) - wanted).mean() < 8
    assert [row for row in view.rows if row[0] in LABELS and row[2].endswith('%')] == [
        [label, '1', '25.0 %'] for label in LABELS]
    said = ' '.join(view.texts)
    for label in LABELS:
        assert f'{label} score ' in said
        prompts = [row for row in view.rows if f' a {label}' in row[0]]
        assert len(prompts) == len(LABELS)  # once per picture
    for name in ('1_cut.png', '2_text.jpg'):
        [line] = [text for text in view.texts if text.startswith(f'{folder / name}: ')]
        assert 'expected' in line
    assert not view.named('div', 'track')
    assert len(view.named('th')) == sum('scope' in cell for cell in view.named('th')) > 8


@pytest.mark.usefixtures('warm_cache')
def test_a_bag_and_a_video_have_timelines(options: list[str], tmp_path: Path) -> None:
    times = [number / 10 for number in (*range(20), *range(150, 170))]  # a pause, too
    changes = {'/front': (0.5, 15.4), '/rear': (1.2, 99)}
    messages = []
    for time in times:
        for topic, at in changes.items():
            stamp = START + round(time * SECOND)
            messages.append((topic, stamp, image_bags.raw(
                draw(LABELS[sum(time >= change for change in at)]), stamp)))
    image_bags.write(tmp_path / 'bag', messages)
    video = cv2.VideoWriter(str(tmp_path / 'x.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10,
                            (160, 120))
    for number in range(40):
        video.write(draw(LABELS[3 * (number >= 10)])[..., ::-1])
    video.release()
    main([str(tmp_path / 'bag'), str(tmp_path / 'x.avi'), *options, '--html',
          str(tmp_path / 'x.html')])
    view = View(tmp_path / 'x.html')
    view.assert_closed()
    front, rear, film = bands(view)
    for found, span, wanted in (
            (front, 17.0, [(0, 0, 0.5), (1, 0.5, 2), (1, 15, 15.4), (2, 15.4, 17)]),
            (rear, 17.0, [(0, 0, 1.2), (1, 1.2, 2), (1, 15, 17)]),
            (film, 4.0, [(0, 0, 1), (3, 1, 4)])):
        assert [label for label, *_ in found] == [LABELS[number] for number, *_ in wanted]
        np.testing.assert_allclose([part[1:] for part in found], [
            (100 * begin / span, 100 * end / span) for _, begin, end in wanted], atol=0.01)
    assert ['/front', LABELS[1], '0:00.5', '0:02'] in view.rows
    assert [LABELS[3], '0:01', '0:04'] in view.rows
    assert [attributes['alt'].rpartition(' at ')[0::2] for attributes in view.named('img')] == [
        (f'{LABELS[number]}: {where}', time) for number, where, time in (
            (0, '/front', '0:00'), (0, '/rear', '0:00'), (1, '/front', '0:00.5'),
            (1, '/rear', '0:01.2'), (2, '/front', '0:15.4'), (0, tmp_path / 'x.avi', '0:00'),
            (3, tmp_path / 'x.avi', '0:01'))]
    assert f'0:00 is {START // SECOND}.{DELAY:09} s' in ' '.join(view.texts)


def test_what_is_hostile_is_shown_as_it_is(tmp_path: Path) -> None:
    page = Page()
    for number, label in enumerate(NASTY):
        why = [Reason(label, f'a {NASTY[0]}', 0.5), Reason('', NASTY[1], 0.25)]
        page.add(Picture(GREY, Path(f'/{NASTY[1]}'), number, number, NASTY[0]),
                 prediction(label), lambda why=why: why)
    page.skip(f'x\udce9.png: {NASTY[2]}')
    view = written(page, tmp_path / 'x.html', (NASTY[0], NASTY[1]))
    assert len(view.named('img')) == len(NASTY)
    assert {*NASTY, f'a {NASTY[0]}', f'x\\xe9.png: {NASTY[2]}'} <= {*view.texts}
    assert [[label for label, *_ in track] for track in bands(view)] == [[*NASTY]]
    assert f'Labels of {NASTY[0]}, ...' in view.texts


def test_unknown_pictures_say_why(tmp_path: Path) -> None:
    page = Page()
    for similarity, why in ((0.125, []), (0.5, [Reason('', 'an empty table', 0.625)])):
        page.add(Picture(GREY, Path('a.png')), prediction('mug', 'cup', unknown=True,
                                                          similarity=similarity), lambda w=why: w)
    view = written(page, tmp_path / 'x.html')
    said = ' '.join(view.texts)
    assert 'unknown The nearest label, mug , has a similarity of only 0.125.' in said
    assert 'unknown A background prompt is nearer than mug : an empty table 0.625' in said
    assert ['unknown', '2', '100.0 %'] in view.rows
    assert {attributes['alt'] for attributes in view.named('img')} == {'unknown: a.png'}


def test_a_long_flickering_bag_makes_a_small_page(tmp_path: Path) -> None:
    page, explained = Page(), []
    noise = Frame(np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8))
    predictions = [prediction(*(f'label {number + rank}' for rank in range(40)))
                   for number in range(300)]

    def explain() -> list[Reason]:
        explained.append(1)
        return [Reason('label 0', 'a label', 0.5)]

    for number in range(10_000):  # two cameras in turn, whose label always changes
        stamp = START + number * SECOND // 20
        page.add(Picture(noise, Path('bag'), stamp, stamp, f'/{number % 2}'),
                 predictions[number % 300], explain)
        page.skip('something')
    view = written(page, tmp_path / 'x.html')
    assert len(view.named('img')) == pages.MOST_PICTURES
    assert 'evenly spread' in view.source and '300 of 10000' in ' '.join(view.texts)
    cameras = [attributes['alt'].split()[-3] for attributes in view.named('img')]
    assert 120 < cameras.count('/0') < 180
    assert len(explained) < 3000  # nor are more pictures made small
    assert all(len(track) <= MOST_BANDS for track in bands(view))
    assert view.source.count('joined with their') == 2
    assert view.texts.count('something') == pages.MOST_ROWS and 'And 9900 more.' in view.texts
    assert (tmp_path / 'x.html').stat().st_size < 8_000_000  # of noise, which does not get small


def test_pictures_that_stay_are_evenly_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, 'MOST_PICTURES', 20)
    for count in (1, 20, 21, 333, 1000):
        cards = Cards()
        for number in range(count):
            cards.offer(lambda number=number: Card(
                b'', '', '', None, number, prediction('x'), {}))
        stayed = [card.recorded for card in cards.all()]
        assert len(stayed) == min(count, 20) and stayed[0] == 0
        gaps = [after - before for before, after in pairwise([*stayed, count])]
        assert count <= 20 or max(gaps) <= 3.3 * count / 20


def test_bands_keep_known_changes_and_pauses() -> None:
    track = Track()
    new = [track.add(label, round(time * SECOND)) for label, time in (
        ('a', 1), ('a', 2), ('b', 3), ('b', 12), ('b', 30), ('', 31), ('', 30.5), ('a', 31.5))]
    assert new == [True, False, True, False, False, True, False, True]
    assert [(band.label, band.begin / SECOND, band.end / SECOND) for band in track.bands] == [
        ('a', 1, 3), ('b', 3, 21), ('b', 30, 31), ('', 31, 31.5), ('a', 31.5, 32)]
    assert not track.joined and chart({'/a': track}).span == 31 * SECOND


def test_short_bands_are_joined_to_what_they_show_longest() -> None:
    track = Track()
    for number in range(3000):  # 4 of 5 pictures show 'a'; then 'b' comes and stays
        track.add('b' if number >= 2000 or number % 5 == 0 else 'a', number * SECOND)
    assert track.joined and len(track.bands) <= MOST_BANDS
    first = track.bands[0]
    assert first.label == 'a' and first.begin == 0 and first.end > 900 * SECOND
    assert track.bands[-1].label == 'b' and track.bands[-1].begin <= 2000 * SECOND
    assert all(before.end == after.begin for before, after in pairwise(track.bands))
    same = Track()
    for number in range(2 * MOST_BANDS):  # all at one time
        same.add(str(number), START)
    assert len(same.bands) <= MOST_BANDS
    long, short, other = Band('a', 0, 30), Band('b', 30, 35), Band('c', 35, 38)
    assert joined([long, short, other], 5) == [long, short, other]
    assert joined([long, short, other], 6) == [long, Band('b', 30, 38)]
    assert joined([short, other, Band('b', 60, 90)], 20) == [
        Band('b', 30, 38), Band('b', 60, 90)]


@pytest.mark.parametrize(('time', 'text'), [
    (0, '0:00'), (80_000_000, '0:00.08'), (61 * SECOND, '1:01'), (59_999_600_000, '1:00'),
    (3600 * SECOND, '1:00:00'), (36_000_000 * SECOND // 1000 + 1_500_000_000, '10:00:01.5')])
def test_times_are_told_as_by_a_clock(time: int, text: str) -> None:
    assert clock(time) == text


@pytest.mark.parametrize('span', [1, SECOND, 4 * SECOND, 1234 * SECOND, 10 ** 15, 10 ** 18])
def test_an_axis_has_a_few_ticks(span: int) -> None:
    track = Track()
    track.add('a', START)
    track.bands[-1].end += span
    ticks = chart({'/a': track}).ticks()
    assert ticks[0] == 0 and len(ticks) <= 7 and (span < SECOND or len(ticks) > 2)


@pytest.mark.usefixtures('warm_cache')
def test_a_page_that_cannot_be_written_is_one_line(
        folder: Path, options: list[str], tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('before')
    line = refused(folder, *options, '--html', tmp_path / 'file' / 'x.html')
    assert line.startswith('vl2v_classify: ') and str(tmp_path / 'file') in line
    (tmp_path / 'x.html').write_text('before')
    refused(folder / '1_cut.png', *options, '--html', tmp_path / 'x.html')
    assert (tmp_path / 'x.html').read_text() == 'before'
    assert sorted(file.name for file in tmp_path.glob('[.x]*')) == ['x.html']
