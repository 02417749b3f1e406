"""One camera of the classifier: its subscriptions, its result topics and its counts."""
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
import threading
import time
from typing import Any

from builtin_interfaces.msg import Time
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node, SubscriptionEventCallbacks
from rclpy.qos import qos_check_compatible, QoSCompatibility, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions, QoSPolicyKind
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rclpy.validate_topic_name import validate_topic_name
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Classification
from vl2v_msgs.msg import LabelArray
from vl2v_ros import frame_profile
from vl2v_ros.drawing.boxes import draw_boxes
from vl2v_ros.drawing.overlay import draw
from vl2v_ros.images.frame import Frame
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.nodes import messages
from vl2v_ros.nodes.image_executor import ImageExecutor, ImageGroup
from vl2v_ros.nodes.topics.embedding_topics import EmbeddingTopics
from vl2v_ros.nodes.topics.marks import Marks
from vl2v_ros.nodes.topics.region_pairs import Pair
from vl2v_ros.nodes.topics.reliability import offered_reliability
from vl2v_ros.nodes.transport import shortage
from vl2v_ros.nodes.worker import Asked, Current, Cut, Predictions, whole

TRANSPORTS = {'raw': Image, 'compressed': CompressedImage}
SILENCE = 2.0  # time without an image after which diagnostics warn [s]
TOLD = 5.0  # and after which the log does, as cameras take their time to start [s]
RAW_FIRST = 1.0  # time that raw images are waited for once compressed ones come [s]
LATEST = 60.0  # an older stamp is from another clock, or not set [s]
TRANSPORT_SETTINGS = ('the transport settings of the launch file '
                      '(FASTDDS_DEFAULT_PROFILES_FILE) on both sides')
AUTO = 'auto'
UNNUMBERED = 2 ** 64 - 1  # number of a message from a middleware that does not count
RELIABILITIES = {'reliable': ReliabilityPolicy.RELIABLE,
                 'best_effort': ReliabilityPolicy.BEST_EFFORT}


@dataclass
class Counts:
    """
    Counts of images since the node became active.

    lost: images that were sent but did not arrive, by their sequence numbers; counted only while
    one and the same publisher sends.
    last_received: time of the last image by time.monotonic [s].
    latencies: latencies of the last answers [s]; None for images with an invalid stamp.
    """

    received: int = 0
    lost: int = 0
    answered: int = 0
    refused: int = 0
    refusal: str = ''
    last_received: float = 0.0
    latencies: deque[float | None] = field(default_factory=lambda: deque(maxlen=30))


