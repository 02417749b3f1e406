"""Stages: what is recorded on the frame path, and what a node writes of it."""
import json
from pathlib import Path
import sys
import time

import cv2
import pytest
from support.ros_processes import Camera, Ros, wait_until
from vl2v_msgs.msg import Embedding
from vl2v_ros import frame_profile
from vl2v_ros.frame_profile import Recorder, STAGES


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(frame_profile, 'recorder', recorder)
    return recorder


def test_nothing_is_recorded_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_profile, 'recorder', None)
    frame_profile.add('receive', 1.0)
    frame_profile.begin([time.perf_counter_ns()])
    frame_profile.mark('view')


def test_a_stage_lasts_from_one_mark_to_the_next(recorder: Recorder) -> None:
    frame_profile.mark('model')  # a warm-up, before the first frame
    now = time.perf_counter_ns()
    frame_profile.add('receive', 0.25)
    frame_profile.begin([now - 3_000_000, now - 1_000_000])  # two cameras, one batch
    for stage in 'view', 'model':
        time.sleep(0.02)
        frame_profile.mark(stage)
    passed = (time.perf_counter_ns() - now) / 1e3
    summary = recorder.summary()
    found = summary['stages']
    assert summary['unit'] == 'us' and summary['frames'] == 2
    assert list(found) == ['receive', 'wait', 'view', 'model']
    assert found['receive']['p50'] == pytest.approx(250_000)
    assert found['wait']['p50'] >= 3000 and found['wait']['mean'] >= 2000
    assert 40_000 <= found['view']['p50'] + found['model']['p50'] <= passed
    for stage in 'view', 'model':  # the time of a batch belongs to both of its frames
        assert found[stage]['mean'] == pytest.approx(found[stage]['p50'] / 2)


def test_picture_shows_a_bar_for_each_profile(recorder: Recorder, tmp_path: Path) -> None:
    frame_profile.begin([time.perf_counter_ns()])
    for stage in STAGES:
        frame_profile.mark(stage)
    frame_profile.plot({'one': recorder.summary()}, tmp_path / 'one.png')
    frame_profile.plot({name: recorder.summary() for name in 'abc'}, tmp_path / 'three.png')
    one, three = (cv2.imread(str(tmp_path / f'{name}.png')) for name in ('one', 'three'))
    assert three.shape[0] > one.shape[0] and one.std() > 10


def test_a_node_writes_its_profile(ros: Ros, settings: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / 'profile.json'
    given = [word for name, value in settings.items() for word in ('-p', f'{name}:={value}')]
    node = ros.run(sys.executable, '-m', 'vl2v_ros.nodes.classifier_node', '--profile', path,
                   '--ros-args', *given).wait_for_output('labels images of')
    camera = Camera(ros)
    ros.subscribe(Embedding, 'classifier/embedding')  # a stage of its own
    for _ in range(5):
        camera.show()
    wait_until(path.is_file, 'a profile within 10 s')  # of a node that still runs
    path.unlink()
    camera.close()
    assert node.stop() == 0
    profile = json.loads(path.read_text())
    assert profile['frames'] >= 5
    assert set(profile['stages']) == set(STAGES) - {'upload', 'overlay', 'where'}
    assert all(0 < times['p50'] <= times['p99'] for times in profile['stages'].values())
    assert cv2.imread(str(path.with_suffix('.png'))) is not None


@pytest.mark.parametrize('name', ['profile.txt', 'missing/profile.json'])
def test_a_profile_that_cannot_be_written_is_refused_at_once(ros: Ros, tmp_path: Path, name: str
                                                             ) -> None:
    node = ros.run(sys.executable, '-m', 'vl2v_ros.nodes.classifier_node', '--profile',
                   tmp_path / name)
    assert node.wait() == 2
    assert 'expected a file that ends in .json, in a folder that exists' in node.output
