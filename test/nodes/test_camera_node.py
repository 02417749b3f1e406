"""camera_node as a process: what it publishes, and how it ends."""
from itertools import pairwise
import os
from pathlib import Path
import signal
import time

import cv2
import numpy as np
import pytest
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from support.ros_processes import Received, Ros
from vl2v_ros.images.frame import to_rgb
from vl2v_ros.nodes.camera_node import read_webcam
from vl2v_ros.nodes.messages import to_frame

HEIGHT, WIDTH = 120, 160
COLOURS = ((200, 30, 30), (30, 160, 40), (40, 60, 210))  # RGB; the mean of each scene


def scene(colour: tuple[int, int, int], seed: int) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB with the texture of a photograph and a known mean colour."""
    noise = np.random.default_rng(seed).normal(size=(HEIGHT, WIDTH, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 6)
    smooth = (smooth - smooth.mean((0, 1))) / smooth.std() * 12
    return np.clip(np.array(colour) + smooth, 0, 255).astype(np.uint8)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes and files that are none: a text, and a JPEG that does not decode."""
    path = tmp_path_factory.mktemp('scenes')
    for number, colour in enumerate(COLOURS):
        cv2.imwrite(str(path / f'{number}.png'), scene(colour, number)[..., ::-1])
    (path / '1_broken.jpg').write_bytes(b'\xff\xd8\xff no picture')
    (path / 'notes.txt').write_text('not an image')
    return path


