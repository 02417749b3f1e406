"""The demo as a user runs it: `vl2v_demo`, two nodes of its own, files at the end."""
from pathlib import Path
import shutil
import sys

import cv2
import pytest
from ros_processes import Ros
from vl2v_ros import shapes

DEMO = (sys.executable, '-m', 'vl2v_ros.nodes.demo')


@pytest.fixture
def out(tmp_path: Path, shapes_student: Path) -> Path:
    """Return the folder of a demo that has been run before: its toy student is there."""
    shutil.copytree(shapes_student.parent, tmp_path / 'demo' / 'shapes')
    return tmp_path / 'demo'


def test_it_labels_changes_the_vocabulary_and_saves_pictures(ros: Ros, out: Path) -> None:
    demo = ros.run(*DEMO, '--out', out, '--seconds', 4, '--then', 'star, cross, circle')
    assert demo.wait(120) == 0, demo.output
    said = demo.output
    assert 'knows coloured shapes only' in said  # so that nobody takes the toy for more
    first, second = said.split('--- set_vocabulary star, cross, circle: 3 labels in force')
    assert any(f'vocabulary 1  {label} ' in first for label in shapes.LABELS)
    assert any(f'vocabulary 2  {label} ' in second for label in ('star', 'cross', 'circle'))
    for version in (1, 2):
        assert cv2.imread(str(out / f'vocabulary_{version}.jpg')).shape == (480, 640, 3)
    video = cv2.VideoCapture(str(out / 'demo.mp4'))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) > 10
    assert video.read()[1].shape == (480, 640, 3)


def test_a_source_that_is_none_ends_it_with_the_reason(ros: Ros, out: Path) -> None:
    demo = ros.run(*DEMO, '--out', out, '--source', out / 'nowhere.mp4')
    assert demo.wait(120) == 1
    assert 'expected a folder of images, a video file or a webcam' in demo.output
    assert 'vl2v_ros.nodes.camera_node ended with 1' in demo.output


def test_a_refused_vocabulary_is_said_and_the_first_stays(ros: Ros, out: Path) -> None:
    demo = ros.run(*DEMO, '--out', out, '--seconds', 2, '--then', 'star, STAR')
    assert demo.wait(120) == 0, demo.output
    assert "repeats 'star'" in demo.output
    assert not (out / 'vocabulary_2.jpg').exists()
