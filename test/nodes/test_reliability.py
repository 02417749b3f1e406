"""Cameras of every kind are heard: reliable or not, with our transport settings or not."""
from collections.abc import Iterator, Mapping
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import numpy as np
import pytest
from support.ros_processes import draw_frames, Process, Received, Ros, wait_until, what_was_sent
from vl2v_msgs.msg import LabelArray
from vl2v_ros.nodes.transport import MALLOC, OLDER_PROFILE, PROFILE

SETTLED = 2.5  # after that, the node has looked at who publishes [s]
WITHOUT = dict.fromkeys((*MALLOC, PROFILE, OLDER_PROFILE), '')
SIZES = {'vga': (640, 480), '720p': (1280, 720)}


@pytest.fixture(scope='module')
def frames(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp('frames')
    return {name: draw_frames(folder / f'{name}.npz', *size) for name, size in SIZES.items()}


@pytest.fixture(scope='module')
def classifier(ros: Ros, settings: dict[str, object]) -> Iterator[Process]:
    """Yield a classifier that decides for itself how it listens, and one that is told."""
    told = {'qos_overrides./told/image.subscription.reliability': 'best_effort'}
    with ros.classifier(settings | told | {'cameras': ['own', 'told']}) as process:
        yield process


@pytest.fixture(scope='module')
def labels(ros: Ros, classifier: Process) -> Received[LabelArray]:
    return ros.subscribe(LabelArray, 'classifier/own/labels')


def answered(labels: Received[LabelArray], publisher: Process) -> tuple[int, int]:
    """Wait for a publisher's end; return how many of its frames were answered, and sent."""
    first = len(labels.messages)
    sent, _ = what_was_sent(publisher)
    heard = {answer.header.frame_id for answer in labels.messages[first:]}
    return len(heard & sent.keys()), len(sent)


def test_it_follows_as_cameras_come_and_go_and_differ(
        ros: Ros, labels: Received[LabelArray], frames: Mapping[str, Path]) -> None:
    def listens() -> set[str]:
        return {info.qos_profile.reliability.name
                for info in ros.node.get_subscriptions_info_by_topic('/own/image')}

    def camera(reliability: str) -> Process:
        return ros.publish_frames(frames['vga'], 'own/image', 10000, 10.0,
                                  reliability=reliability)
    with camera('reliable'):
        wait_until(lambda: listens() == {'RELIABLE'}, 'as the reliable one offers')
        with camera('best_effort'):
            wait_until(lambda: listens() == {'BEST_EFFORT'}, 'as both can be heard')
            first = len(labels.messages)
            wait_until(lambda: len(labels.messages) > first + 30, 'labels of both')
        wait_until(lambda: listens() == {'RELIABLE'}, 'as the one that is left offers')
    wait_until(lambda: listens() == {'BEST_EFFORT'}, 'as whoever comes can be heard')


def test_images_that_do_not_arrive_are_noticed(ros: Ros, classifier: Process, tmp_path: Path
                                               ) -> None:
    # By best effort without the settings, small images arrive and large ones do not.
    np.savez(tmp_path / 'mixed.npz', **{label: np.zeros((height, width, 3), np.uint8) for
                                        label, width, height in (('small', 64, 48),
                                                                 ('large', 1920, 1080))})
    diagnostics = ros.subscribe(DiagnosticArray, '/diagnostics')

    def told(message: DiagnosticArray) -> DiagnosticStatus:
        found, = (one for one in message.status if one.name == '/classifier: told')
        return found
    with ros.publish_frames(tmp_path / 'mixed.npz', 'told/image', 10000, 10.0,
                            reliability='reliable', env=WITHOUT):
        status = told(diagnostics.wait_for(
            lambda message: 'did not arrive' in told(message).message))
        assert status.level == DiagnosticStatus.WARN
        assert ('images did not arrive (best effort); large images need the transport settings of '
                'the launch file (FASTDDS_DEFAULT_PROFILES_FILE) on both sides') in status.message
        assert int({one.key: one.value for one in status.values}['lost on the way']) > 0


def test_a_reliability_that_is_none_is_refused(ros: Ros, settings: dict[str, object]) -> None:
    name = 'qos_overrides./image.subscription.reliability'
    process = ros.start('classifier_node', settings | {name: 'often'})
    assert process.wait() == 1
    assert f"parameter {name}: expected auto, reliable or best_effort, got 'often'" in (
        process.output)


@pytest.mark.parametrize(('reliability', 'size', 'env'), [
    ('reliable', 'vga', WITHOUT), ('reliable', '720p', WITHOUT), ('reliable', 'vga', {}),
    ('reliable', '720p', {}), ('best_effort', '720p', {})])
def test_a_camera_is_heard_in_full(
        ros: Ros, labels: Received[LabelArray], frames: Mapping[str, Path], reliability: str,
        size: str, env: Mapping[str, str]) -> None:
    for _ in range(3):  # where something else keeps the cores busy, frames are dropped
        count, sent = answered(labels, ros.publish_frames(
            frames[size], 'own/image', 30, 10.0, reliability=reliability, settle=SETTLED, env=env))
        if count == sent:
            return
    pytest.fail(f'{count} of {sent} frames were answered')
