"""What the classifier says of itself: its status on /diagnostics, and that it is alive."""
from collections import deque
from collections.abc import Mapping, Sequence
import time
import uuid

from bond.msg import Status
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from vl2v_ros.nodes.loaded import Loaded, Running
from vl2v_ros.nodes.parameters import ClassifierParameters
from vl2v_ros.nodes.topics.camera_topics import CameraTopics
from vl2v_ros.nodes.topics.region_topics import RegionTopics
from vl2v_ros.nodes.vocabulary_keeper import VocabularyKeeper

WINDOW = 6  # number of calls of `rate` that `growth` covers
PERIOD, TIMEOUT = 0.25, 4.0  # of a bond's heartbeats, as nav2's own nodes have them [s]
MUCH = 0.1  # part of a camera's images that may be lost or refused without a warning


class Rates:
    """Turns growing counts into rates between two calls, and growth over the last ones."""

    def __init__(self) -> None:
        """Start without history."""
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def rate(self, key: str, count: int, now: float) -> float:
        """Return the growth of a count since the last call [1/s]; `now` [s]."""
        seen = self._seen.setdefault(key, deque(maxlen=WINDOW))
        if seen and count < seen[-1][1]:
            seen.clear()  # counting started again
        then, before = seen[-1] if seen else (now, count)
        seen.append((now, count))
        return (count - before) / (now - then) if now > then else 0.0

    def growth(self, key: str) -> int:
        """Return the growth of a count over the last calls of `rate`."""
        return self._seen[key][-1][1] - self._seen[key][0][1]


def statuses(node_name: str, parameters: ClassifierParameters, problem: str,
             loaded: Loaded | None, running: Running | None, cameras: Sequence[CameraTopics],
             regions: Sequence[RegionTopics], rates: Rates) -> list[DiagnosticStatus]:
    """
    Describe the node, its vocabulary and its cameras; call it once a second.

    :param problem: error of the last attempt to configure the node, or ''.
    :param loaded: None while the node is not configured.
    :param running: None while the node is not active.
    """
    state = 'active' if running else 'inactive, activate it' if loaded else (
        'unconfigured, configure it')
    status = [node_status(node_name, state, problem, parameters)]
    if loaded:
        status.append(vocabulary_status(node_name, loaded.keeper))
    if loaded and running:
        vocabulary = loaded.keeper.current
        facts = {'device': loaded.classifier.runtime.description,
                 'vocabulary version': vocabulary.version, 'labels': len(vocabulary.labels)}
        for camera, boxes in zip(cameras, regions, strict=True):
            camera.follow()
            boxes.expire()
            status.append(camera_status(
                node_name, camera, running.worker.dropped(camera), rates,
                boxes.facts(running.worker.dropped(boxes)) | facts))
    return status


def camera_status(node_name: str, camera: CameraTopics, dropped: int, rates: Rates,
                  facts: Mapping[str, object]) -> DiagnosticStatus:
    """
    Describe one camera; call it once a second.

    :param rates: rates of all cameras, kept from call to call.
    :param facts: values of the whole node, such as its device.
    """
    counts, now = camera.counts, time.monotonic()
    rate = {what: rates.rate(f'{camera.name}/{what}', getattr(counts, what), now)
            for what in ('answered', 'received', 'lost')}
    level, message = _judge(camera, rate['answered'], *(
        rates.growth(f'{camera.name}/{what}') for what in ('received', 'lost')))
    stamps = list(counts.latencies)  # another thread appends
    latencies = [1000 * value for value in stamps if value is not None]
    none = 'no usable stamps' if stamps else 'none'
    values = {
        'rate [Hz]': f'{rate["answered"]:.1f}',
        'latency mean [ms]': f'{sum(latencies) / len(latencies):.1f}' if latencies else none,
        'latency max [ms]': f'{max(latencies):.1f}' if latencies else none,
        'received': counts.received,
        'lost on the way': counts.lost,
        'answered': counts.answered,
        'dropped for newer ones': dropped,
        'refused': counts.refused,
        'last refusal': counts.refusal or 'none',
        **facts,
    }
    return DiagnosticStatus(
        name=f'{node_name}: {camera.name or "camera"}', level=level, message=message,
        hardware_id=camera.topics['raw'], values=_key_values(values))