class CameraTopics:
    """
    The topics of one camera.

    A camera 'front' is received on front/image and front/image/compressed and answered on
    ~/front/labels and so on; the camera without a name on image, image/compressed and ~/labels.
    The subscription is reliable if all publishers are: best effort loses most of the larger
    images that are not sent through shared memory.
    """

    def __init__(self, node: Node, name: str, transport: str, overlay: bool) -> None:
        """
        Create the result topics; the subscriptions follow in `open`.

        :raises ValueError: for an invalid reliability.
        """
        self.name, self._node, self._transport = name, node, transport
        self._executor: ImageExecutor | None = None
        inside = f'{name}/' if name else ''
        validate_topic_name(f'{inside}image')
        # Resolved first, so that remapping `image` carries `image/compressed` along.
        base = node.resolve_topic_name(f'{inside}image')
        self.topics = {'raw': base, 'compressed': f'{base}/compressed'}
        self.labels = node.create_publisher(LabelArray, f'~/{inside}labels', 10)
        self.classification = node.create_publisher(Classification, f'~/{inside}classification',
                                                    10)
        self.overlay = node.create_publisher(Image, f'~/{inside}overlay', 1) if overlay else None
        self.embeddings = EmbeddingTopics(node, name)
        self.marks = Marks()
        self._reliabilities = {transport: _declare_reliability(node, topic)
                               for transport, topic in self.topics.items()}
        self._subscriptions: dict[str, Subscription] = {}
        self._numbers: dict[str, int] = {}  # sequence number of each transport's last image
        self._came = 0.0  # first image since listening to both, by time.monotonic [s]
        self._gaps, self._gaps_before = 0, 0  # missing sequence numbers, now and a second ago
        self._publishers: list[list[int]] = []  # those of a second ago
        self._judged_before = 0, 0
        self.lately = 0, 0  # answered and refused images of the last second with an image
        # The image thread may drop a transport, the diagnostics thread may add it again.
        self._listening = threading.RLock()
        self._on_message: Callable[[Any], None] = _ignore
        self.look: Callable[[Header, Frame, Prediction, Current], None] = lambda *_: None
        self.counts = Counts()

    def open(self, on_message: Callable[[Any], None], executor: ImageExecutor) -> None:
        """Subscribe to the images; the executor calls `on_message`."""
        self._on_message, self._executor = on_message, executor
        self.counts = Counts(last_received=time.monotonic())
        self._judged_before = self.lately = 0, 0
        self._listen(*(TRANSPORTS if self._transport == 'auto' else [self._transport]))

    def close(self) -> None:
        """Unsubscribe from the images."""
        self._listen()
        self._on_message = _ignore  # the other callback would keep the model in memory
        self.marks.clear()

    def follow(self) -> None:
        """Adapt to the reliability of the publishers, and update counts; call it once a second."""
        with self._listening:
            self._listen(*self._subscriptions)
            before, self._publishers = self._publishers, [
                publisher.endpoint_gid for transport in self._subscriptions
                for publisher in self._publishers_of(transport)]
            gaps, self._gaps_before = self._gaps - self._gaps_before, self._gaps
            if len(before) == 1 and before == self._publishers:
                self.counts.lost += gaps
            judged = self.counts.answered, self.counts.refused
            if judged != self._judged_before:
                self.lately = (judged[0] - self._judged_before[0],
                               judged[1] - self._judged_before[1])
                self._judged_before = judged

    def watched(self) -> bool:
        """Return whether somebody watches the overlay."""
        return bool(self.overlay and self.overlay.get_subscription_count())

    def _listen(self, *transports: str) -> None:
        with self._listening:
            wanted = {transport: self._reliability(transport) for transport in transports}
            for transport, subscription in list(self._subscriptions.items()):
                if wanted.get(transport) != subscription.qos_profile.reliability:
                    self._node.destroy_subscription(self._subscriptions.pop(transport))
            for transport in wanted.keys() - self._subscriptions.keys():
                self._numbers.pop(transport, None)
                self._came = 0.0
                assert self._executor is not None  # nothing is wanted before `open`
                self._subscriptions[transport] = self._subscribe(
                    transport, wanted[transport], self._executor.group)
                self._executor.wake()

    def _reliability(self, transport: str) -> ReliabilityPolicy:
        """Return the reliability of the parameter, else reliable if all publishers are."""
        if asked_for := self._reliabilities[transport]:
            return asked_for
        return offered_reliability(self._publishers_of(transport))

    def _publishers_of(self, transport: str) -> list[TopicEndpointInfo]:
        return self._node.get_publishers_info_by_topic(self.topics[transport])

    def _subscribe(self, transport: str, reliability: ReliabilityPolicy, group: ImageGroup
                   ) -> Subscription:
        return self._node.create_subscription(
            TRANSPORTS[transport], self.topics[transport],
            lambda message, info: self._receive(message, info, transport),
            QoSProfile(depth=1, reliability=reliability), callback_group=group,
            # rclpy cannot destroy its event callbacks while another thread waits for them; the
            # diagnostics report what they would log.
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
            qos_overriding_options=QoSOverridingOptions(
                (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH)))

    def _receive(self, message: Image | CompressedImage, info: Mapping[str, int], transport: str
                 ) -> None:
        if len(self._subscriptions) > 1:  # auto: keep the first transport that delivers
            self._came = self._came or time.monotonic()
            # Some drivers offer raw images beside the JPEGs of a camera, and send none.
            if (transport == 'compressed' and time.monotonic() < self._came + RAW_FIRST
                    and self._node.count_publishers(self.topics['raw'])):
                return
            self._listen(transport)
            self._node.get_logger().info(f'receives images on {self.topics[transport]}')
        frame_profile.add('receive', self._now() - _seconds(message.header.stamp))
        self._count(transport, info.get('publication_sequence_number', UNNUMBERED))
        self._on_message(message)

    def _count(self, transport: str, number: int) -> None:
        """Count an image, and the missing ones between it and the one before."""
        before = self._numbers.get(transport, UNNUMBERED)
        if before < number < UNNUMBERED:
            self._gaps += number - before - 1
        self._numbers[transport] = number
        self.counts.received += 1
        self.counts.last_received = time.monotonic()

    def answer(self, asked: Asked, frame: Frame, predictions: Predictions, used: Current) -> None:
        """Publish the results of one frame under the header of its message."""
        assert not isinstance(asked, Pair | Cut)  # boxes have topics of their own
        header, parameters, prediction = asked.header, used.parameters, whole(predictions)
        assert parameters.unknown_threshold is not None  # the checkpoint's, if not the user's
        labels = messages.to_label_array(prediction, header)
        classification = messages.to_classification(
            prediction, header, parameters.unknown_threshold, parameters.score_threshold)
        frame_profile.mark('message')
        self.labels.publish(labels)
        self.classification.publish(classification)
        frame_profile.mark('publish')
        self.embeddings.publish(header, frame, prediction)
        if self.overlay and self.watched():
            drawn = draw(frame, prediction, parameters.font)
            draw_boxes(drawn, self.marks.near(header.stamp, parameters.region_slack),
                       parameters.font)
            self.overlay.publish(messages.to_image(drawn, 'rgb8', header))
            frame_profile.mark('overlay')
        self.look(header, frame, prediction, used)
        self.counts.answered += 1
        latency = self._now() - _seconds(header.stamp)
        self.counts.latencies.append(latency if 0 <= latency < LATEST else None)

    def refuse(self, reason: str) -> None:
        """Count an image that cannot be used, and log the reason."""
        self.counts.refused += 1
        self.counts.refusal = reason
        if not self._node.context.ok():
            return  # the node is stopping: nothing is wrong with the image
        self._node.get_logger().warning(f'{self.topics["raw"]}: image refused: {reason}',
                                        throttle_duration_sec=5.0)

    def silence(self) -> str:
        """Return why no image came for 2 s, '' if one came; subscribe to both transports again."""
        quiet = time.monotonic() - self.counts.last_received
        if quiet < SILENCE:
            return ''
        with self._listening:
            if self._transport == 'auto':
                self._listen(*TRANSPORTS)
            heard = ' or '.join(self.topics[name] for name in sorted(self._subscriptions))
            reason = f'no image on {heard} for {quiet:.0f} s: {self._why_silent()}'
        if quiet >= TOLD:
            self._node.get_logger().warning(reason, throttle_duration_sec=30.0)
        return reason

    def why_lost(self) -> str:
        """Return the reliability of the subscriptions, and advice for images that get lost."""
        heard = ', '.join(subscription.qos_profile.reliability.name.lower().replace('_', ' ')
                          for subscription in list(self._subscriptions.values()))
        return f'({heard}); large images need {TRANSPORT_SETTINGS}{shortage()}'

    def _why_silent(self) -> str:
        for transport, topic in self.topics.items():
            publishers = self._publishers_of(transport)
            if publishers and transport not in self._subscriptions:
                return (f'{publishers[0].node_name} publishes on {topic} instead; set the '
                        f'parameter image_transport to {transport} or auto')
            for publisher in publishers:
                expected = 'sensor_msgs/msg/' + TRANSPORTS[transport].__name__
                if publisher.topic_type != expected:
                    return (f'{publisher.node_name} publishes {publisher.topic_type} on {topic}, '
                            f'expected {expected}')
                compatible, reason = qos_check_compatible(
                    publisher.qos_profile, self._subscriptions[transport].qos_profile)
                if compatible == QoSCompatibility.ERROR:
                    return (f'{publisher.node_name} publishes on {topic} with an incompatible '
                            f'QoS: {reason} Change it with the parameters '
                            f'qos_overrides.{topic}.subscription.*')
            if publishers:
                return (f'{publishers[0].node_name} publishes on {topic} but nothing arrives; '
                        f'is the camera running? Large images need {TRANSPORT_SETTINGS}'
                        f'{shortage()}')
        return 'nobody publishes there; start the camera, or remap `image` to its topic'

    def _now(self) -> float:
        return self._node.get_clock().now().nanoseconds * 1e-9


def _seconds(stamp: Time) -> float:
    return stamp.sec + stamp.nanosec * 1e-9


def _ignore(message: Image | CompressedImage) -> None:
    pass


def _declare_reliability(node: Node, topic: str) -> ReliabilityPolicy | None:
    """Declare the parameter for the reliability of a topic; return its value, None for auto."""
    name = f'qos_overrides.{topic}.subscription.reliability'
    value: str = node.declare_parameter(name, AUTO, ParameterDescriptor(
        read_only=True, description='Reliability of the subscription: auto (what the publishers '
        'offer), reliable or best_effort')).value
    if value != AUTO and value not in RELIABILITIES:
        raise ValueError(f'parameter {name}: expected {AUTO}, {" or ".join(RELIABILITIES)}, got '
                         f'{value!r}')
    return RELIABILITIES.get(value)
