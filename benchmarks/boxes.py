"""
Measure the time of the boxes of a frame: as one batch, and one by one, as the node does on a CPU.

python benchmarks/boxes.py

It needs no ROS. Boxes of many sizes lie anywhere in frames of noise. The two ways take turns round
by round, so other work of the machine slows both alike. For comparison, the frame as a whole is
measured, too: that is the cost of one label per frame. Computing time is that of all threads; on
a busy machine it says more than the time that passes. Memory is what the process takes beyond
that of whole frames.
"""
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import cycle
import os
from pathlib import Path
import statistics
import sys
import time
from typing import Any

from benchmarks import machine
import numpy as np
from tqdm import tqdm
import tyro
from vl2v_ros.files import write_json
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.regions import Box, cut_all
from vl2v_ros.labeller import Labeller

ROOT = Path(__file__).resolve().parent.parent
MARGIN, LEAST = 0.1, 8.0  # the node's defaults
FRAMES = 8  # different ones, so that no cache holds them all
WHOLE, BATCH, ONE_BY_ONE = 'whole frame', 'one batch', 'one by one'
Scene = tuple[Frame, list[Box]]
"""A frame, and the boxes in it."""
Times = dict[str, dict[int, list[float]]]
"""Way -> number of boxes -> the time of each round [ms]."""


@dataclass(frozen=True)
class Options:
    """What is measured."""

    checkpoint: Path = ROOT / 'models/student.safetensors'  # The student to measure.
    width: int = 1280  # Width of the frames [px].
    height: int = 720  # Height of the frames [px].
    counts: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100)  # Numbers of boxes in a frame.
    smallest: int = 40  # Smallest side of a box [px].
    largest: int = 400  # Largest side of a box [px].
    vocabulary: str = str(ROOT / 'config/vocabularies/household.yaml')
    """Labels separated by commas, or a YAML file."""
    rounds: int = 5  # Number of rounds; in each, every number of boxes is measured once each way.
    seconds: float = 0.5
    """Duration of a measurement, per round, number of boxes and way [s]; at least one frame."""
    device: str = 'auto'
    """Device to measure on: auto, cpu, cuda or cuda:N."""
    out: Path = ROOT / 'build/benchmarks/boxes.json'  # JSON file to write.


def scenes(options: Options, count: int) -> list[Scene]:
    """Return frames of noise with so many boxes each; small ones are as frequent as large ones."""
    rng = np.random.default_rng(count)
    made = []
    for _ in range(FRAMES):
        frame = Frame(rng.integers(0, 256, (options.height, options.width, 3), np.uint8))
        low, high = np.log((options.smallest, options.largest))
        sizes = np.exp(rng.uniform(low, high, (count, 2)))
        centres = rng.uniform(sizes / 2, (options.width, options.height) - sizes / 2)
        made.append((frame, [Box(*centre, *size) for centre, size
                             in zip(centres.tolist(), sizes.tolist(), strict=True)]))
    return made


def ways(labeller: Labeller, options: Options) -> dict[str, Callable[[Scene], object]]:
    """Return what is done with a frame and its boxes, by name."""
    words, classify = labeller.vocabulary(options.vocabulary), labeller.classifier.classify

    def parts(scene: Scene) -> list[Frame]:
        found = cut_all(*scene, MARGIN, LEAST, most=len(scene[1]))
        return [part for part in found if part]

    return {WHOLE: lambda scene: classify([scene[0]], words),
            BATCH: lambda scene: classify(parts(scene), words),
            ONE_BY_ONE: lambda scene: [classify([part], words) for part in parts(scene)]}


def milliseconds(label: Callable[[Scene], object], scenes: Iterator[Scene], seconds: float
                 ) -> tuple[float, float]:
    """Return the mean time and computing time of a frame, in turns for some seconds."""
    done, start, computing = 0, time.perf_counter(), time.process_time()
    while True:
        label(next(scenes))
        done, passed = done + 1, time.perf_counter() - start
        if passed >= seconds:
            return 1e3 * passed / done, 1e3 * (time.process_time() - computing) / done


