"""Nodes as processes of their own, in a DDS domain of their own, and a peer to talk to them."""
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
import fcntl
import itertools
import json
import os
from pathlib import Path
import sys
import tempfile
import threading
import time
from typing import Any, Generic, TypeVar

from builtin_interfaces.msg import Time
import cv2
import numpy as np
import pytest
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import PublisherEventCallbacks
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from support import shapes
from support.processes import PATIENCE, Process, wait_until
from vl2v_msgs.msg import LabelArray
from vl2v_ros.nodes.messages import byte_array, to_image
from vl2v_ros.nodes.transport import environment

T = TypeVar('T')
DOMAINS = range(1, 102)  # higher ones reach into Linux's ephemeral ports
LENT = itertools.count(7 * os.getpid())  # the domain to try first, of each that is lent
LOST = 15.0  # without an answer for so long, a request counts as lost on the way [s]
PIXELS = np.full((48, 64, 3), 127, np.uint8)
LABELS = ('red circle', 'blue square', 'green triangle', 'yellow star', 'white circle',
          'purple square')


@contextmanager
def own_domain() -> Iterator[int]:
    """
    Lend a ROS_DOMAIN_ID that no other test has, in no other suite of this machine either.

    The next is another one: nodes that were killed are known in a domain for 20 s.
    """
    first = next(LENT)
    for number in sorted(DOMAINS, key=lambda number: (number - first) % len(DOMAINS)):
        with (Path(tempfile.gettempdir()) / f'ros_domain_{number}.lock').open('a') as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield number
            return
    raise RuntimeError('all ROS domains are lent')


@dataclass
class Received(Generic[T]):
    """Messages of a topic and when each came [s], by the thread that does nothing but listen."""

    messages: list[T] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def add(self, message: T) -> None:
        self.times.append(time.time())
        self.messages.append(message)

    def wait_for(self, wanted: Callable[[T], Any], since: int = 0,
                 patience: float = PATIENCE) -> T:
        """Return the first message from number `since` on that is wanted."""
        return wait_until(lambda: next((message for message in self.messages[since:]
                                        if wanted(message)), None), 'message', patience)

    def wait_for_frame(self, frame_id: str) -> T:
        """Return the message whose header has this frame_id."""
        return self.wait_for(lambda message: message.header.frame_id == frame_id)


def what_was_sent(publisher: Process) -> tuple[dict[str, Time], float]:
    """
    Wait for frame_publisher.py to end.

    :return: the stamps by frame_id, and by how much a frame was late at most [s].
    """
    assert publisher.wait() == 0, publisher.output
    said = json.loads(publisher.output)
    return {frame_id: Time(sec=sec, nanosec=nanosec)
            for frame_id, (sec, nanosec) in said['sent'].items()}, said['lateness']


