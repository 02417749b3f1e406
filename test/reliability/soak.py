"""
Let the nodes run for a long time: no leak, no gap in the answers.

python -m reliability.soak --minutes 30 --out soak

A camera sends 30 images a second to a classifier with the student that ships, another camera comes
and goes, and so does a detector that sends ten boxes for every third image. The vocabulary changes
20 times a minute; now and then somebody watches the overlay, or maps, presence and embeddings,
asks for boxes of one image and for a text, or teaches a label and forgets it. Memory, threads
and open files of the classifier are read once a second. Writes OUT/soak.json and
OUT/soak.png; exits with 1 if one of the criteria in it is not met.
"""
import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
import itertools
import json
import os
from pathlib import Path
from random import Random
import sys
import tempfile
import time
from typing import Any

from benchmarks import machine
import matplotlib
import numpy as np
from reliability.visitors import STUDENT, Visitors
from support.ros_processes import draw_frames, own_domain, Ros, what_was_sent
from vl2v_msgs.msg import LabelArray
from vl2v_ros.files import write_json

RATE = 30.0  # of the camera that stays [Hz]
WARM = 0.2  # part of the time that does not count for the memory: caches fill
FLAT = 0.01  # part by which the memory may grow from then to the end
GAP = 3 / RATE  # between two answers, while the camera is in time [s]
GAPS = 'gaps: at [s], length [s]'
SETTLE = 15.0  # until what comes and goes has gone [s]


def state(pid: int) -> dict[str, float]:
    """Return memory [MiB], threads and open files of a process."""
    return {'memory': machine.memory(pid), 'threads': len(os.listdir(f'/proc/{pid}/task')),
            'files': len(os.listdir(f'/proc/{pid}/fd'))}


class Answers:
    """
    When each answer came [s], by the stamp of its image [ns].

    It came when DDS received it: this process is busy too, with overlays and maps of the node.
    """

    def __init__(self, ros: Ros) -> None:
        self.came: dict[int, float] = {}
        ros.node.create_subscription(LabelArray, 'classifier/front/labels', self._note, 100)

    def _note(self, message: LabelArray, info: Mapping[str, int]) -> None:
        stamp = message.header.stamp
        self.came[stamp.sec * 10 ** 9 + stamp.nanosec] = info['received_timestamp'] / 1e9


def gaps(came: dict[int, float], sent: Sequence[int]) -> list[tuple[float, float]]:
    """
    Return end and length of each time between answers over GAP, while the camera was in time [s].

    :param sent: stamps of the images [ns]; where two are farther apart, the camera was late.
    """
    late = [(before / 1e9, after / 1e9) for before, after in itertools.pairwise(sent)
            if after - before > GAP * 1e9]
    times = sorted(came.values())
    return [(after, after - before) for before, after in itertools.pairwise(times)
            if after - before > GAP and not any(
                first < after and before < last + GAP for first, last in late)]


