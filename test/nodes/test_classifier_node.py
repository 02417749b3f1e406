"""The classifier's topics and services: names, latched ones, overlay, transports, cameras."""
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from support import shapes, tiny_models
from support.ros_processes import (
    Camera,
    draw_frames,
    LABELS,
    PIXELS,
    Ros,
    wait_until,
    what_was_sent,
)
from vision_msgs.msg import LabelInfo, VisionInfo
from vl2v_msgs.msg import LabelArray, Vocabulary
from vl2v_msgs.srv import ClassifyImage, SetVocabulary
from vl2v_ros.images.frame import Frame
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.nodes.messages import to_image
from vl2v_ros.nodes.parameters import ClassifierParameters
from vl2v_ros.nodes.topics import camera_topics
from vl2v_ros.nodes.worker import Current

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture(scope='module')
def vga(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_frames(tmp_path_factory.mktemp('frames') / 'vga.npz', 640, 480)


@pytest.fixture(scope='module')
def camera(ros: Ros, settings: dict[str, object]) -> Iterator[Camera]:
    """Yield a camera whose images a classifier named `classifier` answers."""
    with ros.classifier(settings):
        camera = Camera(ros)
        yield camera
        camera.close()


@pytest.mark.usefixtures('camera')
def test_late_subscribers_learn_the_vocabulary_in_force(ros: Ros) -> None:
    for labels, descriptions in ((LABELS[:2], ['', '']), (('mug', 'cup'), ['with a handle', ''])):
        reply = ros.call(SetVocabulary, 'classifier/set_vocabulary', labels=labels,
                         descriptions=descriptions)
        assert reply.success
        vocabulary = ros.subscribe(Vocabulary, 'classifier/vocabulary', LATCHED).wait_for(bool)
        assert vocabulary.version == reply.version
        assert tuple(vocabulary.labels) == tuple(reply.labels) == labels
        assert vocabulary.descriptions == descriptions
        info = ros.subscribe(VisionInfo, 'classifier/vision_info', LATCHED).wait_for(bool)
        assert info.database_version == reply.version
        assert info.database_location == '/classifier/vocabulary'
        info = ros.subscribe(LabelInfo, 'classifier/label_info', LATCHED).wait_for(bool)
        assert (info.class_map, info.threshold) == ([], 0)
    reply = ros.call(SetVocabulary, 'classifier/set_vocabulary',
                     operation=SetVocabulary.Request.RESET)
    assert tuple(reply.labels) == LABELS


@pytest.mark.usefixtures('camera')
@pytest.mark.parametrize('label', LABELS)
def test_one_image_is_classified_on_demand(ros: Ros, label: str) -> None:
    header = Header(frame_id='hand')
    header.stamp.sec = 17
    pixels = shapes.draw(label, 640, 480, np.random.default_rng(1))
    reply = ros.call(ClassifyImage, 'classifier/classify', image=to_image(pixels, 'rgb8', header))
    assert reply.success, reply.message
    assert reply.message == ''
    assert reply.result.header == header
    assert reply.result.labels[0].label == label
    # Why: each label in the result has one prompt here, which is as similar as the label.
    assert [(match.label, match.prompt) for match in reply.matches] == [
        (entry.label, f'a photo of a {entry.label}.') for entry in reply.result.labels]
    assert [match.similarity for match in reply.matches] == pytest.approx(
        [entry.similarity for entry in reply.result.labels], abs=1e-3)


@pytest.mark.usefixtures('camera')
def test_an_image_on_demand_that_is_none_gets_a_reason(ros: Ros) -> None:
    image = to_image(PIXELS, 'rgb8', Header())
    image.encoding = 'rbg8'
    reply = ros.call(ClassifyImage, 'classifier/classify', image=image)
    assert not reply.success
    assert "got 'rbg8'; is it 'rgb8'?" in reply.message
    assert reply.result == LabelArray()


def test_the_overlay_is_the_image_with_the_labels_drawn_in(ros: Ros, camera: Camera) -> None:
    overlays = ros.subscribe(Image, 'classifier/overlay')
    pixels = shapes.draw('red circle', 640, 480, np.random.default_rng(1))
    answer = camera.show(pixels[..., ::-1].copy(), 'bgr8')
    overlay = overlays.wait_for_frame(answer.header.frame_id)
    assert overlay.header == answer.header
    assert (overlay.width, overlay.height, overlay.encoding, overlay.step) == (
        640, 480, 'rgb8', 640 * 3)
    drawn = np.frombuffer(overlay.data, np.uint8).reshape(480, 640, 3)
    differs = (drawn != pixels).any(2)
    assert differs[:200, :200].mean() > 0.5  # the panel
    assert not differs[300:].any()
    assert not differs[:, 500:].any()


def test_nothing_is_drawn_while_nobody_looks(ros: Ros, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def draw(frame: Frame, prediction: Prediction, font: str) -> np.ndarray:
        drawn.append(prediction)
        return frame.pixels
    monkeypatch.setattr(camera_topics, 'draw', draw)
    prediction = Prediction(('mug',), (1.0,), (1.0,), False, 0.0, 1)
    topics = camera_topics.CameraTopics(Node('looked_at', context=ros.node.context), '', 'raw',
                                        overlay=True)
    message = to_image(PIXELS, 'rgb8', Header())
    used = Current(tiny_models.given({'mug': [1.0]}), ClassifierParameters(unknown_threshold=-1.0))
    topics.answer(message, Frame(PIXELS), [prediction], used)
    assert not drawn
    overlays = ros.subscribe(Image, 'looked_at/overlay')
    wait_until(topics.overlay.get_subscription_count, 'subscriber')
    topics.answer(message, Frame(PIXELS), [prediction], used)
    assert drawn == [prediction]
    assert overlays.wait_for(bool) == message


def test_two_cameras_are_answered_on_their_own_topics_under_any_name(
        ros: Ros, settings: dict[str, object], vga: Path) -> None:
    arguments = ('-r', '__ns:=/robot', '-r', '__node:=eyes', '-r', 'front/image:=/head/image_raw')
    with ros.classifier(settings | {'cameras': ['front', 'rear'], 'overlay': False,
                                    'unknown_threshold': -1.0}, *arguments) as process:
        for side in ('front', 'rear'):
            wait_until(lambda side=side: ros.node.count_publishers(
                f'/robot/eyes/{side}/classification') == 1, 'classification')
        assert not ros.node.count_publishers('/robot/eyes/front/overlay')
        for topic in ('/head/image_raw', '/robot/rear/image'):
            for name in (topic, f'{topic}/compressed'):
                wait_until(lambda name=name: ros.node.count_subscribers(name) == 1, name)
        answers = {side: ros.subscribe(LabelArray, f'/robot/eyes/{side}/labels')
                   for side in ('front', 'rear')}
        for _ in range(3):
            # Where something else keeps the cores busy for a while, frames are dropped.
            for received in answers.values():
                received.messages.clear()
            publishers = {
                'front': ros.publish_frames(vga, '/head/image_raw', count=60),
                'rear': ros.publish_frames(vga, '/robot/rear/image/compressed', count=60,
                                           encoding='jpeg')}
            for side, publisher in publishers.items():
                sent, _ = what_was_sent(publisher)
                for answer in answers[side].messages:
                    assert answer.header.stamp == sent[answer.header.frame_id]
                    assert answer.labels[0].label == answer.header.frame_id.split('#')[0]
            if all(len(received.messages) >= 54 for received in answers.values()):
                break
        else:
            pytest.fail('fewer than 54 of 60 frames were answered, three times')
        assert process.output.count('] [robot.eyes]: student ') == 1


@pytest.mark.usefixtures('camera')
def test_the_transport_follows_the_camera(ros: Ros, settings: dict[str, object], vga: Path
                                          ) -> None:
    def answered(publisher_topic: str, encoding: str) -> None:
        first = len(answers.messages)
        with ros.publish_frames(vga, publisher_topic, count=1000, encoding=encoding):
            answers.wait_for(lambda _: len(answers.messages) > first + 5, first)
    with ros.classifier(settings, '-r', '__node:=second', '-r', 'image:=picture') as process:
        answers = ros.subscribe(LabelArray, 'second/labels')
        answered('picture/compressed', 'jpeg')
        assert 'receives images on /picture/compressed' in process.output
        assert ros.node.count_subscribers('picture') == 0
        answered('picture', 'rgb8')  # the camera has been started again, with the other transport
        wait_until(lambda: not ros.node.count_subscribers('picture/compressed'), 'one transport')
        assert ros.node.count_subscribers('picture') == 1
        # Both are offered, and both deliver: raw is preferred, also if it is a little late.
        raw = ros.offer(Image, 'picture', 1)
        first = len(answers.messages)
        with ros.publish_frames(vga, 'picture/compressed', count=1000, encoding='jpeg'):
            wait_until(lambda: ros.node.count_subscribers('picture/compressed'), 'both transports')
            for _ in range(5):
                raw.publish(to_image(PIXELS, 'rgb8', Header(frame_id='raw')))
            answers.wait_for(lambda answer: answer.header.frame_id == 'raw', first)
            assert {answer.header.frame_id for answer in answers.messages[first:]} == {'raw'}
        ros.node.destroy_publisher(raw)


def test_a_given_transport_is_the_only_one_and_its_qos_can_be_overridden(
        ros: Ros, settings: dict[str, object]) -> None:
    qos = 'qos_overrides./robot/image/compressed.subscription'
    with ros.classifier(settings | {'image_transport': 'compressed',
                                    f'{qos}.reliability': 'reliable'}, '-r', '__ns:=/robot'):
        wait_until(lambda: ros.node.count_subscribers('/robot/image/compressed'), 'subscription')
        assert ros.node.count_subscribers('/robot/image') == 0
        found, = ros.node.get_subscriptions_info_by_topic('/robot/image/compressed')
        assert found.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        assert found.topic_type == 'sensor_msgs/msg/CompressedImage'
