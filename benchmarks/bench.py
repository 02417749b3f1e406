"""
Measure the nodes as a robot runs them: real processes, real DDS, in ros2_benchmark's terms.

make bench; make bench BENCH_ARGS='--quick'; make bench BENCH_ARGS=--help

Every step saves its results in a JSON file; at the end a table and pictures are written beside it.
The same command resumes a benchmark that was stopped. `make bench-compare` compares the file with
the committed one of the same kind of machine.
"""
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
import json
from pathlib import Path
import subprocess
import sys
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import machine, plan
from benchmarks.bench_page import write_page
from benchmarks.contenders import OUT, Setup
from benchmarks.rig import Monitor, Rig, running, Unusable
from benchmarks.timing import MISSED, percentile
import rclpy
from tqdm import tqdm
import tyro
from vl2v_ros.files import write_json


@dataclass(frozen=True)
class Options:
    """What is measured, and where the results go."""

    out: Path | None = None
    """JSON file to write; the page and the pictures go beside it. Default:
    build/benchmarks/bench.json, or quick.json; docs/benchmarks has the committed figures."""
    repeats: int = 5
    """Repeats for figures used in ratios; others are measured less often."""
    device: str = 'auto'
    """Device of our node: auto, cpu, cuda or cuda:N."""
    quick: bool = False
    """Measure in three minutes what the ratios need, once: to see what a change did."""
    only: str = ''
    """Do only the steps whose name contains this text."""


