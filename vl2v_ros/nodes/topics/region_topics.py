"""The regions of one camera: boxes of any detector in, the same boxes with our labels out."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
import itertools
import math
import time

from rclpy.node import Node, SubscriptionEventCallbacks
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray
from vl2v_ros.images.frame import Frame
from vl2v_ros.model.where import Found
from vl2v_ros.nodes import messages
from vl2v_ros.nodes.image_executor import ImageExecutor
from vl2v_ros.nodes.parameters import ClassifierParameters
from vl2v_ros.nodes.topics.camera_topics import CameraTopics
from vl2v_ros.nodes.topics.depth_topics import DepthTopics
from vl2v_ros.nodes.topics.region_pairs import Pair, Pairing
from vl2v_ros.nodes.worker import Asked, Current, Predictions, Worker

AWAY = 5.0  # after which a detector is taken for gone, and not for starting anew [s]


@dataclass
class RegionCounts:
    """
    Counts since the node became active.

    answered, refused: arrays of boxes that have an image.
    unlabelled: boxes that got no label: too small, outside, over the limit or unknown.
    """

    answered: int = 0
    refused: int = 0
    refusal: str = ''
    unlabelled: int = 0


class RegionTopics:
    """
    The topics `regions` and `~/detections` of one camera, with its name in front as for images.

    Images are kept for their boxes only while somebody publishes boxes and somebody wants
    detections, in the image or in space, or their embeddings, or watches the overlay.
    """

    def __init__(self, node: Node, camera: CameraTopics) -> None:
        """Create the result topic; the subscription follows in `open`."""
        self.name, self._node, self._camera = camera.name, node, camera
        inside = f'{camera.name}/' if camera.name else ''
        self._topic = f'{inside}regions'
        self.detections = node.create_publisher(Detection2DArray, f'~/{inside}detections', 10)
        self._subscription: Subscription | None = None
        self._worker: Worker | None = None
        self.depth = DepthTopics(node, camera)
        self.pairing: Pairing[Detection2DArray] = Pairing()
        self.counts = RegionCounts()
        self._came = -math.inf  # time of the last boxes by time.monotonic [s]

    def open(self, worker: Worker, parameters: Callable[[], ClassifierParameters],
             executor: ImageExecutor) -> None:
        """
        Subscribe to the boxes.

        :param worker: labels them.
        :param parameters: returns the current parameters.
        :param executor: receives boxes and depth; not that of the images, so that a flood of
            boxes does not delay them.
        """
        self.pairing, self.counts = Pairing(), RegionCounts()
        self._worker, self._parameters = worker, parameters
        self.depth.open(parameters, executor)
        self._subscription = self._node.create_subscription(
            Detection2DArray, self._topic, self._on_regions,
            # Compatible with all publishers; boxes are small, so few are lost.
            QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT),
            callback_group=executor.group,
            # See CameraTopics.
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
            qos_overriding_options=QoSOverridingOptions.with_default_policies())
        executor.wake()

    def close(self) -> None:
        """Unsubscribe from the boxes, and free the images that were kept for them."""
        if self._subscription:
            self._node.destroy_subscription(self._subscription)
        self._subscription = self._worker = None
        self.pairing.clear()
        self.depth.close()

    def on_image(self, image: Image | CompressedImage) -> None:
        """Let an image be labelled, and keep it for its boxes if somebody wants them."""
        if self._worker:
            self._worker.submit(self._camera, image, follows=True)
        if self._shown() and self._node.count_publishers(self._resolved()):
            self._send(self.pairing.add_image(image, self._parameters().region_slack))

    def expire(self) -> None:
        """Free what has waited too long; call it once a second."""
        if self._subscription:
            self._send(self.pairing.expire(self._parameters().region_slack))
            self.depth.follow()

    def facts(self, dropped: int) -> dict[str, object]:
        """Return the counts for diagnostics, none where no boxes have come."""
        counts: dict[str, object] = {
            'arrays of boxes answered': self.counts.answered,
            'arrays of boxes without an image': self.pairing.unmatched,
            'arrays of boxes dropped for newer ones': dropped,
            'arrays of boxes refused': self.counts.refused,
            'boxes without a label': self.counts.unlabelled}
        if self.counts.refusal:
            counts['last refusal of boxes'] = self.counts.refusal
        return (counts if any(counts.values()) else {}) | self.depth.facts()

    def _wanted(self) -> bool:
        return (bool(self.detections.get_subscription_count()) or self.depth.wanted()
                or self._camera.embeddings.wants_regions())

    def _shown(self) -> bool:
        return self._wanted() or self._camera.watched()

    def are_missing(self) -> bool:
        """Return whether somebody wants boxes, and nobody publishes any, nor did lately."""
        return (self._wanted() and not self._node.count_publishers(self._resolved())
                and time.monotonic() - self._came > AWAY)

    def publish_own(self, header: Header, frame: Frame, found: Sequence[Found],
                    parameters: ClassifierParameters) -> None:
        """Publish boxes that were found without a detector; they have no ids."""
        self._publish(header, messages.to_regions(header, [one.box for one in found]),
                      [one.prediction for one in found], frame, parameters)

    def _publish(self, header: Header, regions: Detection2DArray, predictions: Predictions,
                 frame: Frame, parameters: ClassifierParameters) -> Detection2DArray:
        """Publish boxes with their labels, and return them; header: of their image."""
        assert parameters.unknown_threshold is not None  # the checkpoint's, if not the user's
        found = messages.to_detections(regions, predictions, parameters.unknown_threshold,
                                       parameters.score_threshold)
        self.detections.publish(found)
        self._camera.embeddings.publish_regions(header, regions, predictions)
        self._camera.marks.answered(found)
        self.depth.add(found, frame)
        return found

    def _resolved(self) -> str:
        return self._subscription.topic_name if self._subscription else self._topic

    def _on_regions(self, regions: Detection2DArray) -> None:
        self._came = time.monotonic()
        if self._shown():
            self._send(self.pairing.add_regions(regions, self._parameters().region_slack))

    def _send(self, pairs: Sequence[tuple[Image | CompressedImage, Detection2DArray]]) -> None:
        for pair in itertools.starmap(Pair, pairs):
            there, asked = pair.image.header.frame_id, pair.regions.header.frame_id
            if asked and there != asked:
                self.refuse(f'expected boxes in the image of frame_id {there!r:.80}, got '
                            f'{asked!r:.80}; remap `regions` to a detector of this camera')
            elif self._worker:
                self._worker.submit(self, pair, follows=True)

    def answer(self, asked: Asked, frame: Frame, predictions: Predictions, used: Current) -> None:
        """Publish the labels of the boxes of one image."""
        assert isinstance(asked, Pair)
        found = self._publish(asked.image.header, asked.regions, predictions, frame,
                              used.parameters)
        self.counts.answered += 1
        self.counts.unlabelled += sum(not detection.results for detection in found.detections)

    def refuse(self, reason: str) -> None:
        """Count boxes whose image cannot be used, and log the reason."""
        self.counts.refused += 1
        self.counts.refusal = reason
        if self._node.context.ok():
            self._node.get_logger().warning(f'{self._topic}: boxes refused: {reason}',
                                            throttle_duration_sec=5.0)
