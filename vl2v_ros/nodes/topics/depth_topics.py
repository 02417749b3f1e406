"""The depth of one camera: how far the labelled boxes are, in its optical frame."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
import time
from typing import NamedTuple

from rclpy.node import Node, SubscriptionEventCallbacks
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions, QoSPolicyKind
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, Detection3DArray
from vl2v_ros.images.camera import camera_of
from vl2v_ros.images.depth import places, view_depth
from vl2v_ros.images.frame import Frame
from vl2v_ros.nodes.image_executor import ImageExecutor
from vl2v_ros.nodes.messages import to_box, to_detections_3d
from vl2v_ros.nodes.parameters import ClassifierParameters
from vl2v_ros.nodes.topics.camera_topics import CameraTopics
from vl2v_ros.nodes.topics.region_pairs import Pairing
from vl2v_ros.nodes.topics.reliability import offered_reliability

PATIENCE = 2.0  # time without a camera_info after which boxes are refused aloud [s]


class Labelled(NamedTuple):
    """Labelled boxes, and width and height of the image that they are in [px]."""

    found: Detection2DArray
    size: tuple[int, int]

    @property
    def header(self) -> Header:
        """The header of the boxes."""
        return self.found.header


@dataclass
class DepthCounts:
    """
    Counts since the node became active.

    answered, refused: arrays of boxes that have a depth image.
    placeless: boxes without enough valid depth in them.
    """

    answered: int = 0
    refused: int = 0
    refusal: str = ''
    placeless: int = 0


class DepthTopics:
    """
    The topics `depth`, `camera_info` and `~/detections_3d` of one camera, with its name in front.

    The node listens to depth only while somebody wants detections in space.
    """

    def __init__(self, node: Node, camera: CameraTopics) -> None:
        """Create the result topic; the subscriptions follow when somebody wants it."""
        self._node, self._marks = node, camera.marks
        inside = f'{camera.name}/' if camera.name else ''
        self.topics = {kind: node.resolve_topic_name(f'{inside}{topic}')
                       for kind, topic in ((Image, 'depth'), (CameraInfo, 'camera_info'))}
        self.detections = node.create_publisher(Detection3DArray, f'~/{inside}detections_3d', 10)
        self._subscriptions: dict[type, Subscription] = {}
        self._parameters: Callable[[], ClassifierParameters] | None = None
        self._executor: ImageExecutor | None = None
        self._info: CameraInfo | None = None
        self._since = 0.0  # when the node began to listen, by time.monotonic [s]
        self.pairing: Pairing[Labelled] = Pairing()
        self.counts = DepthCounts()

    def open(self, parameters: Callable[[], ClassifierParameters], executor: ImageExecutor
             ) -> None:
        """
        Listen from now on if somebody wants it.

        :param parameters: returns the current parameters.
        :param executor: receives the messages.
        """
        self._parameters, self._executor = parameters, executor
        self.pairing, self.counts = Pairing(), DepthCounts()
        self.follow()

    def close(self) -> None:
        """Unsubscribe, and free the depth images that were kept."""
        self._parameters = self._executor = None
        self.follow()

    def wanted(self) -> bool:
        """Return whether somebody wants detections in space."""
        return bool(self._parameters) and bool(self.detections.get_subscription_count())

    def follow(self) -> None:
        """Subscribe or unsubscribe, and free what has waited too long; call it once a second."""
        wanted, executor, before = self.wanted(), self._executor, [*self._subscriptions.values()]
        for kind, topic in self.topics.items():
            subscription = self._subscriptions.get(kind)
            reliability = offered_reliability(
                self._node.get_publishers_info_by_topic(topic)) if wanted else None
            if subscription and subscription.qos_profile.reliability != reliability:
                self._node.destroy_subscription(self._subscriptions.pop(kind))
            if executor and wanted and kind not in self._subscriptions:
                self._subscriptions[kind] = self._node.create_subscription(
                    kind, topic, self._on_depth if kind is Image else self._on_info,
                    QoSProfile(depth=1, reliability=reliability), callback_group=executor.group,
                    # See CameraTopics.
                    event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
                    qos_overriding_options=QoSOverridingOptions(
                        (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH)))
        if executor and before != [*self._subscriptions.values()]:
            executor.wake()  # until then it holds those that were destroyed
        if not wanted:
            self._info, self._since = None, 0.0
            self.pairing.clear()
        elif self._parameters:
            self._since = self._since or time.monotonic()
            self._place(self.pairing.expire(self._parameters().region_slack))

    def add(self, found: Detection2DArray, frame: Frame) -> None:
        """Take the labelled boxes of an image; they are answered once their depth is there."""
        if (parameters := self._parameters) and self.wanted():
            height, width = frame.pixels.shape[:2]
            self._place(self.pairing.add_regions(Labelled(found, (width, height)),
                                                 parameters().region_slack))

    def facts(self) -> dict[str, object]:
        """Return the counts for diagnostics, none where nobody wants detections in space."""
        counts: dict[str, object] = {
            'arrays of boxes placed by depth': self.counts.answered,
            'arrays of boxes without a depth image': self.pairing.unmatched,
            'arrays of boxes refused for their depth': self.counts.refused,
            'boxes without valid depth': self.counts.placeless}
        if self.counts.refusal:
            counts['last refusal of depth'] = self.counts.refusal
        return counts if any(counts.values()) else {}

    def _on_depth(self, depth: Image) -> None:
        if (parameters := self._parameters) and self.wanted():
            self._place(self.pairing.add_image(depth, parameters().region_slack))

    def _on_info(self, info: CameraInfo) -> None:
        self._info = info

    def _place(self, pairs: Sequence[tuple[Image | CompressedImage, Labelled]]) -> None:
        for depth, labelled in pairs:
            assert isinstance(depth, Image)
            try:
                self._answer(depth, labelled)
            except ValueError as error:
                self._refuse(str(error))
            except Exception as error:  # noqa: BLE001 no message may end the node
                self._refuse(f'{type(error).__name__}: {error}')

    def _answer(self, depth: Image, labelled: Labelled) -> None:
        info, parameters = self._info, self._parameters
        if parameters is None:
            return
        if info is None:
            raise ValueError(f'expected a camera_info on {self.topics[CameraInfo]}, none has come;'
                             ' start the driver, or remap `camera_info` to its topic')
        frames = {message.header.frame_id for message in (depth, info)} - {''}
        if len(frames) > 1:
            raise ValueError('expected depth in the frame_id of camera_info, '
                             f'{info.header.frame_id!r:.80}, got {depth.header.frame_id!r:.80}; '
                             "use the driver's depth that is registered to the colour image")
        current = parameters()
        found = labelled.found
        spots = places(view_depth(depth), [to_box(detection) for detection in found.detections],
                       camera_of(info, current.rectified), labelled.size, current.depth_min,
                       current.depth_max)
        self._marks.placed(found, spots)
        self.detections.publish(to_detections_3d(found, spots, depth.header.frame_id
                                                 or info.header.frame_id))
        self.counts.answered += 1
        self.counts.placeless += sum(spot is None for spot in spots)

    def _refuse(self, reason: str) -> None:
        """Count boxes that get no place, and log the reason."""
        self.counts.refused += 1
        self.counts.refusal = reason
        # The first camera_info may come after the first depth.
        patient = self._info is None and time.monotonic() - self._since < PATIENCE
        if self._node.context.ok() and not patient:
            self._node.get_logger().warning(f'{self.topics[Image]}: no place for boxes: {reason}',
                                            throttle_duration_sec=5.0)
