"""A node and a camera as processes of their own, and a monitor that records each answer."""
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, ExitStack, suppress
import json
import os
from pathlib import Path
import re
import signal
import subprocess
import threading
import time
from typing import Any

from benchmarks import machine
from benchmarks.contenders import camera_command, environment_of, node_command, Setup
from benchmarks.timing import summarise
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.subscription import Subscription
from vision_msgs.msg import Classification

PATIENCE = 120.0  # time limit of a node's first answer, and of its end [s]
AFTERWARDS = 1.0  # answers are awaited for this time plus the setup's `patience` [s]


class Unusable(Exception):
    """A measurement that cannot be made; the text says why."""


class Monitor:
    """Records when each answer came, by the stamp of its frame; both [ns]."""

    def __init__(self) -> None:
        self.received: dict[str, dict[int, int]] = {}
        self.node = rclpy.create_node('benchmark_monitor')
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            rclpy.spin(self.node)

    @contextmanager
    def listening(self, topics: Sequence[str]) -> Iterator[None]:
        """Record the answers on these topics while the block runs."""
        subscriptions = [self._listen(topic) for topic in topics]
        try:
            yield
        finally:
            for subscription in subscriptions:
                self.node.destroy_subscription(subscription)

    def _listen(self, topic: str) -> Subscription:
        received: dict[int, int] = {}
        self.received[topic] = received

        def note(message: Classification) -> None:
            now = time.time_ns()
            stamp = message.header.stamp
            received[stamp.sec * 1_000_000_000 + stamp.nanosec] = now

        return self.node.create_subscription(Classification, topic, note, 1000)

    def check_alone(self, setup: Setup) -> None:
        """Raise Unusable if another node publishes on a topic of the setup."""
        for topic in (*setup.images, *setup.answers):
            others = self.node.get_publishers_info_by_topic(topic)
            if others:
                raise Unusable(f'{others[0].node_namespace.rstrip("/")}/{others[0].node_name} '
                               f'publishes on {topic} already; stop it, or set another '
                               'ROS_DOMAIN_ID')

    def close(self) -> None:
        rclpy.try_shutdown()
        self._thread.join()


class Rig:
    """A setup that runs."""

    def __init__(self, setup: Setup, monitor: Monitor, node: subprocess.Popen[str],
                 camera: subprocess.Popen[str], log: Path) -> None:
        self.setup, self.log = setup, log
        self._monitor, self._node, self._camera = monitor, node, camera
        self.seconds_to_first = 0.0
        """From the start of the node to its first answer [s]."""
        self.runs_on = ''
        """The runtime of our node, from its log."""

    def send(self, rate: float, seconds: float) -> list[list[int]]:
        """Let the camera send at a rate [Hz]; return the stamps on each topic [ns]."""
        return send(self._camera, rate, seconds, self.setup.together)

    def check_running(self) -> None:
        """Raise Unusable if the node has ended."""
        if self._node.poll() is not None:
            raise Unusable(f'the node ended with {self._node.returncode}: '
                           f'{self.log.read_text(errors="replace").strip()[-300:]}')

    def await_answer(self, started: int) -> None:
        """Send frames until one is answered on each topic; `started`: start of the node [ns]."""
        end = time.monotonic() + PATIENCE
        while not all(self._monitor.received[topic] for topic in self.setup.answers):
            self.check_running()
            if time.monotonic() > end:
                raise Unusable(f'no answer in {PATIENCE:.0f} s')
            self.send(30, 0.1)
        first = [min(self._monitor.received[topic].values()) for topic in self.setup.answers]
        self.seconds_to_first = (min(first, default=started) - started) / 1e9
        said = re.search('runs on (.*)', self.log.read_text(errors='replace'))
        self.runs_on = said[1] if said else ''

    def measure(self, rate: float, seconds: float) -> dict[str, float]:
        """Send at a rate [Hz] on each topic, and return the figures of all cameras together."""
        self._settle()
        for topic in self.setup.answers:
            self._monitor.received[topic].clear()
        pid, before = self._node.pid, machine.cpu_time(self._node.pid)
        sent = self.send(rate, seconds)
        self._await_rest(sent)
        used = machine.cpu_time(pid) - before
        runs = [summarise(stamps, self._monitor.received[topic])
                for stamps, topic in zip(sent, self.setup.answers, strict=True)]
        found = {name: sum(run.get(name, 0) for run in runs) / len(runs) for name in runs[0]}
        found |= {name: sum(run[name] for run in runs) for name in ('sent', 'missed')}
        answered = found['sent'] - found['missed']
        if answered:
            found['cpu'] = 1e3 * used / answered
        found['memory'] = machine.memory(pid)
        gpu = machine.gpu_memory(pid)
        return found if gpu is None else found | {'gpu memory': gpu}

    def _settle(self) -> None:
        """Wait until the node has answered its queue."""
        def answered() -> int:
            return sum(len(self._monitor.received[topic]) for topic in self.setup.answers)

        before = -1
        while (now := answered()) != before:
            before = now
            time.sleep(self.setup.patience)

    def _await_rest(self, sent: list[list[int]]) -> None:
        end = time.monotonic() + AFTERWARDS + self.setup.patience
        while time.monotonic() < end and any(
                not self._monitor.received[topic].keys() >= set(stamps)
                for stamps, topic in zip(sent, self.setup.answers, strict=True)):
            time.sleep(0.02)


def start(command: list[str], setup: Setup, log: Path, **pipes: Any) -> subprocess.Popen[str]:
    """Start a program with the transport settings of a setup."""
    with log.open('ab') as output:
        return subprocess.Popen(command, stderr=output, env=environment_of(setup, os.environ),
                                **({'stdout': output} | pipes))


def send(camera: subprocess.Popen[str], rate: float, seconds: float, together: bool = False
         ) -> list[list[int]]:
    """Let a camera send at a rate [Hz]; return the stamps on each topic [ns]."""
    assert camera.stdin and camera.stdout
    camera.stdin.write(json.dumps({'rate': rate, 'seconds': seconds, 'together': together}) + '\n')
    camera.stdin.flush()
    answer = camera.stdout.readline()
    if not answer:
        raise Unusable(f'the camera ended with {camera.wait()}')
    return json.loads(answer)['sent']


def stop(process: subprocess.Popen[str]) -> None:
    """Ask a program to end; kill it and raise Unusable if it does not."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        command: Any = process.args  # a list, see `start`
        raise Unusable(f'{command[1:3]} did not end within {PATIENCE:.0f} s') from None


@contextmanager
def running(setup: Setup, monitor: Monitor, folder: Path, device: str,
            profile: Path | None = None) -> Iterator[Rig]:
    """
    Run a setup until the block ends; the node has answered by then, so it is warm.

    :raises Unusable: if it cannot be measured, or does not end as it should.
    """
    monitor.check_alone(setup)
    log = folder / 'node.log'
    log.unlink(missing_ok=True)
    with ExitStack() as stack:
        stack.enter_context(monitor.listening(setup.answers))
        camera = start(camera_command(setup), setup, folder / 'camera.log',
                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(stop, camera)
        send(camera, 1, 0.1)  # until it is there
        started = time.time_ns()
        node = start(node_command(setup, folder, device, profile), setup, log)
        stack.callback(stop, node)
        rig = Rig(setup, monitor, node, camera, log)
        rig.await_answer(started)
        yield rig
        rig.check_running()