class Ros:
    """One DDS domain: nodes as processes, and one node of the test's own, spun by a thread."""

    def __init__(self, domain: int, folder: Path) -> None:
        settings = environment()
        self._folder, self._numbers = folder, itertools.count()
        self._env = {'ROS_DOMAIN_ID': str(domain), 'ROS_LOG_DIR': str(folder / 'ros_log'),
                     **settings}
        self._processes: list[Process] = []
        self._clients: dict[str, Any] = {}
        self._answering: set[str] = set()  # services, since the last process was started
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            # Fast DDS reads its profiles with the first participant of a process, here.
            self.node = rclpy.create_node('peer', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass

    def close(self) -> None:
        for process in self._processes:
            process.close()
        rclpy.shutdown(context=self._context)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), 'the executor of the peer does not end'

    def news(self) -> str:
        """Return what all processes said since the last call."""
        return ''.join(process.news() for process in self._processes)

    def run(self, *command: object, env: Mapping[str, str] = {}) -> Process:
        """Start a program in this domain: a command, or a script as support.warm takes it."""
        self._answering.clear()
        log = self._folder / f'process_{next(self._numbers)}.log'
        process = Process([str(word) for word in command], log, {**self._env, **env})
        self._processes.append(process)
        return process

    def start(self, module: str, parameters: Mapping[str, object], *arguments: str,
              env: Mapping[str, str] = {}, fresh: bool = False) -> Process:
        """
        Start a node of vl2v_ros.

        :param arguments: as after --ros-args, such as '-r', 'a:=b'.
        :param fresh: start a new Python, as a user does; else see support.warm.
        """
        given = [word for name, value in parameters.items()
                 for word in ('-p', f'{name}:={json.dumps(value, default=str)}')]
        program = ([sys.executable, '-m', f'vl2v_ros.nodes.{module}'] if fresh else
                   [f'vl2v_ros/nodes/{module.replace(".", "/")}.py'])
        return self.run(*program, '--ros-args', *given, *arguments, env=env)

    def classifier(self, parameters: Mapping[str, object], *arguments: str,
                   fresh: bool = False) -> Process:
        """Start a classifier and wait until it is active."""
        process = self.start('classifier_node', parameters, *arguments, fresh=fresh)
        return process.wait_for_output('labels images of')

    def publish_frames(self, frames: Path, topic: str = 'image', count: int = 300,
                       rate: float = 30.0, encoding: str = 'rgb8',
                       reliability: str = 'best_effort', settle: float = 0.5,
                       env: Mapping[str, str] = {}) -> Process:
        """Send drawn frames, see `draw_frames`, from a process of its own."""
        program = Path(__file__).parent / 'frame_publisher.py'
        # Variables of their own are read at the start of a process.
        return self.run(*[sys.executable] * bool(env), program, frames, topic, count, rate,
                        encoding, reliability, settle, env=env)

    def subscribe(self, kind: type[T], topic: str, qos: QoSProfile | int = 1000) -> Received[T]:
        """Collect what comes on a topic; returns once a publisher is matched."""
        received: Received[T] = Received()

        subscription = self.node.create_subscription(kind, topic, received.add, qos)
        wait_until(subscription.get_publisher_count, f'a publisher on {topic}')
        return received

    def offer(self, kind: type, topic: str, qos: QoSProfile | int = 10) -> Publisher:
        """Offer a topic; destroying it is safe while the thread spins, as it has no events."""
        return self.node.create_publisher(
            kind, topic, qos, event_callbacks=PublisherEventCallbacks(use_default_callbacks=False))

    def publisher(self, kind: type, topic: str, qos: QoSProfile | int = 10) -> Publisher:
        """Offer a topic; returns once a subscriber is matched."""
        publisher = self.offer(kind, topic, qos)
        wait_until(publisher.get_subscription_count, f'a subscriber of {topic}')
        return publisher

    def call(self, kind: type, name: str, **fields: Any) -> Any:
        """
        Call a service and return its response.

        The first request to a service that was just found may get lost in DDS: matched on this
        side does not mean matched on the other. Who calls services asks again, then.
        """
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = self.node.create_client(kind, name)
        assert client.wait_for_service(PATIENCE), f'no service {name}'
        answers, answered = [], threading.Event()

        def keep(future: Future) -> None:
            answers.append(future.result())
            answered.set()
        for patience in (PATIENCE,) if name in self._answering else (LOST, PATIENCE):
            client.call_async(kind.Request(**fields)).add_done_callback(keep)
            if answered.wait(patience):
                self._answering.add(name)
                return answers[0]
        raise AssertionError(f'{name} does not answer')


def draw_frames(path: Path, width: int, height: int) -> Path:
    """Write an archive with a frame of each of LABELS."""
    rng = np.random.default_rng(0)
    np.savez(path, **{label: shapes.draw(label, width, height, rng) for label in LABELS})
    return path


class Camera:
    """The test's own camera: shows one image at a time and waits for the classifier's answer."""

    def __init__(self, ros: Ros, image: str = 'image', labels: str = 'classifier/labels') -> None:
        self._ros, self._numbers = ros, itertools.count()
        self._compressed = image.endswith('/compressed')
        self.answers: Received[LabelArray] = ros.subscribe(LabelArray, labels)
        self._images = ros.publisher(CompressedImage if self._compressed else Image, image)
        # Matched on this side does not mean matched on the other: what comes too early is lost.
        first = len(self.answers.messages)
        wait_until(lambda: self.send() and len(self.answers.messages) > first, 'answer', step=0.3)

    def send(self, pixels: np.ndarray = PIXELS, encoding: str = 'rgb8', **changes: object) -> str:
        """Publish an image; return its frame_id, which no other has."""
        header = Header(stamp=self._ros.node.get_clock().now().to_msg(),
                        frame_id=f'frame {next(self._numbers)}')
        message = to_image(pixels, encoding, header)
        if self._compressed:
            data = cv2.imencode('.jpg', pixels)[1]
            message = CompressedImage(header=header, format='jpeg', data=byte_array(data))
        for name, value in changes.items():
            setattr(message, name, value)
        self._images.publish(message)
        return header.frame_id

    def show(self, pixels: np.ndarray = PIXELS, encoding: str = 'rgb8') -> LabelArray:
        """Publish an image and return its answer."""
        return self.answers.wait_for_frame(self.send(pixels, encoding))

    def close(self) -> None:
        self._ros.node.destroy_publisher(self._images)