class Bench:
    """One run of the benchmark: its results so far, and the file that stores them."""

    def __init__(self, options: Options, monitor: Monitor, folder: Path) -> None:
        self.options, self._monitor, self._folder = options, monitor, folder
        self.plan = plan.QUICK if options.quick else plan.FULL
        self.out = options.out or OUT / f'{"quick" if options.quick else "bench"}.json'
        wanted = {name: value for name, value in asdict(options).items()
                  if name in ('repeats', 'device', 'quick')}
        self.result: dict[str, Any] = {
            'machine': machine.describe(), 'options': wanted, 'done': [], 'notes': [],
            'figures': {}, 'profiles': {}}
        if self.out.is_file():
            before = json.loads(self.out.read_text())
            if all(before[key] == self.result[key] for key in ('machine', 'options')):
                self.result = before

    def steps(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield the name of each step and its function."""
        times = 1 if self.options.quick else self.options.repeats
        for turn in range(times):
            for setup, rates in self.plan.streams.items():
                if turn < plan.repeats(setup, times):
                    yield f'{setup}, turn {turn}', partial(self._stream, setup, rates)
            for name, setups, rate in (
                    ('labels', self.plan.labels, plan.GROWTH_RATE),
                    ('cameras', self.plan.cameras + self.plan.triggered, plan.CAMERA_RATE),
                    ('one camera', plan.CAMERAS[:1], plan.ONE_CAMERA_RATE)):
                for setup in setups:
                    yield (f'{name}: {setup}, turn {turn}',
                           partial(self._fixed, setup, rate, f'{name}: '))
            yield f'first label, turn {turn}', self._first_label
            yield f'image hop, turn {turn}', self._hops
        for name, (setup, rate) in self.plan.profiled.items():
            yield f'stages of {name}', partial(self._profile, setup, rate, name)
        yield 'endurance', self._endurance
        if self.plan.text:
            yield 'text', self._text
        yield 'component', self._component

    def run(self) -> None:
        """Do the steps that are not done; print one line for each that cannot be measured."""
        todo = [(name, step) for name, step in self.steps()
                if name not in self.result['done'] and self.options.only in name]
        if not todo:
            self.say(f'{self.out} has all of these steps; remove it or name another --out to '
                     'measure again')
        if todo:  # the cache of this run is empty, even if it resumes an older run
            todo.insert(0, ('first start', self._first_start))
        for name, step in tqdm(todo, unit='step'):
            try:
                step()
            except Unusable as error:
                self.say(f'{name}: {error}')
            self.result['done'].append(name)
            self.out.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.out, self.result)

    def say(self, line: str) -> None:
        """Print a line beside the progress bar, and store it for the page."""
        tqdm.write(line, file=sys.stderr)
        if line not in self.result['notes']:
            self.result['notes'].append(line)

    def _keep(self, name: str, run: dict[str, float]) -> None:
        self.result['figures'].setdefault(name, []).append(
            {figure: round(value, 4) for figure, value in run.items()})

    @contextmanager
    def _running(self, setup: Setup, profile: Path | None = None) -> Iterator[Rig]:
        with running(setup, self._monitor, self._folder, self.options.device, profile) as rig:
            if rig.runs_on:
                self.say(f'{setup.program} runs on {rig.runs_on}')
            yield rig

    def _measure(self, rig: Rig, rate: float, seconds: float) -> dict[str, float]:
        found = rig.measure(rate, seconds)
        reached = found['rate sent']
        if reached < 0.95 * rate:
            self.say(f'{rig.setup}: the camera reached {reached:.0f} of {rate:.0f} Hz')
        return found

    def _stream(self, setup: Setup, rates: Sequence[float]) -> None:
        with self._running(setup) as rig:
            for rate in rates:
                self._keep(f'{setup} @ {rate:g} Hz',
                           self._measure(rig, rate, plan.seconds(rate)))
            before = self.result['figures'].get(f'{setup}, highest')
            found = before[-1]['highest rate'] if before else 0.0
            self._keep(f'{setup}, highest', highest_rate(
                rig, found, self.say, self.plan.precision, self.plan.frames))

    def _fixed(self, setup: Setup, rate: float, prefix: str) -> None:
        with self._running(setup) as rig:
            self._keep(f'{prefix}{setup} @ {rate:g} Hz', self._measure(rig, rate, 3.0))

    def _first_start(self) -> None:
        """Start with an empty cache; all later steps use the cache that this one fills."""
        with self._running(plan.CAMERAS[0]) as rig:
            self._keep('first label, nothing cached', {'first label': rig.seconds_to_first})

    def _first_label(self) -> None:
        """Measure the time from the start of the process to its first answer."""
        with self._running(plan.CAMERAS[0]) as rig:
            self._keep('first label', {'first label': rig.seconds_to_first})

    def _hops(self) -> None:
        """Measure the time from stamp to callback, in our node and in a bare subscriber."""
        profile = self._folder / 'hop.json'
        with self._running(plan.LARGEST, profile) as rig:
            rig.send(plan.HOP_RATE, self.plan.hop)
        hop = json.loads(profile.read_text())['stages']['receive']['p50'] / 1e3
        self._keep('image hop, vl2v_ros', {'image hop p50': hop})
        with self._running(plan.BARE_LARGEST) as rig:
            rig.send(plan.HOP_RATE, 1)  # until both sides have discovered each other
            rig.send(plan.HOP_RATE, self.plan.hop)
        hops = sorted(json.loads(rig.log.read_text().splitlines()[-1]))
        if not hops:
            raise Unusable('no image reached the bare subscriber')
        self._keep('image hop, bare subscriber', {'image hop p50': 1e3 * percentile(hops, 0.5)})

    def _profile(self, setup: Setup, rate: float, name: str) -> None:
        profile = self._folder / 'profile.json'
        with self._running(setup, profile) as rig:
            sent = sum(map(len, rig.send(rate, self.plan.profile)))
        found = json.loads(profile.read_text())
        if found['frames'] < (1 - MISSED) * sent:
            self.say(f'stages of {name}: only {found["frames"]} of {sent} frames were labelled')
        self.result['profiles'][name] = found

    def _endurance(self) -> None:
        with self._running(plan.LARGEST) as rig:
            self._keep(f'endurance: {plan.LARGEST} @ 30 Hz',
                       self._measure(rig, 30, self.plan.endurance))

    def _program(self, name: str, *arguments: str) -> dict[str, Any]:
        """Run a benchmark that needs no ROS, and return what it wrote."""
        out = self._folder / f'{name}.json'
        done = subprocess.run([sys.executable, str(Path(__file__).parent / f'{name}.py'),
                               '--out', str(out), *arguments], capture_output=True, text=True)
        if done.returncode:
            raise Unusable(f'{name} ended with {done.returncode}: {done.stderr.strip()[-300:]}')
        return json.loads(out.read_text())

    def _text(self) -> None:
        self.result['text'] = self._program('text_time')

    def _component(self) -> None:
        self.result['component'] = self._program(
            'component', '--device', self.options.device, *self.plan.component)


def highest_rate(rig: Rig, guess: float, say: Callable[[str], None], precision: float,
                 frames: int) -> dict[str, float]:
    """
    Search as ros2_benchmark does: raise the rate until frames are missed, then search between.

    :param guess: the rate that was found before [Hz]; 0 without one.
    :param say: receives a line if the camera limits the rate.
    :param precision: largest ratio of a rate that is too high / the highest rate found.
    :param frames: the number of frames that a rate is judged by, in 2 to 10 s.
    :return: the figures of the best run, with its 'highest rate' [Hz], 0 if there is none.
    """
    rate, factor = (guess, 1.15) if guess else (20.0, 2.0)
    low, high, best = 0.0, 0.0, {'highest rate': 0.0}
    while not high or high > precision * low:
        seconds = min(10.0, max(2.0, frames / rate))
        found = rig.measure(rate, seconds)
        if found['rate sent'] < rate / precision:  # the camera was delayed, or is too slow
            found = max(found, rig.measure(rate, seconds), key=lambda run: run['rate sent'])
        reached = min(rate, found['rate sent'])
        if found['missed'] < MISSED * found['sent'] and reached > low:
            low, best = reached, found | {'highest rate': reached}
            if reached < rate / precision:
                say(f'{rig.setup}: the camera reached {reached:.0f} of {rate:.0f} Hz, which '
                    'limits the highest rate')
                break
        else:
            high = reached if reached > low else rate
        if not high:
            rate *= factor
        elif low:
            rate = (low * high) ** 0.5
        else:
            rate /= factor
        if rate < 0.1:
            break
    return best


def main() -> None:
    """Measure, and write the JSON, the table and the pictures."""
    options = tyro.cli(Options, description=__doc__)
    rclpy.init()
    monitor = Monitor()
    try:
        with TemporaryDirectory() as folder:
            bench = Bench(options, monitor, Path(folder))
            if not machine.gpu_name():
                bench.say('no GPU: the nodes run on the CPU, memory of a GPU is not measured')
            bench.run()
        write_page(bench.result, bench.out)
    finally:
        monitor.close()


if __name__ == '__main__':
    main()
