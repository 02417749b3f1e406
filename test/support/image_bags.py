"""Bags of images, written as a robot's recorder would."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores
from vl2v_ros.images.frame import to_rgb
from vl2v_ros.images.sources import Picture

TYPES = get_typestore(Stores.ROS2_JAZZY)
SECOND = 10 ** 9  # [ns]
START = 1_700_000_000 * SECOND  # of the recordings [ns]
DELAY = 2_000_000  # from an image's stamp to its recording [ns]
FRONT, REAR = '/front/image_raw', '/rear/image_raw/compressed'


def noise(seed: int) -> np.ndarray:
    """Return (12, 16, 3) uint8 RGB."""
    return np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)


def header(stamp: int, frame_id: str = 'camera') -> Any:
    time = TYPES.types['builtin_interfaces/msg/Time'](sec=stamp // SECOND, nanosec=stamp % SECOND)
    return TYPES.types['std_msgs/msg/Header'](stamp=time, frame_id=frame_id)


def raw(rgb: np.ndarray, stamp: int, encoding: str = 'rgb8', **changes: Any) -> Any:
    """Return an Image of (H, W, 3) uint8 RGB; `changes` are of its fields."""
    pixels = np.ascontiguousarray({'rgb8': rgb, 'bgr8': rgb[..., ::-1],
                                   'mono8': rgb[..., 0]}.get(encoding, rgb))
    height, width = pixels.shape[:2]
    return TYPES.types['sensor_msgs/msg/Image'](**{
        'header': header(stamp), 'height': height, 'width': width, 'encoding': encoding,
        'is_bigendian': 0, 'step': pixels.nbytes // height, 'data': pixels.reshape(-1), **changes})


def compressed(rgb: np.ndarray, stamp: int, ending: str = '.png', cut: int = 0) -> Any:
    """Return a CompressedImage whose last `cut` bytes are missing."""
    data = cv2.imencode(ending, rgb[..., ::-1])[1]
    return TYPES.types['sensor_msgs/msg/CompressedImage'](
        header=header(stamp), format=ending[1:], data=data[:len(data) - cut])


def text(data: str) -> Any:
    """Return a message that is no image."""
    return TYPES.types['std_msgs/msg/String'](data=data)


def recording(count: int = 4) -> list[tuple[str, int, Any]]:
    """Return the messages of two cameras and a topic of text, 10 Hz each."""
    messages = []
    for number in range(count):
        stamp = START + number * SECOND // 10
        messages += [(FRONT, stamp, raw(noise(number), stamp, 'bgr8')),
                     (REAR, stamp + 5, compressed(noise(100 + number), stamp + 5)),
                     ('/chatter', stamp + 7, text('no image'))]
    return messages


def frames(pictures: Sequence[Picture], topic: str) -> list[np.ndarray]:
    """Return the (H, W, 3) uint8 RGB of the pictures of a topic."""
    return [to_rgb(picture.frame) for picture in pictures if picture.topic == topic]


def write(folder: Path, messages: Sequence[tuple[str, int, Any]],
          storage: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """Write a bag of (topic, stamp [ns], message); each is recorded DELAY after its stamp."""
    with Writer(folder, version=8, storage_plugin=storage) as writer:
        connections: dict[str, Any] = {}
        for topic, stamp, message in messages:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=TYPES)
            writer.write(connections[topic], stamp + DELAY, TYPES.serialize_cdr(message, kind))
    return folder
