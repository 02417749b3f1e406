"""~/heatmap, ~/presence and boxes without a detector, over DDS: only while somebody watches."""
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from sensor_msgs.msg import Image
from support import shapes, tiny_models
from support.ros_processes import Camera, LABELS, Process, Received, Ros, wait_until
from vision_msgs.msg import Detection2DArray
from vl2v_msgs.msg import PresenceArray

T = TypeVar('T', Image, Detection2DArray, PresenceArray)
SIDE = 240
SHOWN = 'red circle', 'blue square'


@pytest.fixture(scope='module')
def picture() -> np.ndarray:
    """Draw a red circle left, a blue square right."""
    rng = np.random.default_rng(0)
    return np.hstack([shapes.draw(label, SIDE, SIDE, rng, (0, 0)) for label in SHOWN])


@pytest.fixture(scope='module')
def classifier(ros: Ros, settings: dict[str, object]) -> Iterator[Process]:
    with ros.classifier(settings | {'unknown_threshold': -1.0, 'where_size': 96,
                                    'vocabulary': ', '.join(SHOWN),
                                    'heatmap_labels': ['red circle', 'no such label']}) as process:
        yield process


@pytest.fixture
def camera(ros: Ros, classifier: Process) -> Iterator[Camera]:
    camera = Camera(ros)
    yield camera
    camera.close()


def look(camera: Camera, received: Received[T], picture: np.ndarray) -> T:
    """Show a picture until it was looked at, which begins late and is not done each time."""
    shown: set[str] = set()

    def looked() -> T | None:
        shown.add(camera.show(picture).header.frame_id)
        return next((message for message in received.messages
                     if message.header.frame_id in shown), None)
    return wait_until(looked, 'a look')


def test_a_map_is_drawn_while_it_is_watched(ros: Ros, camera: Camera, picture: np.ndarray
                                            ) -> None:
    drawn = look(camera, ros.subscribe(Image, 'classifier/heatmap'), picture)
    assert (drawn.height, drawn.width, drawn.encoding) == (SIDE, 2 * SIDE, 'rgb8')
    change = np.array(drawn.data).reshape(picture.shape).astype(float) - picture.mean(
        2, keepdims=True)
    redder = (change[..., 0] - change[..., 2]).mean(0)  # than it is blue, per column
    assert redder[:SIDE].mean() > redder[SIDE:].mean()


def test_each_label_is_told_present_and_where(ros: Ros, camera: Camera, picture: np.ndarray
                                              ) -> None:
    told = look(camera, ros.subscribe(PresenceArray, 'classifier/presence'), picture)
    places = {one.label: one.place for one in told.labels}
    assert places.keys() == {*SHOWN} and all(one.placed for one in told.labels)
    assert places['red circle'].x < SIDE < places['blue square'].x
    falling = [one.probability for one in told.labels]
    assert falling == sorted(falling, reverse=True) and 0 < falling[-1] and falling[0] < 1
    assert told.vocabulary_version == 1


def test_boxes_come_without_a_detector_and_stop_with_one(
        ros: Ros, camera: Camera, picture: np.ndarray) -> None:
    detections = ros.subscribe(Detection2DArray, 'classifier/detections')
    answer = look(camera, detections, picture)
    named = {one.results[0].hypothesis.class_id: one.bbox.center.position.x
             for one in reversed(answer.detections)}
    assert named['red circle'] < SIDE < named['blue square']
    assert all(one.header == answer.header and not one.id for one in answer.detections)

    maps = ros.subscribe(Image, 'classifier/heatmap')  # of the same looks
    detector = ros.offer(Detection2DArray, 'regions')
    first = len(maps.messages)

    def looked_without_boxes() -> bool:
        camera.show(picture)
        boxed = {message.header.frame_id for message in detections.messages}
        return any(message.header.frame_id not in boxed for message in maps.messages[first:-1])

    wait_until(looked_without_boxes, 'the end of own boxes')
    ros.node.destroy_publisher(detector)


def test_a_student_without_cells_says_so_and_tells_presence_by_prompts(
        ros: Ros, tmp_path: Path) -> None:
    tower = tiny_models.write_tower(tmp_path)
    prompts = 'there is a {label}.', 'there is no {label}.'
    path = tiny_models.write_student(
        tmp_path / 'student.safetensors', tiny_models.student(
            text_tower=tower, backbone='test_vit', image_size=160, presence=prompts))
    with ros.classifier({'checkpoint': path, 'device': 'cpu', 'vocabulary': ', '.join(LABELS),
                         'cache_dir': tmp_path / 'cache'},
                        '-r', '__node:=other', '-r', 'image:=others') as process:
        camera = Camera(ros, 'others', 'other/labels')
        ros.subscribe(Image, 'other/heatmap')
        told = ros.subscribe(PresenceArray, 'other/presence')
        camera.show()
        process.wait_for_output('there are no maps and no boxes of its own: test_vit: expected')
        assert camera.show().labels
        # Its two prompts tell what is present, though not where.
        wait_until(lambda: told.messages or camera.show() and None, 'presence')
        presence = told.messages[0]
        assert {one.label for one in presence.labels} == {*LABELS}
        assert all(0 < one.probability < 1 and not one.placed for one in presence.labels)
        camera.close()
