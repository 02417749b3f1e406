"""
Send a running node hostile images, boxes, depth and requests: it has to answer good images.

python -m reliability.fuzz_messages --trials 100000 --out fuzz

After each round of messages the node has to answer a good image, and each request, within 5 s of
its computing time (60 s in all); its memory may grow by 2 GiB at most, as it keeps the buffers of
large images; it may print no traceback, and each refusal has to be a sentence. What was sent in
the round of a finding is kept in OUT; the same --seed with --first ROUND sends it again. Exit with
1 if there is something.
"""
import argparse
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, ExitStack, suppress
import json
import os
from pathlib import Path
from random import Random
import re
import signal
import sys
import tempfile
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rcl_interfaces.msg import Parameter, ParameterValue
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from reliability import hostile
from reliability.readers import why_no_sentence
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from support.ros_processes import Camera, own_domain, Process, Ros
from tqdm import tqdm
from vision_msgs.msg import Detection2DArray, Detection3DArray
from vl2v_msgs.srv import SetVocabulary
from vl2v_ros.nodes.messages import byte_array

ROOT = Path(__file__).parents[2]
COMPUTING, PATIENCE = 5.0, 60.0  # limits of an answer: of the node's processors, in all [s]
MEMORY = 2 << 20  # beyond what the node had when it was warm [KiB]
START = 300.0  # to be ready, on a busy machine [s]
CAMERAS = 5  # of each transport; each keeps its newest image alone
REQUESTS = 4  # in a round, of the services in turn
COUNTED = ('received', 'answered', 'refused', 'arrays of boxes answered',
           'arrays of boxes refused', 'arrays of boxes without an image',
           'arrays of boxes placed by depth', 'arrays of boxes refused for their depth')
RIDDLE = re.compile(r'^\w*(Error|Exception)\b')
TICKS = os.sysconf('SC_CLK_TCK')


class Finding(Exception):
    """What the node should not have done."""


def computed(pid: int) -> float:
    """Return the computing time of a process so far [s]."""
    fields = Path(f'/proc/{pid}/stat').read_text().rsplit(')')[-1].split()
    if fields[0] == 'Z':
        raise ProcessLookupError(f'process {pid} has ended')
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak(pid: int) -> int:
    """Return the largest memory that a process has had [KiB]."""
    lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    return int(next(line for line in lines if line.startswith('VmHWM')).split()[1])