@pytest.fixture(scope='module')
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames of each colour."""
    path = tmp_path_factory.mktemp('video') / 'scenes.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (WIDTH, HEIGHT))
    for number, colour in enumerate(COLOURS):
        for _ in range(10):
            writer.write(scene(colour, number)[..., ::-1])
    writer.release()
    return path


def nearest_colour(message: Image | CompressedImage) -> int:
    mean = to_rgb(to_frame(message)).mean((0, 1))
    distances = np.abs(np.array(COLOURS) - mean).max(1)
    assert distances.min() < 8, f'mean colour {mean} is none of {COLOURS}'
    return int(distances.argmin())


def rate(received: Received[Image], count: int) -> float:
    """Wait for a number of messages and return their rate by their stamps [Hz]."""
    received.wait_for(lambda message: len(received.messages) > count)
    stamps = [message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
              for message in received.messages]
    return (len(stamps) - 1) / (stamps[-1] - stamps[0])


def test_a_folder_is_shown_in_order_again_and_again(ros: Ros, folder: Path) -> None:
    camera = ros.start('camera_node', {'source': folder, 'rate': 20.0, 'frame_id': 'head'})
    images = ros.subscribe(Image, 'image')
    images.wait_for(lambda message: len(images.messages) >= 10)
    assert camera.stop() == 0
    shown = [nearest_colour(message) for message in images.messages]
    assert shown == [(shown[0] + step) % 3 for step in range(len(shown))]
    for message in images.messages:
        assert (message.width, message.height) == (WIDTH, HEIGHT)
        assert (message.encoding, message.step) == ('bgr8', WIDTH * 3)
        assert message.header.frame_id == 'head'
    now = ros.node.get_clock().now().nanoseconds * 1e-9
    assert abs(now - images.messages[-1].header.stamp.sec) < 60
    assert camera.output.count('1_broken.jpg') == 1
    assert 'does not decode' in camera.output
    assert 'notes.txt' not in camera.output


@pytest.mark.parametrize('simulated', [False, True], ids=['', 'while simulated time stands still'])
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_once_on_a_signal_without_a_traceback(ros: Ros, folder: Path, number: int,
                                                         simulated: bool) -> None:
    camera = ros.start('camera_node', {'source': folder, 'use_sim_time': simulated})
    images = ros.subscribe(Image, 'image', qos_profile_sensor_data)
    images.wait_for(lambda message: len(images.messages) > 5)
    assert camera.stop(number, patience=10) == 0
    assert 'Traceback' not in camera.output
    assert 'rror' not in camera.output


@pytest.mark.parametrize('wanted', [10.0, 40.0])
def test_the_rate_is_kept(ros: Ros, folder: Path, wanted: float) -> None:
    with ros.start('camera_node', {'source': folder, 'rate': wanted}):
        measured = rate(ros.subscribe(Image, 'image'), 40)
    assert 0.7 * wanted < measured < 1.1 * wanted


@pytest.mark.parametrize(('encoding', 'step'), [('rgb8', 3 * WIDTH), ('mono8', WIDTH)])
def test_other_encodings(ros: Ros, folder: Path, encoding: str, step: int) -> None:
    with ros.start('camera_node', {'source': folder, 'encoding': encoding}):
        message = ros.subscribe(Image, 'image').wait_for(bool)
    assert (message.encoding, message.step) == (encoding, step)
    mean = to_rgb(to_frame(message)).mean((0, 1))
    red, green, blue = np.array(COLOURS).T
    wanted = {'rgb8': np.array(COLOURS),
              'mono8': np.stack([0.299 * red + 0.587 * green + 0.114 * blue] * 3, 1)}[encoding]
    assert np.abs(wanted - mean).max(1).min() < 4


def test_frames_are_scaled_to_the_size_asked_for(ros: Ros, folder: Path) -> None:
    with ros.start('camera_node', {'source': folder, 'width': 64, 'height': 48}):
        message = ros.subscribe(Image, 'image').wait_for(bool)
    assert (message.width, message.height, len(message.data)) == (64, 48, 64 * 48 * 3)
    nearest_colour(message)


def test_compressed_images_go_beside_the_remapped_topic(ros: Ros, folder: Path) -> None:
    with ros.start('camera_node', {'source': folder, 'image_transport': 'compressed',
                                   'jpeg_quality': 60}, '-r', 'image:=/head/image_raw'):
        images = ros.subscribe(CompressedImage, '/head/image_raw/compressed')
        images.wait_for(lambda message: len(images.messages) >= 3)
    assert {nearest_colour(message) for message in images.messages[:3]} == {0, 1, 2}
    assert all(message.format == 'bgr8; jpeg compressed bgr8' for message in images.messages)


def test_a_video_is_shown_to_its_end_and_then_the_node_ends(ros: Ros, video: Path) -> None:
    camera = ros.start('camera_node', {'source': video, 'rate': 20.0, 'loop': False,
                                       'listeners': 1})
    images = ros.subscribe(Image, 'image')
    assert camera.wait() == 0
    assert 'the source has ended' in camera.output
    shown = [nearest_colour(message) for message in images.messages]
    assert shown == sorted(shown)  # the first may be missing, as the subscriber was not yet ready
    assert len(shown) >= 28
    assert shown[-10:] == [2] * 10


def test_a_folder_begins_when_enough_listen(ros: Ros, folder: Path) -> None:
    with ros.start('camera_node', {'source': folder, 'listeners': 2}, '-r', 'image:=awaited'):
        first = ros.subscribe(Image, 'awaited')
        time.sleep(0.5)
        assert not first.messages
        second = ros.subscribe(Image, 'awaited')
        first.wait_for(bool)
        second.wait_for(bool)


def test_a_looped_video_begins_again(ros: Ros, video: Path) -> None:
    with ros.start('camera_node', {'source': video, 'rate': 60.0}):
        images = ros.subscribe(Image, 'image')
        images.wait_for(lambda message: len(images.messages) > 45)
    shown = [nearest_colour(message) for message in images.messages]
    assert (2, 0) in pairwise(shown)


@pytest.mark.parametrize(('parameters', 'reasons'), [
    ({}, ['expected a source: set the parameter source to a folder of images, a video']),
    ({'source': '/nowhere/clip.mp4'}, ['/nowhere/clip.mp4', 'gives no frame']),
    ({'source': '/dev/video987'}, ['expected a webcam at /dev/video987', 'cameras of this']),
    ({'source': '987'}, ['expected a webcam at /dev/video987', 'cameras of this machine']),
    ({'source': '{empty}'}, ['expected images (.bmp, .jpeg', '{empty}']),
    ({'source': '{text}'}, ['gives no frame']),
    ({'source': '{folder}', 'rate': 0.0}, ['rate', '0.1']),
    ({'source': '{folder}', 'rate': 'fast'}, ['rate']),
    ({'source': '{folder}', 'encoding': 'yuv'}, ['encoding', "'bgr8', 'rgb8', 'mono8'", "'yuv'"]),
    ({'source': '{folder}', 'jpeg_quality': 101}, ['jpeg_quality', '100']),
])
def test_what_it_cannot_do_is_said_and_ends_it(ros: Ros, folder: Path, tmp_path: Path,
                                               parameters: dict[str, object], reasons: list[str]
                                               ) -> None:
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'text.mp4').write_text('no video')
    places = {'empty': tmp_path / 'empty', 'text': tmp_path / 'text.mp4', 'folder': folder}
    given = {name: value.format(**places) if isinstance(value, str) else value
             for name, value in parameters.items()}
    camera = ros.start('camera_node', given)
    assert camera.wait() == 1
    for reason in reasons:
        assert reason.format(**places) in camera.output
    assert 'Traceback' not in camera.output


class Webcam:
    """In the place of OpenCV's: a camera that gives three frames."""

    def __init__(self) -> None:
        self.given = 0

    def set(self, name: int, value: float) -> bool:
        return True

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.given += 1
        return (True, scene(COLOURS[0], self.given)) if self.given <= 3 else (False, None)

    def release(self) -> None:
        self.given = 99


def test_a_webcam_is_opened_by_its_number_or_its_device(tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'video0').touch()
    opened = []

    def open_one(source: int | str) -> Webcam:
        opened.append(source)
        return Webcam()
    monkeypatch.setattr(cv2, 'VideoCapture', open_one)
    for source in ('0', str(tmp_path / 'video0')):
        assert len(list(read_webcam(source, tmp_path))) == 3  # and ends when it is unplugged
    assert opened == [0, str(tmp_path / 'video0')]


@pytest.mark.parametrize(('number', 'mode', 'reasons'), [
    ('1', 0o600, ['found none', 'cameras of this machine: {folder}/video0', '--device']),
    ('0', 0o600, ['expected frames', 'other programs']),
    ('0', 0o000, ['usermod -aG video']),
])
def test_a_webcam_that_gives_nothing_is_explained(number: str, mode: int, reasons: list[str],
                                                  tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                  ) -> None:
    (tmp_path / 'video0').touch(mode)
    monkeypatch.setattr(os, 'access', lambda path, wanted: bool(mode))  # root may do everything
    with pytest.raises(ValueError, match='expected (a|frames of the) webcam') as error:
        next(read_webcam(number, tmp_path))
    for reason in reasons:
        assert reason.format(folder=tmp_path) in str(error.value)