def soak(minutes: float, seed: int) -> dict[str, Any]:
    """Run, and return what was seen."""
    count = round(minutes * 60 * RATE)
    with tempfile.TemporaryDirectory() as name, own_domain() as domain, ExitStack() as stack:
        ros = Ros(domain, Path(name))
        stack.callback(ros.close)
        frames = draw_frames(Path(name) / 'frames.npz', 640, 480)
        visitors = Visitors(ros, Random(seed), frames)
        parameters = {'checkpoint': STUDENT, 'vocabulary': 'mug, banana',
                      'cache_dir': Path(name) / 'cache', 'cameras': ['front', 'rear'],
                      'where_size': 320}  # 640 takes 0.1 s on a slow CPU
        ros.classifier(parameters, fresh=True).stop()  # later ones load no torch
        node = ros.classifier(parameters, fresh=True)
        answers = Answers(ros)
        camera = ros.publish_frames(frames, 'front/image', count, RATE, reliability='reliable',
                                    settle=2.0)
        while len(answers.came) < 5 * RATE:  # warm, and alone with the first camera
            time.sleep(0.1)
        visitors.warm()
        start, samples, clock = time.monotonic(), [], time.time()
        end = start + minutes * 60 - 5 - SETTLE - 10
        for second in itertools.count():
            if time.monotonic() > end:
                break
            visitors.act(second)
            samples.append([time.monotonic() - start, *state(node.pid).values(),
                            os.getloadavg()[0]])
            time.sleep(max(0.0, start + second + 1 - time.monotonic()))
        visitors.go()
        time.sleep(SETTLE)
        last = state(node.pid)
        camera.wait(minutes * 60)  # on a busy machine it needs longer for its images
        sent, lateness = what_was_sent(camera)
        stamps = sorted(stamp.sec * 10 ** 9 + stamp.nanosec for stamp in sent.values())
        code = node.stop()
    return {'samples': samples, 'last': last, 'sent': len(stamps),
            'answered': len(answers.came), 'camera was late by at most [s]': round(lateness, 3),
            'camera was late, times': sum(after - before > GAP * 1e9 for before, after
                                          in itertools.pairwise(stamps)),
            GAPS: [(round(end - clock, 1), round(length, 3)) for end, length
                   in gaps(answers.came, stamps)],
            'load of the machine, median': float(np.median([sample[4] for sample in samples])),
            'exit code': code, **visitors.counts}


def judge(seen: dict[str, Any]) -> dict[str, Any]:
    """Return the criteria, with their figures and whether each is met."""
    samples = np.array(seen['samples'])
    memory = samples[:, 1]
    part = max(1, len(memory) // 5)
    begin = int(WARM * len(memory))
    growth = float(np.median(memory[-part:]) / np.median(memory[begin:begin + part]) - 1)
    return {
        'memory grows by [part]': {'is': round(growth, 4), 'at most': FLAT, 'met': growth <= FLAT},
        'threads more': _no_more(seen, 'threads', samples[begin:begin + part, 2].min()),
        'open files more': _no_more(seen, 'files', samples[begin:begin + part, 3].min()),
        'gaps over 3 periods': {'is': len(seen[GAPS]), 'at most': 0, 'met': not seen[GAPS]},
        'exit code': {'is': seen['exit code'], 'at most': 0, 'met': not seen['exit code']}}


def _no_more(seen: dict[str, Any], what: str, warm: float) -> dict[str, Any]:
    more = int(seen['last'][what] - warm)
    return {'is': more, 'at most': 0, 'met': more <= 0}


def plot(seen: dict[str, Any], path: Path) -> None:
    """Draw memory, threads and open files over time."""
    matplotlib.use('Agg')
    from matplotlib import pyplot
    times, memory, threads, files, _ = np.array(seen['samples']).T
    figure, (above, below) = pyplot.subplots(2, 1, figsize=(8, 5), sharex=True,
                                             layout='constrained')
    above.plot(times / 60, memory, color='#2a6f97')
    above.axvspan(0, WARM * times[-1] / 60, color='#dddddd', label='warm-up')
    above.set_ylabel('memory [MiB]')
    above.set_ylim(0, 1.2 * memory.max())
    above.legend(loc='lower right')
    below.plot(times / 60, threads, label='threads', color='#2a6f97')
    below.plot(times / 60, files, label='open files', color='#c8553d')
    below.set_ylim(0, None)
    below.set_xlabel('time [min]')
    below.legend(loc='lower right')
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, default=Path('soak'), help='folder for the results')
    options = parser.parse_args()
    seen = soak(options.minutes, options.seed)
    criteria = judge(seen)
    options.out.mkdir(parents=True, exist_ok=True)
    plot(seen, options.out / 'soak.png')
    seen['samples'] = [[round(value, 1) for value in sample] for sample in seen['samples'][::10]]
    write_json(options.out / 'soak.json', {'minutes': options.minutes,
                                           'machine': machine.describe(), 'criteria': criteria,
                                           **seen})
    print(json.dumps({**criteria, **{key: value for key, value in seen.items()
                                     if key != 'samples'}}, indent=1))
    sys.exit(int(not all(one['met'] for one in criteria.values())))


if __name__ == '__main__':
    main()
