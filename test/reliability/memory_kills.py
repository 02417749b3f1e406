"""Kill memory_node at random moments: its file opens, and holds all but the last second."""
from collections.abc import Callable
from pathlib import Path
from random import Random
import time
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from std_msgs.msg import Header
from support.processes import PATIENCE, Process
from support.ros_processes import Received, Ros
from vl2v_msgs.msg import Embedding
from vl2v_ros.memory.memory import Memory

D, STEP = 64, 0.01  # numbers of a vector; time from one to the next [s]
LONGEST = 3.0  # from the start of the node, or from its first word, to its end [s]
KEPT = 1.0  # what came longer before the end has to be there [s]
SECOND = 10 ** 9  # [ns]


def start(ros: Ros, file: Path) -> Process:
    return ros.start('remembering.memory_node', {'file': file, 'thumbnail_size': 0})


class Sender:
    """Sends vectors that are far from each other, and knows when each was sent."""

    def __init__(self, ros: Ros, rng: Random) -> None:
        self._rng = np.random.default_rng(rng.randrange(2 ** 32))
        self.topic = ros.offer(Embedding, 'classifier/embedding', 100)

    def send(self) -> tuple[float, np.ndarray]:
        row, now = self._rng.normal(size=D).astype(np.float32), time.time()
        row /= np.linalg.norm(row)
        self.topic.publish(Embedding(
            header=Header(stamp=Time(sec=int(now), nanosec=int(now % 1 * SECOND))),
            space='a tower', student='a student', vector=row.tolist()))
        return now, row

    def send_until(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, 'the memory hears nothing'
            self.send()
            time.sleep(STEP)


def kill_often(ros: Ros, kills: int, rng: Random, folder: Path, kept: float = KEPT
               ) -> dict[str, Any]:
    """
    Kill it so many times, half of them while it starts; return the figures.

    :param kept: what was sent so long before the end has to be there [s]; a machine that is busy
        lets the node wait.
    """
    file, sender = folder / 'memory.sqlite', Sender(ros, rng)
    status: Received[DiagnosticArray] = Received()
    ros.node.create_subscription(DiagnosticArray, '/diagnostics', status.add, 10)
    sure: list[np.ndarray] = []  # what has to be there
    latest = 0.0  # oldest of what is not there, before a kill [s]
    for number in range(kills):
        status.messages.clear()
        process, sent = start(ros, file), []
        if number % 2:
            process.wait_for_output('remembers in')
            # The subscription that is known may still be that of a node that was killed.
            sender.send_until(lambda: any(hears(message, file) for message in status.messages))
        # A node that runs is killed when something has to be there.
        end = time.monotonic() + rng.uniform(KEPT if number % 2 else 0, LONGEST)
        while time.monotonic() < end:
            sent.append(sender.send())
            time.sleep(STEP)
        assert process._popen.poll() is None, process.output
        process._popen.kill()
        process.wait()
        killed = time.time()
        assert 'Traceback' not in process.output, process.output
        if number == 0 and not file.exists():
            continue
        memory = Memory(file)
        if number % 2:
            there = [found(memory, row) for _, row in sent]
            latest = max([latest, *(killed - when for (when, _), known in zip(
                sent, there, strict=True) if not known)])
            assert latest < kept, f'kill {number}: {latest:.2f} s are missing'
            sure += [row for (_, row), known in zip(sent, there, strict=True) if known]
        missing = sum(not found(memory, row) for row in sure)
        assert not missing, f'kill {number}: {missing} of {len(sure)} have gone'
        memory.close()
    with start(ros, file) as process:
        process.wait_for_output(f'remembers in {file}')
    return {'kills': kills, 'sightings': len(sure), 'longest that is missing [s]': round(latest,
                                                                                          2)}


def hears(message: DiagnosticArray, file: Path) -> bool:
    return any(status.hardware_id == str(file) and value.key == 'received' and value.value != '0'
               for status in message.status for value in status.values)


def found(memory: Memory, row: np.ndarray) -> bool:
    best = memory.find(row, 1).sightings
    return bool(best) and best[0].similarity > 0.999