def _empty(names: Iterable[str], counts: Iterable[int]) -> Times:
    return {name: {count: [] for count in counts} for name in names}


def measure(options: Options) -> dict[str, Any]:
    """Return the result as JSON can hold it."""
    labeller = Labeller.open(options.checkpoint, options.device)
    label = ways(labeller, options)
    given = {count: cycle(scenes(options, count)) for count in options.counts}
    times, computing = _empty(label, given), _empty(label, given)
    first, memory = 0.0, {}
    for turn in tqdm(range(-1, options.rounds), unit='round'):  # the first is for warming up
        for count, frames in given.items():
            for name, way in label.items():
                passed = milliseconds(way, frames, options.seconds if turn >= 0 else 0)
                if turn >= 0:
                    times[name][count].append(passed[0])
                    computing[name][count].append(passed[1])
                elif name == WHOLE and not first:
                    first = machine.memory(os.getpid())
            memory[count] = machine.memory(os.getpid()) - first
    return {'machine': machine.describe(), 'runtime': labeller.classifier.runtime.description,
            'options': {
                key: value if isinstance(value, (int, float, tuple)) else
                str(value).removeprefix(f'{ROOT}/')
                for key, value in asdict(options).items()},
            'milliseconds per frame': times, 'computing milliseconds per frame': computing,
            'memory [MiB]': memory}


def table(result: dict[str, Any]) -> str:
    """Return Markdown: medians of the rounds, and their smallest and largest."""
    def cell(values: list[float], digits: int = 1) -> str:
        return (f'{statistics.median(values):.{digits}f} '
                f'({min(values):.{digits}f} to {max(values):.{digits}f})')

    def both(times: Times, count: int) -> list[str]:
        """Return the times of a box, as one batch and one by one, and their ratio."""
        batch, single = ([value / count for value in times[way][count]]
                         for way in (BATCH, ONE_BY_ONE))
        ratios = [one / together for one, together in zip(single, batch, strict=True)]
        return [cell(batch, 2), cell(single, 2), cell(ratios, 2)]

    times = result['milliseconds per frame']
    computing = result['computing milliseconds per frame']
    lines = ['| boxes | per box, one batch [ms] | one by one [ms] | ratio | computing time per '
             'box, one batch [ms] | one by one [ms] | ratio |', '|---:' * 7 + '|']
    lines += [f'| {count} | ' + ' | '.join(both(times, count) + both(computing, count)) + ' |'
              for count in times[BATCH]]
    whole, work = ([value for values in kind[WHOLE].values() for value in values]
                   for kind in (times, computing))
    most = max(result['memory [MiB]'].values())
    return '\n'.join([*lines, '', f'The whole frame takes {cell(whole)} ms, {cell(work)} ms of '
                      f'computing time. Boxes take at most {most:.0f} MiB of memory beyond that.'])


def main() -> None:
    """Measure, print the table, and write the JSON."""
    options = tyro.cli(Options, description=__doc__)
    for name in ('width', 'height', 'counts', 'rounds', 'smallest'):
        value = getattr(options, name)
        if value == () or np.min(value) < 1:
            sys.exit(f'boxes: --{name}: expected at least 1, got {value}')
    room = min(options.width, options.height)
    if not options.smallest <= options.largest <= room:
        sys.exit(f'boxes: --largest: expected {options.smallest} to {room}, got {options.largest}')
    try:
        result = measure(options)
    except ValueError as error:
        sys.exit(f'boxes: {error}')
    result['table'] = table(result)
    print(f'{machine.sentence(result["machine"])}\n{result["runtime"]}\n\n{result["table"]}')
    write_json(options.out, result)


if __name__ == '__main__':
    main()
