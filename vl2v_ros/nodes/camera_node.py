"""Publish a folder of images, a video or a webcam as a camera, for trials and tests."""
from collections.abc import Iterator
import itertools
import os
from pathlib import Path
import sys
from typing import Any

import cv2
import numpy as np
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vl2v_ros.images.folders import image_paths, IMAGES, other_images
from vl2v_ros.images.sources import read_image
from vl2v_ros.images.videos import Video
from vl2v_ros.nodes.messages import byte_array, to_image
from vl2v_ros.nodes.parameters import CameraParameters, declare
from vl2v_ros.nodes.program import begin, parser, read, refusing, until_stopped

KEPT = 32  # a folder of at most this many images is kept in memory, a larger one decoded each turn
WEBCAM_BUFFER = 2  # frames in the driver: more would be old, a single one halves some rates
_FROM_BGR = {'rgb8': cv2.COLOR_BGR2RGB, 'mono8': cv2.COLOR_BGR2GRAY}


def read_folder(folder: Path, loop: bool) -> Iterator[np.ndarray]:
    """
    Yield the images of a folder, sorted by name, as (H, W, 3) uint8 BGR.

    A file that cannot be decoded is skipped, and named on standard error.

    :raises ValueError: if the folder has no image that can be read.
    """
    paths = image_paths(folder)
    if others := other_images(folder, recursive=False):
        print(f'skipped {folder}: {others}', file=sys.stderr)
    kept: dict[Path, np.ndarray] = {}
    for turn in itertools.count():
        shown = 0
        for path in paths:
            try:
                pixels = kept[path] if path in kept else read_image(path).pixels
            except ValueError as error:
                if turn == 0:
                    print(f'skipped {path}: it does not decode: {error}', file=sys.stderr)
                continue
            if len(paths) <= KEPT:
                kept[path] = pixels
            shown += 1
            yield pixels
        if not shown:
            raise ValueError(f'expected images ({", ".join(IMAGES)}) in {folder}, found none that '
                             'can be read; correct the parameter source')
        if not loop:
            return


def read_video(path: str, loop: bool) -> Iterator[np.ndarray]:
    """
    Yield the frames of a video file as (H, W, 3) uint8 BGR.

    :raises ValueError: if the file cannot be opened or has no frame.
    """
    while True:
        try:
            shots = Video(Path(path)).shots()
            first = next(shots, None)
        except ValueError:
            first = None
        if first is None:
            raise ValueError('expected a folder of images, a video file or a webcam as source, '
                             f'got {path!r}, which gives no frame')
        yield first.pixels
        yield from (shot.pixels for shot in shots)
        if not loop:
            return


def is_webcam(source: str) -> bool:
    """Return whether a source is a webcam: a number or a device."""
    return source.isdigit() or source.startswith('/dev/')


def read_webcam(source: str, devices: Path = Path('/dev')) -> Iterator[np.ndarray]:
    """
    Yield the frames of a webcam as (H, W, 3) uint8 BGR, as long as it delivers.

    :raises ValueError: if it delivers no frame; the message names the likely reason.
    """
    device = devices / f'video{source}' if source.isdigit() else Path(source)
    if not device.exists():
        there = ', '.join(sorted(map(str, devices.glob('video*')))) or 'none'
        raise ValueError(f'expected a webcam at {device}, found none; cameras of this machine: '
                         f'{there}; start a container with docker run --device {device}')
    if not os.access(device, os.R_OK | os.W_OK):
        raise ValueError(f'expected a webcam at {device} that this user may open, but permission '
                         'is denied; join its group (sudo usermod -aG video $USER) and log in '
                         'again')
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, WEBCAM_BUFFER)
    good, pixels = capture.read()
    if not good:
        raise ValueError(f'expected frames of the webcam {device}, got none; close other programs '
                         'that use it, or try the next number')
    while good:
        yield pixels
        good, pixels = capture.read()
    capture.release()


def open_source(source: str, loop: bool) -> Iterator[np.ndarray]:
    """Return the frames of a folder of images, a video file or a webcam; raises ValueError."""
    if not source:
        raise ValueError("expected a source: set the parameter source to a folder of images, a "
                         "video file or a webcam ('0', in quotes, or /dev/video0)")
    if is_webcam(source):
        return read_webcam(source)
    return read_folder(Path(source), loop) if os.path.isdir(source) else read_video(source, loop)


class CameraNode(Node):
    """Publishes `image` or `image/compressed` at a given rate."""

    def __init__(self, **kwargs: Any) -> None:
        """
        Open the source.

        :raises ValueError: if the source has no frame, or for an invalid parameter.
        """
        super().__init__('camera', **kwargs)
        self._settings = declare(self, CameraParameters)
        source = os.path.expanduser(self._settings.source)
        frames = open_source(source, self._settings.loop)
        first = next(frames)  # raises ValueError now if there is none
        self._frames = itertools.chain([first], frames)
        self._waits = not is_webcam(source)
        base = self.resolve_topic_name('image')
        compressed = self._settings.image_transport == 'compressed'
        self._topic = self.create_publisher(
            CompressedImage if compressed else Image,
            f'{base}/compressed' if compressed else base,
            QoSProfile(depth=5),  # reliable, so that subscribers of either kind match
            qos_overriding_options=QoSOverridingOptions.with_default_policies())
        # By the steady clock: simulated time may stand still, and then the node could not end.
        self.create_timer(1 / self._settings.rate, self._publish,
                          clock=Clock(clock_type=ClockType.STEADY_TIME))
        height, width = self._scaled(first).shape[:2]
        self.get_logger().info(f'{source} on {self._topic.topic_name}: {width} x {height} px, '
                               f'{self._settings.rate:g} Hz')

    def _publish(self) -> None:
        if self._waits and self._topic.get_subscription_count() < self._settings.listeners:
            return
        self._waits = False
        pixels = next(self._frames, None)
        if pixels is None:
            self.get_logger().info('the source has ended')
            self.context.try_shutdown()
            return
        # The stamp is taken after the frame, as reading a webcam may wait.
        header = Header(stamp=self.get_clock().now().to_msg(),
                        frame_id=self._settings.frame_id)
        self._topic.publish(self._message(self._scaled(pixels), header))

    def _scaled(self, pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        size = self._settings.width or width, self._settings.height or height
        return pixels if size == (width, height) else cv2.resize(
            pixels, size, interpolation=cv2.INTER_AREA)

    def _message(self, pixels: np.ndarray, header: Header) -> Image | CompressedImage:
        if self._settings.image_transport == 'compressed':
            _, data = cv2.imencode('.jpg', pixels, (cv2.IMWRITE_JPEG_QUALITY,
                                                    self._settings.jpeg_quality))
            return CompressedImage(header=header, format='bgr8; jpeg compressed bgr8',
                                   data=byte_array(data))
        encoding = self._settings.encoding
        if encoding != 'bgr8':
            pixels = cv2.cvtColor(pixels, _FROM_BGR[encoding])
        return to_image(pixels, encoding, header)


def main(args: list[str] | None = None) -> None:
    """Publish until the source ends or a signal comes; exit with 1 if it cannot be read."""
    read(parser('camera_node', __doc__), args)
    begin('camera_node', args)
    with until_stopped(), refusing('camera_node', ParameterException, ValueError):
        rclpy.spin(CameraNode())


if __name__ == '__main__':
    main()