class Victim:
    """A running classifier, what it is sent, and what it says."""

    def __init__(self, ros: Ros, process: Process, counts: Counter[str]) -> None:
        self._ros, self._process, self._counts = ros, process, counts
        self.slowest: Counter[str] = Counter()
        self._good = Camera(ros, 'good/image', 'classifier/good/labels')
        self._publishers = {
            **{f'raw{number}': ros.publisher(Image, f'raw{number}/image', QoSProfile(depth=5))
               for number in range(CAMERAS)},
            **{f'jpeg{number}': ros.publisher(
                CompressedImage, f'jpeg{number}/image/compressed', QoSProfile(depth=5))
               for number in range(CAMERAS)}}
        self._regions = {name: ros.publisher(Detection2DArray, f'{name}/regions')
                         for name in self._publishers if name.startswith('raw')}
        for name in self._regions:  # without a subscriber, no box is looked at
            ros.subscribe(Detection2DArray, f'classifier/{name}/detections')
        for name in self._regions:  # so that the node listens to depth
            ros.subscribe(Detection3DArray, f'classifier/{name}/detections_3d')
        self._depth = {name: (ros.publisher(Image, f'{name}/depth'),
                              ros.publisher(CameraInfo, f'{name}/camera_info'))
                       for name in self._regions}
        self._clients = {name: ros.node.create_client(kind, f'classifier/{name}')
                         for name, (kind, _) in hostile.REQUESTS.items()}
        for client in self._clients.values():
            assert client.wait_for_service(60)
        self._diagnostics = ros.subscribe(DiagnosticArray, '/diagnostics')
        ros.call(SetVocabulary, 'classifier/set_vocabulary', operation=0, labels=['warm'])
        self._memory, self._judged = peak(process.pid), 0  # with the text tower
        self._requested = 0

    def round(self, rng: Random, sent: list[str]) -> int:
        """Send a round, and check what came of it; return the number of messages and requests."""
        for name, publisher in self._publishers.items():
            message = (hostile.image if name.startswith('raw') else hostile.compressed)(rng)
            if rng.random() < 0.002 and name.startswith('jpeg'):
                message.data = byte_array(np.frombuffer(hostile.large(rng), np.uint8))
            self._send(publisher, name, message, rng, sent)
            if name in self._regions:
                depth, info = self._depth[name]
                self._send(info, f'info {name}', hostile.camera_info(rng, message), rng, sent)
                self._send(depth, f'depth {name}', hostile.depth(rng, message), rng, sent)
                self._send(self._regions[name], f'boxes {name}',
                           hostile.regions(rng, message.header), rng, sent)
        self._check_good()
        for _ in range(REQUESTS):
            service = [*hostile.REQUESTS][self._requested % len(hostile.REQUESTS)]
            self._requested += 1
            fields = hostile.REQUESTS[service][1](rng)
            sent.append(f'{service}: {fields!r:.2000}')
            self._check_response(service, self._ask(service, fields))
            self._counts[service] += 1
            if 'max_rate' in sent[-1]:  # lest the rest waits
                self._ask('set_parameters', {'parameters': [Parameter(
                    name='max_rate', value=ParameterValue(type=3, double_value=0.0))]})
        self._check_refusals()
        if (used := peak(self._process.pid) - self._memory) > MEMORY:
            raise Finding(f'took {used >> 10} MiB')
        return len(self._publishers) + 3 * len(self._regions) + REQUESTS

    def _send(self, publisher: Publisher, name: str, message: Any, rng: Random,
              sent: list[str]) -> None:
        if rng.random() < 0.1:
            message = hostile.garbage(message, rng)
        sent.append(f'{name}: {message!r:.2000}')
        publisher.publish(message)
        self._counts['garbage' if isinstance(message, bytes) else name.rstrip('0123456789')] += 1

    @contextmanager
    def _in_time(self, what: str) -> Iterator[Any]:
        """Yield a check that fails once the node has ended, or takes too long."""
        start, before = time.monotonic(), computed(self._process.pid)

        def check() -> None:
            try:
                used = computed(self._process.pid) - before
            except OSError:
                raise Finding(f'ended, before it answered {what}: '
                              f'{self.last_said}') from None
            if used > COMPUTING or time.monotonic() - start > PATIENCE:
                raise Finding(f'{what}: no answer after {used:.1f} s of computing time and '
                              f'{time.monotonic() - start:.1f} s in all')
        yield check
        self.slowest[what] = max(self.slowest[what], time.monotonic() - start)

    def _check_good(self) -> None:
        with self._in_time('a good image') as check:
            wanted, again = {self._good.send()}, time.monotonic() + 1
            while True:
                if any(message.header.frame_id in wanted
                       for message in self._good.answers.messages[-20:]):
                    return
                check()
                if time.monotonic() > again:  # the newest one wins, so one may be dropped
                    wanted.add(self._good.send())
                    again += 1
                time.sleep(0.001)

    def _ask(self, service: str, fields: Mapping[str, Any]) -> Any:
        kind, client = hostile.REQUESTS[service][0], self._clients[service]
        with self._in_time(service) as check:
            future = client.call_async(kind.Request(**fields))
            while not future.done():
                check()
                time.sleep(0.001)
        return future.result()

    def _check_response(self, service: str, response: Any) -> None:
        said = [result.reason for result in (
            response.results if service == 'set_parameters' else
            [response.result] if service == 'set_parameters_atomically' else [])
            if not result.successful]
        if not getattr(response, 'success', True):
            said = [response.message]
        for text in said:
            self._check_sentence(text, service)
        self._counts[f'{service} refused'] += bool(said)

    def _check_refusals(self) -> None:
        messages = self._diagnostics.messages[self._judged:]
        self._judged += len(messages)
        for message in messages:
            for status in message.status:
                for entry in status.values:
                    if entry.key.startswith('last refusal') and entry.value != 'none':
                        self._check_sentence(entry.value, status.name)
        if 'Traceback' in self._process.output[-20_000:]:
            raise Finding(f'printed {self.last_said}')

    def _check_sentence(self, text: str, where: str) -> None:
        wrong = 'the name of an error' if RIDDLE.match(text) else why_no_sentence(text)
        if wrong:
            raise Finding(f'{where} says {wrong}: {text!r:.500}')

    def say_where(self) -> None:
        """End the node; it prints what its threads are doing."""
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGABRT)
            self._process.wait()

    @property
    def last_said(self) -> str:
        """The end of what the node has printed."""
        return self._process.output.partition('Extension modules')[0][-4000:]

    def counts(self) -> dict[str, int]:
        """Return what the node has counted of all hostile cameras."""
        last = self._diagnostics.messages[-1]
        found: Counter[str] = Counter()
        for status in last.status:
            if status.hardware_id and 'good' not in status.name:
                found.update({entry.key: int(entry.value) for entry in status.values
                              if entry.key in COUNTED})
        return dict(found)