def _judge(camera: CameraTopics, rate: float, received: int, lost: int) -> tuple[bytes, str]:
    """
    Return level and message of a camera.

    :param rate: answers per second [Hz].
    :param received, lost: counts of images in the last seconds.
    """
    answered, refused = camera.lately
    judged, sent = answered + refused, received + lost
    if silence := camera.silence():
        return DiagnosticStatus.WARN, silence
    if refused and not answered:
        return DiagnosticStatus.ERROR, f'no usable image: {camera.counts.refusal}'
    if refused > MUCH * judged:
        return DiagnosticStatus.WARN, (f'{rate:.1f} Hz; {refused} of the last {judged} images '
                                       f'were refused: {camera.counts.refusal}')
    if lost > MUCH * sent:
        return DiagnosticStatus.WARN, (f'{rate:.1f} Hz; {lost} of the last {sent} images did not '
                                       f'arrive {camera.why_lost()}')
    return DiagnosticStatus.OK, f'{rate:.1f} Hz'


def node_status(node_name: str, state: str, problem: str, parameters: ClassifierParameters
                ) -> DiagnosticStatus:
    """
    Describe the node itself, in any state.

    :param state: the lifecycle state, with what to do if the node is not active.
    :param problem: why it could not be configured, '' if it could.
    """
    values = {name: getattr(parameters, name) for name in
              ('top_k', 'max_rate', 'unknown_threshold', 'score_threshold')}
    return DiagnosticStatus(
        name=f'{node_name}: node',
        level=DiagnosticStatus.ERROR if problem else DiagnosticStatus.OK,
        message=f'{state}: {problem}' if problem else state, values=_key_values(values))


def vocabulary_status(node_name: str, vocabularies: VocabularyKeeper) -> DiagnosticStatus:
    """Describe the current vocabulary, and problems of the last request."""
    vocabulary, problems = vocabularies.current, list(vocabularies.problems.values())
    values = {
        'version': vocabulary.version,
        'labels': len(vocabulary.labels),
        'labels with descriptions': sum(map(bool, vocabulary.descriptions)),
        'background prompts': len(vocabulary.background),
        'prompts': vocabulary.note or f'all {len(vocabulary.prompts)} are in use',
        'descriptions asked for': vocabularies.enrichment,
        'kept in': vocabularies.persist or 'no file',
    }
    return DiagnosticStatus(
        name=f'{node_name}: vocabulary',
        level=DiagnosticStatus.WARN if problems else DiagnosticStatus.OK,
        message='; '.join(problems) or f'{len(vocabulary.labels)} labels',
        values=_key_values(values))


def _key_values(values: Mapping[str, object]) -> list[KeyValue]:
    return [KeyValue(key=key, value=str(value)) for key, value in values.items()]


class Bond:
    """
    The node's side of a bond of bond_core: heartbeats on `bond` while it is formed.

    nav2's lifecycle manager takes a node for dead that does not form one, or ends it. The node
    does not listen: like nav2's own nodes, it stays as it is if its manager ends.
    """

    def __init__(self, node: Node) -> None:
        """Create the topic, so that a manager has found it before the bond is formed."""
        self._node = node
        self._instance = ''  # empty: not formed
        self._topic = node.create_publisher(Status, 'bond', 5)
        self._clock = Clock(clock_type=ClockType.STEADY_TIME)  # simulated time may stand still
        node.create_timer(PERIOD, self._beat, MutuallyExclusiveCallbackGroup(), self._clock)

    def form(self) -> None:
        """Start the heartbeats, under a name that no bond has had."""
        self._instance = str(uuid.uuid4())

    def end(self) -> None:
        """Say that it ends on purpose, unless there is none or ROS is shut down."""
        instance, self._instance = self._instance, ''
        if instance and self._node.context.ok():
            self._publish(instance, active=False)

    def _beat(self) -> None:
        if instance := self._instance:
            self._publish(instance, active=True)

    def _publish(self, instance: str, active: bool) -> None:
        message = Status(id=self._node.get_name(), instance_id=instance, active=active,
                         heartbeat_period=PERIOD, heartbeat_timeout=TIMEOUT)
        message.header.stamp = self._clock.now().to_msg()
        self._topic.publish(message)
