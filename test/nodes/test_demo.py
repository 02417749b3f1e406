"""vl2v_demo, as a user starts it."""
from pathlib import Path
import signal
import sys

import cv2
import pytest
from support import photos_sample, shapes
from support.ros_processes import Ros, wait_until
from vl2v_ros.labeller import Labeller
from vl2v_ros.nodes.demo import OTHER_LABELS

DEMO = Path(sys.executable).parent / 'vl2v_demo'

pytestmark = pytest.mark.usefixtures('warm_cache')


@pytest.fixture(scope='module')
def known(shapes_student: Path, session_cache: Path) -> str:
    """Return labels that a demo's node finds in its cache, so that it starts without torch."""
    labels = 'yes', 'no', '12', '\N{BANANA}'
    Labeller.open(shapes_student, 'cpu', cache_dir=session_cache / 'vl2v_ros').vocabulary(labels)
    return ', '.join(labels)


def test_the_demo_labels_changes_its_vocabulary_and_saves_pictures(ros: Ros, tmp_path: Path
                                                                   ) -> None:
    demo = ros.run(DEMO, '--seconds', '4', '--out', tmp_path)
    assert demo.wait(180) == 0, demo.output
    first, then = demo.output.split('--- set_vocabulary', 1)
    assert any(label in first for label in photos_sample.everyday())
    shown = [line for line in then.splitlines()[1:] if 'vocabulary 2' in line]
    assert shown
    assert all(any(label in line for label in OTHER_LABELS.split(', ')) for line in shown)
    for version in (1, 2):
        picture = cv2.imread(str(tmp_path / f'vocabulary_{version}.jpg'))
        assert picture.shape == (360, 480, 3)
        assert picture.std() > 5
    sheet = cv2.imread(str(tmp_path / 'sheet.jpg'))
    assert sheet.shape[1] > 900 and sheet.shape[0] > 800  # four rows of four pictures
    video = cv2.VideoCapture(str(tmp_path / 'demo.mp4'))
    frames = 0
    while video.read()[0]:
        frames += 1
    assert frames > 20
    assert 'Traceback' not in demo.output


def test_the_demo_says_what_it_cannot_do(ros: Ros, shapes_student: Path, tmp_path: Path,
                                         known: str) -> None:
    demo = ros.run(DEMO, '--out', tmp_path, '--checkpoint', '/nowhere', '--vocabulary', known)
    assert demo.wait() == 1
    assert 'classifier_node ended with 1; see its message above' in demo.output
    assert 'Traceback' not in demo.output


@pytest.mark.parametrize('given, said', [
    (('--source', '/nowhere'), 'vl2v_demo: expected a folder of images, a video file or a webcam'),
    (('--then', ''), 'vl2v_demo: --then: expected at least one label, got none'),
    (('--seconds', 'nan'), 'argument --seconds: expected 0.1 to 86400, got nan'),
    (('--rate', '0'), 'argument --rate: expected 0.1 to 1000, got 0'),
])
def test_the_demo_refuses_what_it_cannot_show_before_it_starts(
        ros: Ros, tmp_path: Path, given: tuple[str, str], said: str) -> None:
    demo = ros.run(DEMO, '--out', tmp_path, *given)
    assert demo.wait() in (1, 2)
    assert said in demo.output and 'Traceback' not in demo.output
    assert '[demo.classifier]' not in demo.output


def test_the_demo_says_where_it_cannot_write(ros: Ros) -> None:
    demo = ros.run(DEMO, '--out', '/proc/demo')
    assert demo.wait() == 1
    line, = demo.output.splitlines()
    assert line.startswith('vl2v_demo: expected a folder for --out that can be written, got [')


@pytest.mark.parametrize('option', ['--vocabulary', '--then'])
def test_the_demo_takes_no_other_file_for_labels(ros: Ros, tmp_path: Path, option: str) -> None:
    demo = ros.run(DEMO, '--out', tmp_path, option, 'labels.txt')
    assert demo.wait() == 1
    assert "vl2v_demo: vocabulary: expected labels separated by commas ('mug, " in demo.output


def test_the_demo_and_its_nodes_end_on_ctrl_c(ros: Ros, shapes_student: Path, tmp_path: Path,
                                              known: str) -> None:
    shapes.draw_sequence(tmp_path / 'frames', frames=1)
    demo = ros.run(DEMO, '--seconds', '600', '--out', tmp_path, '--source', tmp_path / 'frames',
                   '--checkpoint', shapes_student, '--vocabulary', known)
    demo.wait_for_output('vocabulary 1')
    wait_until(lambda: len(ros.node.get_publishers_info_by_topic('/demo/image')) == 1, 'camera')
    assert demo.stop(signal.SIGINT, patience=20) == 0
    assert 'Traceback' not in demo.output
    wait_until(lambda: not ros.node.get_publishers_info_by_topic('/demo/image'), 'end of camera')
    wait_until(lambda: not ros.node.get_subscriptions_info_by_topic('/demo/image'), 'end')
