"""vl2v_find: what it finds in bags, videos and folders, and what it refuses."""
from pathlib import Path
import subprocess
import sys

import cv2
import pytest
from support import image_bags
from support.classify_command import draw, LABELS
from vl2v_ros.command.find import main

SECOND = image_bags.SECOND


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Return a bag that shows each label for a second."""
    messages = []
    for number, label in enumerate(LABELS):
        for part in range(5):
            stamp = image_bags.START + number * SECOND + part * SECOND // 5
            messages.append((image_bags.FRONT, stamp, image_bags.raw(draw(label, number), stamp)))
    return image_bags.write(tmp_path / 'bag', messages)


def lines(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[list[str]]:
    """Run the command; return the table, column by column."""
    main([str(word) for word in arguments])
    return [line.split() for line in capsys.readouterr().out.splitlines()[1:]]


@pytest.fixture
def given(shapes_student: Path) -> list[object]:
    return ['--checkpoint', shapes_student, '--device', 'cpu']


@pytest.mark.usefixtures('warm_cache')
@pytest.mark.long
def test_a_thing_is_found_in_a_bag_at_its_time(
        bag: Path, given: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
        ) -> None:
    for number, label in enumerate(LABELS):
        table = lines(capsys, bag, label, *given, '--sheet', tmp_path / 'found.png')
        first = f'{image_bags.START // SECOND + number}.000000000'
        assert table[0][1:4] == [first, f'{first[:-9]}800000000', '5'], (label, table)
        assert table[0][5] == image_bags.FRONT
        assert len(table) == len(LABELS) + 1 and table[-1][0] == 'wrote'
        similarities = [float(row[0]) for row in table[:-1]]
        assert similarities == sorted(similarities)[::-1]
    page = cv2.imread(str(tmp_path / 'found.png'))
    assert page.shape[1] > 900 and page.std() > 30


@pytest.mark.parametrize(('arguments', 'said'), [
    (['{folder}/2.png', 'mug', '--sheet', '{folder}/2.png'], '2.png is an input and would be'),
    (['{folder}', '--image', '{folder}/2.png', '--sheet', '{folder}/2.png'], 'would be replaced'),
    (['{folder}', 'red circle', '--sheet', '{folder}/2.png/a.png'], 'a.png cannot be read'),
    (['a mug', '{folder}'], 'expected what to look for as the last word')], ids=str)
@pytest.mark.usefixtures('warm_cache')
def test_what_is_not_meant_is_refused(
        folder: Path, given: list[object], capsys: pytest.CaptureFixture[str],
        arguments: list[str], said: str) -> None:
    before = (folder / '2.png').read_bytes()
    with pytest.raises(SystemExit) as ended:
        lines(capsys, *(word.format(folder=folder) for word in arguments), *given)
    assert said in str(ended.value) + capsys.readouterr().err
    assert (folder / '2.png').read_bytes() == before


@pytest.mark.usefixtures('warm_cache')
def test_a_picture_is_found_among_pictures(
        folder: Path, given: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    table = lines(capsys, folder, *given, '--image', folder / '2.png', '--count', '2')
    assert len(table) == 2 and table[0][0] == '1.000' and table[0][-1].endswith('2.png')
    assert len(lines(capsys, folder, '--count', '1', 'red circle', *given)) == 1  # between them


@pytest.mark.usefixtures('warm_cache')
def test_what_cannot_be_done_is_one_line(
        bag: Path, folder: Path, given: list[object], tmp_path: Path) -> None:
    (tmp_path / 'text.jpg').write_text('no picture')
    for arguments, said in (
            (('nowhere.mcap', 'mug'), 'nowhere.mcap: expected an image, a video, a bag'),
            ((bag, ' '), 'expected a name, got a blank'),
            ((bag, '--image', tmp_path / 'text.jpg'), 'text.jpg: expected a BMP, JPEG'),
            ((folder, 'mug', '--topic', '/x'), '--topic: expected a bag among the inputs')):
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in (*arguments, *given)])
        assert isinstance(end.value.code, str) and said in end.value.code
        assert end.value.code.startswith('vl2v_find: ') and '\n' not in end.value.code
    for arguments, said in ((('mug',), 'expected a recording, then what to look for'),
                            ((bag, 'mug', '--sheet', 'x.txt'), '--sheet: expected a file that')):
        done = subprocess.run([sys.executable, '-m', 'vl2v_ros.command.find',
                               *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == 2 and said in done.stderr
