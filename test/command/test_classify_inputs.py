"""vl2v_classify: several inputs, folders, names of files, and rates."""
import os
from pathlib import Path

import cv2
import pytest
from support import image_bags
from support.classify_command import draw, LABELS, refused, rows, run
from support.image_bags import SECOND, START
from vl2v_ros.command.classify import main, STILL_RATE

pytestmark = pytest.mark.usefixtures('warm_cache')


def test_videos_and_bags_without_out_get_a_line_per_frame(
        options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image_bags.write(tmp_path / 'bag', [
        ('/image', START + number, image_bags.raw(draw(label, number), START + number))
        for number, label in enumerate(LABELS)])
    main([str(tmp_path / 'bag'), *options])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split('  ')[0] for line in lines] == [
        f'/image 1700000000.00000000{number} s' for number in range(4)]
    assert [line.split('  ')[-1] for line in lines] == list(LABELS)
    main([str(tmp_path / 'bag'), *options, '--unknown-threshold', '1'])
    assert [line.split('  ')[-1] for line in capsys.readouterr().out.splitlines()] == [
        f'unknown (nearest: {label})' for label in LABELS]


def test_several_inputs_of_all_kinds_make_one_table(
        folder: Path, options: list[str], tmp_path: Path) -> None:
    bag = image_bags.write(tmp_path / 'bag', [
        (topic, START, image_bags.raw(draw(label), START))
        for topic, label in (('/a', 'yellow star'), ('/b', 'red circle'))])
    main([str(folder / '3.png'), str(bag), str(folder), *options, '--topic', '/b',
          '--out', str(tmp_path / 'x.csv')])
    assert [(row['file'], row['topic'], row['label']) for row in rows(tmp_path / 'x.csv')] == [
        (str(folder / '3.png'), '', 'yellow star'), (str(bag), '/b', 'red circle'),
        *((str(folder / f'{number}.png'), '', label) for number, label in enumerate(LABELS))]


def test_folders_below_are_read_if_asked_for(
        folder: Path, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
        ) -> None:
    (folder / 'below').mkdir()
    (folder / '3.png').rename(folder / 'below' / '3.png')
    for given, shown in (([], 3), (['--recursive'], 4)):
        main([str(folder), *options, *given, '--out', str(tmp_path / 'x.csv')])
        assert [row['label'] for row in rows(tmp_path / 'x.csv')] == list(LABELS[:shown])
        assert ('below/3.png; --recursive reads' in capsys.readouterr().err) == (not given)


@pytest.mark.long
def test_names_that_are_no_utf8_spoil_nothing(options: list[str], tmp_path: Path) -> None:
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for name, label in ((b'caf\xe9.png', LABELS[0]), (b'cup.png', LABELS[1])):
        cv2.imwrite(str(tmp_path / 'x.png'), draw(label)[..., ::-1])
        (tmp_path / 'x.png').rename(folder / os.fsdecode(name))
    (folder / os.fsdecode(b'b\xe4d.png')).write_bytes(b'')
    done = run(folder, *options, '--out', tmp_path / 'x.csv', '--plot', tmp_path / 'x.png')
    assert 'skipped ' in done.stderr and 'd.png: expected a' in done.stderr
    assert [(row['file'], row['label']) for row in rows(tmp_path / 'x.csv')] == [
        (f'{folder}/caf\\xe9.png', LABELS[0]), (f'{folder}/cup.png', LABELS[1])]
    explained = run(folder / os.fsdecode(b'caf\xe9.png'), *options).stdout
    assert f'caf\\xe9.png: {LABELS[0]}' in explained
    assert 'caf\\xe9.png  similarity' in run(folder, *options).stdout
    assert 'expected a name in UTF-8' in refused(folder, *options, '--out',
                                                 tmp_path / os.fsdecode(b'\xe9.csv'))


@pytest.mark.parametrize(('given', 'rate'), [([], STILL_RATE), (['--rate', '24'], 24)])
def test_images_become_a_video_at_the_rate(folder: Path, options: list[str], tmp_path: Path,
                                           given: list[str], rate: float) -> None:
    main([str(folder), *options, '--out', str(tmp_path / 'x.mp4'), *given])
    assert cv2.VideoCapture(str(tmp_path / 'x.mp4')).get(cv2.CAP_PROP_FPS) == pytest.approx(rate)


def test_a_bag_becomes_a_video_at_its_own_rate(options: list[str], tmp_path: Path) -> None:
    image_bags.write(tmp_path / 'bag', [
        ('/image', stamp, image_bags.raw(draw('red circle'), stamp))
        for stamp in range(START, START + SECOND, SECOND // 8)])
    main([str(tmp_path / 'bag'), *options, '--out', str(tmp_path / 'x.mp4')])
    assert cv2.VideoCapture(str(tmp_path / 'x.mp4')).get(cv2.CAP_PROP_FPS) == pytest.approx(
        8, rel=0.01)
