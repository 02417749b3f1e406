"""vl2v_demo, as a user starts it."""
from pathlib import Path
import shutil
import sys

import cv2
from ros_processes import Ros
from vl2v_ros import shapes

DEMO = Path(sys.executable).parent / 'vl2v_demo'


def test_the_demo_labels_changes_its_vocabulary_and_saves_pictures(
        ros: Ros, shapes_student: Path, tmp_path: Path) -> None:
    shutil.copytree(shapes_student.parent, tmp_path / 'shapes')
    demo = ros.run(DEMO, '--seconds', '4', '--out', tmp_path,
                   env={'XDG_CACHE_HOME': str(tmp_path / 'cache')})
    assert demo.wait(180) == 0, demo.output
    first, then = demo.output.split('--- set_vocabulary', 1)
    assert 'toy that knows coloured shapes only' in first
    assert any(label in first for label in shapes.LABELS)
    shown = [line for line in then.splitlines()[1:] if 'vocabulary 2' in line]
    assert shown
    assert all(any(label in line.split() for label in shapes.OTHER_LABELS) for line in shown)
    for version in (1, 2):
        picture = cv2.imread(str(tmp_path / f'vocabulary_{version}.png'))
        assert picture.shape == (480, 640, 3)
        assert picture.std() > 5
    video = cv2.VideoCapture(str(tmp_path / 'demo.mp4'))
    frames = 0
    while video.read()[0]:
        frames += 1
    assert frames > 20
    assert 'Traceback' not in demo.output


def test_the_demo_says_what_it_cannot_do(ros: Ros, shapes_student: Path, tmp_path: Path) -> None:
    demo = ros.run(DEMO, '--out', tmp_path, '--source', '/nowhere', '--checkpoint', shapes_student)
    assert demo.wait() == 1
    assert 'camera_node: expected a folder of images' in demo.output
    assert 'camera_node ended with 1, see its message above' in demo.output
    assert 'Traceback' not in demo.output