@contextmanager
def victim(ros: Ros, cache: Path, counts: Counter[str]) -> Iterator[Victim]:
    names = [f'{kind}{number}' for kind in ('raw', 'jpeg') for number in range(CAMERAS)]
    parameters = {'checkpoint': ROOT / 'data/mini/student.safetensors', 'cache_dir': cache,
                  'vocabulary': 'mug, banana, red apple', 'cameras': [*names, 'good']}
    with ros.start('classifier_node', parameters, fresh=True) as process:
        process.wait_for_output('labels images of', START)
        yield Victim(ros, process, counts)


def fuzz(trials: int, seed: int, first: int, out: Path, cache: Path | None = None
         ) -> dict[str, Any]:
    """
    Send so many messages; after a finding a new node takes over.

    :param cache: folder of what nodes cache; None: a new one.
    """
    counts: Counter[str] = Counter()
    judged: Counter[str] = Counter()
    slowest: Counter[str] = Counter()
    findings: list[str] = []
    os.environ['PYTHONFAULTHANDLER'] = '1'  # of the nodes, for `say_where`
    done, turn, start = 0, first, time.monotonic()
    with tempfile.TemporaryDirectory() as name, own_domain() as domain, ExitStack() as stack, tqdm(
            total=trials, unit='message', disable=None, mininterval=5) as bar:
        ros = Ros(domain, Path(name))
        stack.callback(ros.close)
        while done < trials:
            with victim(ros, cache or Path(name) / 'cache', counts) as one:
                try:
                    while done < trials:
                        sent: list[str] = []
                        step = one.round(Random(f'{seed} {turn}'), sent)
                        turn, done = turn + 1, done + step
                        bar.update(step)
                except (Finding, ConnectionError) as error:
                    findings.append(f'round {turn}: {error}')
                    one.say_where()
                    out.mkdir(parents=True, exist_ok=True)
                    (out / f'round_{turn}.txt').write_text(
                        '\n'.join([str(error), *sent, one.last_said]), errors='backslashreplace')
                    turn, done = turn + 1, done + 1
                time.sleep(1.2)  # for its last diagnostics
                judged.update(one.counts())
                for what, seconds in one.slowest.items():
                    slowest[what] = max(slowest[what], seconds)
    return {'messages': done, 'seed': seed, 'seconds': round(time.monotonic() - start),
            'sent': dict(counts), 'counted by the node': dict(judged),
            'slowest [s]': {what: round(seconds, 2) for what, seconds in slowest.items()},
            'findings': findings}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--trials', type=int, default=100_000,
                        help='number of messages and requests')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--first', type=int, default=0, help='number of the first round')
    parser.add_argument('--out', type=Path, default=Path('fuzz'), help='folder for the findings')
    options = parser.parse_args()
    found = fuzz(options.trials, options.seed, options.first, options.out)
    print(json.dumps(found, indent=1))
    sys.exit(int(bool(found['findings'])))


if __name__ == '__main__':
    main()
