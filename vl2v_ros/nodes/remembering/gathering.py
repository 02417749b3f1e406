"""One camera of the memory: what the classifier says of its images, with picture and place."""
from collections import deque
from collections.abc import Callable
import math
import struct
import time
from typing import Any, NamedTuple

from geometry_msgs.msg import PoseStamped
import numpy as np
from rclpy.node import Node, SubscriptionEventCallbacks
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import BoundingBox2D, Detection3DArray
from vl2v_msgs.msg import Embedding, EmbeddingArray
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.regions import Box
from vl2v_ros.memory import thumbnail
from vl2v_ros.memory.sighting import Position, Seen
from vl2v_ros.nodes.messages import to_frame
from vl2v_ros.nodes.remembering.settings import MemoryParameters
from vl2v_ros.nodes.topics.reliability import offered_reliability
from vl2v_ros.words.vectors.origin import Origin

HOLD = 0.2  # time that a vector waits for what belongs to its image [s]
IMAGES, PLACES, WAITING = 12, 32, 300  # number that is kept meanwhile
MOST_BOXES = 1_000  # of an image
NEAR = 10 ** 9  # largest difference of the stamps of a pose and an image [ns]
SECOND = 10 ** 9  # [ns]
TYPES = {'raw': Image, 'compressed': CompressedImage}
Remember = Callable[[Origin, list[Seen], Callable[[Seen], bytes]], None]


class Waiting(NamedTuple):
    """A message with vectors, and when it came by time.monotonic [s]."""

    since: float
    message: Embedding | EmbeddingArray


