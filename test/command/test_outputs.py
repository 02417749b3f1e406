"""Outputs: a table, videos and bags, and that none of them is ever there by half."""
from collections.abc import Iterator
import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import Reader
from support import uneven_video
from vl2v_ros.command import outputs
from vl2v_ros.drawing.overlay import draw
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.sources import open_video, Picture
from vl2v_ros.model.prediction import Prediction

LABELS = Prediction(('mug, blue', 'cup'), (0.5, 0.25), (0.75, 0.25), False, 0.25, 1)
UNKNOWN = Prediction(('mug, blue',), (-0.125,), (0.5,), True, 0.75, 1)
ALL = (*outputs.ENDINGS, '')


def picture(number: int = 0, width: int = 64, height: int = 48) -> Picture:
    smooth = np.linspace(40, 200, width * height * 3).reshape(height, width, 3)
    stamp = 1_700_000_000_000_000_000 + number * 80_000_000
    frame = Frame(smooth.astype(np.uint8))
    return Picture(frame, Path('a b.mcap'), stamp, stamp, '/image', 'head')


def write(path: Path, rate: float = 12.5) -> None:
    with outputs.writing(path, 0.2, rate) as write_one:
        for number in range(6):
            write_one(picture(number), UNKNOWN if number == 1 else LABELS)


def frames(path: Path) -> Iterator[np.ndarray]:
    """Yield the frames of a video as (H, W, 3) uint8 RGB."""
    capture = cv2.VideoCapture(str(path))
    while (read := capture.read())[0]:
        yield read[1][..., ::-1]


def test_a_table_has_a_row_for_each_label(tmp_path: Path) -> None:
    write(tmp_path / 'x.csv')
    with open(tmp_path / 'x.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 11
    assert rows[1] == {
        'file': 'a b.mcap', 'topic': '/image', 'stamp': '1700000000.000000000', 'rank': '2',
        'label': 'cup', 'similarity': '0.2500', 'score': '0.2500', 'unknown': '0'}
    assert rows[2] == {
        'file': 'a b.mcap', 'topic': '/image', 'stamp': '1700000000.080000000', 'rank': '1',
        'label': 'mug, blue', 'similarity': '-0.1250', 'score': '0.5000', 'unknown': '1'}


@pytest.mark.parametrize('ending', [*outputs.CODECS, '.MP4'])
def test_a_video_shows_the_overlay_at_the_rate(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f'x{ending}'
    write(path)
    shown = list(frames(path))
    assert len(shown) == 6
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    for number, pixels in enumerate(shown):
        wanted = draw(picture().frame, UNKNOWN if number == 1 else LABELS).astype(int)
        assert abs(pixels - wanted).mean() < 8
    assert abs(shown[2].astype(int) - picture().frame.pixels).mean() > 8


def levels(path: Path) -> list[int]:
    return [round(float(pixels[40:].mean()) / 20) for pixels in frames(path)]


@pytest.mark.parametrize(('stamps', 'shown'), [
    ([0, 1, 2, 5, 6], [0, 1, 2, 2, 2, 3, 4]), ([0, 1, 1.2, 2], [0, 2, 3]),
    ([0, 0.4, 1.6, 2.4, 3.6], [1, 1, 3, 3, 4]), ([3, 4, 0, 2], [0, 1, 2, 2, 3]),
    ([0, 1, 10 ** 9, 10 ** 9 + 2], [0, 1, 2, 2, 3]), ([None, None, None], [0, 1, 2])])
def test_a_video_keeps_the_pace_of_its_pictures(
        tmp_path: Path, stamps: list[float | None], shown: list[int]) -> None:
    with outputs.writing(tmp_path / 'x.avi', 0.2, 10) as write_one:
        for number, stamp in enumerate(stamps):
            time = None if stamp is None else round(stamp * 1e8)
            frame = Frame(np.full((48, 64, 3), 20 * number, np.uint8))
            write_one(Picture(frame, Path('x'), time, time), LABELS)
    assert levels(tmp_path / 'x.avi') == shown


def test_a_video_of_variable_rate_keeps_its_pace(tmp_path: Path) -> None:
    source = open_video(uneven_video.write(tmp_path / 'x.mkv'), pytest.fail)
    with outputs.writing(tmp_path / 'y.avi', 0.2, source.rate) as write_one:
        for picture in source.pictures:
            write_one(picture, LABELS)
    shown = levels(tmp_path / 'y.avi')
    assert [shown[time] for time in uneven_video.TIMES] == list(range(10))
    assert len(shown) == uneven_video.TIMES[-1] + 1


def test_pictures_of_another_size_are_fitted_into_the_video(tmp_path: Path) -> None:
    with outputs.writing(tmp_path / 'x.avi', 0.2, 6.25) as write_one:
        sizes = (64, 48), (128, 96), (24, 48), (640, 1), (1, 640)
        for number, (width, height) in enumerate(sizes):
            write_one(picture(2 * number, width, height), LABELS)
    shown = list(frames(tmp_path / 'x.avi'))
    assert [pixels.shape for pixels in shown] == [(48, 64, 3)] * 5
    assert shown[2][40:, :16].mean() < 16 < 90 < shown[2][40:, 22:42].mean()


def test_a_bag_is_a_file_or_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / 'x.mcap', tmp_path / 'bag'):
        write(path)
        with Reader(path) as reader:
            assert {topic: info.msgcount for topic, info in reader.topics.items()} == {
                '/image/labels': 6, '/image/classification': 6}
    assert sorted(file.name for file in (tmp_path / 'bag').iterdir()) == [
        'bag.mcap', 'metadata.yaml']


@pytest.mark.parametrize('ending', ALL)
def test_what_is_written_replaces_an_older_file_and_leaves_nothing_else(
        tmp_path: Path, ending: str) -> None:
    path = tmp_path / 'below' / f'x{ending}'
    for _ in range(2 if ending else 1):
        write(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize('ending', ALL)
def test_a_failure_leaves_what_was_there(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f'x{ending}'
    if ending:
        path.write_text('before')
    with pytest.raises(ValueError, match='the third'), \
            outputs.writing(path, 0.2, 10) as write_one:
        for _ in range(2):
            write_one(picture(), LABELS)
        raise ValueError('the third')
    assert [file.name for file in tmp_path.iterdir()] == ([path.name] if ending else [])
    assert not ending or path.read_text() == 'before'


def test_a_video_that_opencv_does_not_write_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'x 1 px at 10 Hz cannot be written by OpenCV; try'), \
            outputs.writing(tmp_path / 'x.mp4', 0.2, 10) as write_one:
        write_one(picture(0, 1, 1), LABELS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['x.txt', 'x.bag', 'x.db3', 'x.jpg', 'bag.v2'])
def test_an_ending_that_is_not_known_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf'expected a file that ends with .csv, .mcap, .avi.*got '
                                         rf'.{Path(name).suffix}'), \
            outputs.writing(tmp_path / name, 0.2, 10):
        pass
    assert not list(tmp_path.iterdir())