class Gathering:
    """
    Collects the vectors of a camera's images, and joins by their stamps what belongs to them.

    The images are received as bytes and only decoded when a thumbnail is made.

    received, refused, refusal: messages with vectors, and why the last one was not used.
    """

    def __init__(self, node: Node, name: str, settings: MemoryParameters, remember: Remember
                 ) -> None:
        """Subscribe to the topics of a camera; raises rclpy's error for an invalid name."""
        self._node, self._name, self._settings = node, name, settings
        self._remember = remember
        self.received = self.refused = 0
        self.refusal = ''
        self._waiting: deque[Waiting] = deque(maxlen=WAITING)
        self._images: deque[tuple[int, bytes]] = deque(maxlen=IMAGES)
        self._frame: tuple[int, Frame | None] = -1, None  # the last one that was decoded
        self._places: deque[tuple[int, dict[str, Position]]] = deque(maxlen=PLACES)
        self._poses: deque[tuple[int, Position]] = deque(maxlen=PLACES)
        inside = f'{name}/' if name else ''
        prefix = f'{settings.classifier}/{inside}'

        def listen(kind: type, topic: str, callback: Callable[[Any], None]) -> None:
            node.create_subscription(kind, topic, callback, 50)
        listen(Embedding, f'{prefix}embedding', self._on_vectors)
        if settings.regions:
            listen(EmbeddingArray, f'{prefix}region_embeddings', self._on_vectors)
        if settings.positions:
            listen(Detection3DArray, f'{prefix}detections_3d', self._on_detections)
        listen(PoseStamped, f'{inside}pose', self._on_pose)
        base = node.resolve_topic_name(f'{inside}image')
        self.topic = base if settings.image_transport == 'raw' else f'{base}/compressed'
        self._subscription: Subscription | None = None
        self.follow()

    def follow(self) -> None:
        """Listen to the images as reliably as they are published; call it once a second."""
        if not self._settings.thumbnail_size:
            return
        wanted = offered_reliability(self._node.get_publishers_info_by_topic(self.topic))
        if self._subscription and self._subscription.qos_profile.reliability == wanted:
            return
        if self._subscription:
            self._node.destroy_subscription(self._subscription)
        self._subscription = self._node.create_subscription(
            TYPES[self._settings.image_transport], self.topic, self._on_image,
            QoSProfile(depth=4, reliability=wanted), raw=True,
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False))

    def heard(self) -> bool:
        """Return whether a classifier offers the vectors of this camera."""
        inside = f'{self._name}/' if self._name else ''
        return bool(self._node.count_publishers(f'{self._settings.classifier}/{inside}embedding'))

    def _on_vectors(self, message: Embedding | EmbeddingArray) -> None:
        self.received += 1
        self._waiting.append(Waiting(time.monotonic(), message))

    def _on_image(self, raw: bytes) -> None:
        if len(raw) > 12:  # CDR: its kind, then the header, which begins with the stamp
            seconds, nanoseconds = struct.unpack_from('<iI' if raw[1] & 1 else '>iI', raw, 4)
            self._images.append((seconds * SECOND + nanoseconds, raw))

    def _on_detections(self, message: Detection3DArray) -> None:
        header, places = message.header, {}
        for detection in message.detections:
            point = detection.bbox.center.position
            if detection.id and all(map(math.isfinite, (point.x, point.y, point.z))):
                places[detection.id] = Position(header.frame_id, point.x, point.y, point.z)
        self._places.append((_nanoseconds(header.stamp), places))

    def _on_pose(self, message: PoseStamped) -> None:
        point = message.pose.position
        if all(map(math.isfinite, (point.x, point.y, point.z))):
            self._poses.append((_nanoseconds(message.header.stamp), Position(
                message.header.frame_id, point.x, point.y, point.z)))

    def tick(self) -> None:
        """Remember what has waited long enough; call it often."""
        while self._waiting and self._waiting[0].since < time.monotonic() - HOLD:
            message = self._waiting.popleft().message
            try:
                seen = self._seen(message)
                self._remember(Origin(message.space, message.student), seen, self._thumbnail)
            except ValueError as error:
                self.refused += 1
                self.refusal = str(error)
                self._node.get_logger().warning(f'not remembered: {error}',
                                                throttle_duration_sec=10.0)

    def _seen(self, message: Embedding | EmbeddingArray) -> list[Seen]:
        """Return what a message says; raises ValueError for what cannot be so."""
        header = message.header
        if header.stamp.sec < 0 or header.stamp.nanosec >= SECOND:
            raise ValueError(f'expected a stamp from 0 s on, with less than {SECOND} nanoseconds, '
                             f'got {header.stamp.sec} s and {header.stamp.nanosec}')
        stamp = _nanoseconds(header.stamp)
        pose = min(self._poses, key=lambda pose: abs(pose[0] - stamp), default=None)
        place = pose[1] if pose and abs(pose[0] - stamp) <= NEAR else None
        known = next((places for when, places in self._places if when == stamp), {})
        # A stamp that was not set: the image came just now.
        shown = stamp or self._node.get_clock().now().nanoseconds
        if isinstance(message, Embedding):
            return [Seen(np.asarray(message.vector, np.float32), shown, self._name,
                         header.frame_id, None, place)]
        count = len(message.boxes)
        if count > MOST_BOXES or len(message.ids) not in (0, count) or (
                len(message.vectors) % count if count else message.vectors):
            raise ValueError(f'expected a vector for each of at most {MOST_BOXES} boxes, and an '
                             f'id for each or none, got {count} boxes, {len(message.vectors)} '
                             f'numbers and {len(message.ids)} ids')
        rows = np.asarray(message.vectors, np.float32).reshape(count, -1) if count else ()
        return [Seen(row, shown, self._name, header.frame_id, _box(box), known.get(one, place))
                for row, box, one in zip(rows, message.boxes, message.ids or [''] * count,
                                         strict=True)]

    def _thumbnail(self, seen: Seen) -> bytes:
        """Return a picture of what was seen, b'' if its image did not come or cannot be used."""
        try:
            frame = self._decoded(seen.stamp)
            return thumbnail.draw(frame, seen.box, self._settings.thumbnail_size
                                  ) if frame else b''
        except ValueError:
            return b''  # the classifier says what is wrong with the image

    def _decoded(self, stamp: int) -> Frame | None:
        if self._frame[0] != stamp:
            raw = next((raw for when, raw in reversed(self._images) if when == stamp), None)
            self._frame = stamp, None
            if raw is not None:
                self._frame = stamp, to_frame(deserialize_message(
                    raw, TYPES[self._settings.image_transport]))
        return self._frame[1]


def _nanoseconds(stamp: Any) -> int:
    return int(stamp.sec) * SECOND + int(stamp.nanosec)


def _box(box: BoundingBox2D) -> Box:
    centre = box.center
    values = centre.position.x, centre.position.y, box.size_x, box.size_y, centre.theta
    if not all(map(math.isfinite, values)):
        raise ValueError(f'expected a box of numbers, got {values}')
    return Box(*values)
