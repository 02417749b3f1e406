"""
Damage files at random and read them: no crash, no hang, no full memory, and each refusal says why.

python -m reliability.fuzz_files --trials 100000 --out fuzz

The files are read in processes of their own. Each trial must end within 5 s of computing time (and
30 s in all), within 1 GiB of memory above what the process had, and with a result or a ValueError
whose text is a sentence. What does not is kept in OUT with what was said; `--kind image --first 17
--trials 1` with the same seed repeats it. Exit with 1 if there is something.
"""
import argparse
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
import json
import os
from pathlib import Path
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from typing import Any

from reliability.readers import damaged, KINDS, order, why_no_sentence, write_seeds
from tqdm import tqdm

COMPUTING, PATIENCE = 5.0, 30.0  # limits of one trial: of the processor, in all [s]
MEMORY = 1 << 30  # that a trial may use beyond what the process had before it [bytes]
ADDRESSES = 8 << 30  # that a process may have beyond those of its libraries [bytes]
BEGIN = 120.0  # for a new process to be ready [s]
OURS = 'vl2v_ros', 'training'
TICKS = os.sysconf('SC_CLK_TCK')


@dataclass
class Tally:
    """
    What came of the trials.

    outcomes: kind -> how many were read, refused, or are findings.
    findings: each with kind, number, what and why.
    slowest, largest: kind -> longest time [s] and most memory [MiB] of a trial.
    """

    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)
    slowest: dict[str, float] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)

    def add(self, kind: str, number: int, answer: dict[str, Any]) -> None:
        counts = self.outcomes.setdefault(kind, {})
        counts[answer['outcome']] = counts.get(answer['outcome'], 0) + 1
        for name, table in (('seconds', self.slowest), ('mebibytes', self.largest)):
            table[kind] = max(table.get(kind, 0.0), answer.get(name, 0.0))
        if answer['outcome'] not in ('read', 'refused'):
            self.findings.append({'kind': kind, 'number': number, **answer})


def peak() -> int:
    """Return the largest memory of this process since `forget_peak` [bytes]."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return int(next(line for line in lines if line.startswith('VmHWM')).split()[1]) << 10


def forget_peak() -> None:
    Path('/proc/self/clear_refs').write_text('5')


def attempt(kind: str, folder: Path, target: Path) -> dict[str, Any]:
    """Read one file; say what came of it."""
    forget_peak()
    before, start = peak(), time.monotonic()
    try:
        KINDS[kind].read(folder, target)
        answer = {'outcome': 'read', 'why': ''}
    except ValueError as error:
        plain = type(error) is ValueError or type(error).__module__.startswith(OURS)
        said = str(error)
        wrong = why_no_sentence(said) if plain else type(error).__name__
        answer = {'outcome': f'says {wrong}' if wrong else 'refused', 'why': said[:500]}
        if wrong:
            answer['trace'] = traceback.format_exc()
    except BaseException as error:  # noqa: BLE001 whatever it is, it is a finding
        answer = {'outcome': type(error).__name__, 'why': str(error)[:500],
                  'trace': traceback.format_exc()[-3000:]}
    answer['seconds'] = time.monotonic() - start
    answer['mebibytes'] = (used := peak() - before) / 2 ** 20
    if used > MEMORY:
        answer['outcome'] = f'memory, after: {answer["outcome"]}'
    return answer


def child(seeds_of: Path, scratch: Path, seed: int) -> None:
    """Read what the parent names: lines of kind and number; answer each with a line of JSON."""
    import faulthandler
    faulthandler.enable()
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # what libraries print is no answer
    from support import tiny_models  # noqa: F401 torch and its kin, before memory is limited
    lines = Path('/proc/self/status').read_text().splitlines()
    size = int(next(line for line in lines if line.startswith('VmSize')).split()[1]) << 10
    resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESSES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print('ready', file=answers, flush=True)
    kinds: dict[str, Any] = {}
    for line in sys.stdin:
        kind, number = line.split()
        if kind not in kinds:
            kinds[kind] = damaged(kind, seeds_of, scratch, seed)
        target = kinds[kind].damage(int(number))
        answer = attempt(kind, kinds[kind].folder, target)
        print(json.dumps({'target': str(target), **answer}), file=answers, flush=True)


class Reader:
    """A process that reads, and is replaced when it crashes or hangs."""

    def __init__(self, seeds_of: Path, scratch: Path, seed: int) -> None:
        self._place, self._scratch, self._seed = seeds_of, scratch, seed
        self._log = scratch.with_suffix('.log')
        self._start()

    def _start(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'reliability.fuzz_files', '--child', str(self._place),
             str(self._scratch), '--seed', str(self._seed)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self._log.open('wb'), text=True, bufsize=1,
            env={**os.environ, 'OPENCV_LOG_LEVEL': 'OFF', 'OPENCV_FFMPEG_LOGLEVEL': '-8',
                 'OMP_NUM_THREADS': '1'})
        if self._answer(BEGIN, BEGIN) != 'ready\n':
            raise RuntimeError(f'the reading process does not start: {self._said()}')

    def _said(self) -> str:
        text = self._log.read_text(errors='replace')
        return text.partition('Extension modules')[0][-2500:]

    def _computed(self) -> float:
        """Return the computing time of the process so far [s]."""
        try:
            fields = Path(f'/proc/{self._process.pid}/stat').read_text().rsplit(')')[-1].split()
        except OSError:  # it has ended
            return 0.0
        return (int(fields[11]) + int(fields[12])) / TICKS

    def _answer(self, computing: float, patience: float) -> str:
        """Return the next line; '' if the process has ended, 'late' if none comes in time."""
        assert self._process.stdout
        end, used = time.monotonic() + patience, self._computed()
        while not select.select([self._process.stdout], [], [], 0.5)[0]:
            if time.monotonic() > end or self._computed() - used > computing:
                return 'late'
        return self._process.stdout.readline()

    def trial(self, kind: str, number: int) -> dict[str, Any]:
        """Let one damaged file be read."""
        assert self._process.stdin
        start = time.monotonic()
        self._process.stdin.write(f'{kind} {number}\n')
        self._process.stdin.flush()
        line = self._answer(COMPUTING, PATIENCE)
        if line.startswith('{'):
            return json.loads(line)
        self._process.send_signal(signal.SIGABRT)  # so that it says where it is
        try:
            code = self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return {'outcome': 'hangs' if line else 'crashes', 'why': f'ended with {code}',
                'seconds': time.monotonic() - start, 'trace': self._said()}

    def keep(self, kind: str, number: int, answer: dict[str, Any], out: Path) -> None:
        """Keep the damaged file of a finding, and what was said."""
        name = ''.join(letter if letter.isalnum() else '_' for letter in answer['outcome'])[:40]
        folder = out / f'{kind}_{number}_{name}'
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            shutil.copy(damaged(kind, self._place, Path(scratch), self._seed).damage(number),
                        folder)
        (folder / 'finding.json').write_text(json.dumps(answer, indent=1))
        if 'target' not in answer:
            self._start()

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(30)


def fuzz(work: Iterator[tuple[str, int]], total: int, seed: int, jobs: int, out: Path,
         only: str = '') -> Tally:
    """Do the trials in so many processes; keep the findings in `out`."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(jobs) as pool, tqdm(
            total=total, unit='file', disable=None, mininterval=5) as bar:
        folder = Path(name)
        write_seeds(folder / 'seeds', only)

        def run(job: int) -> None:
            reader = Reader(folder / 'seeds', folder / f'job_{job}', seed)
            for kind, number in iter(lambda: next(work, None), None):
                answer = reader.trial(kind, number)
                if answer['outcome'] not in ('read', 'refused'):
                    reader.keep(kind, number, answer, out)
                tally.add(kind, number, answer)
                bar.update()
            reader.close()
        list(pool.map(run, range(jobs)))
    return tally


class Shared:
    """An iterator that several threads may take from."""

    def __init__(self, items: Iterator[tuple[str, int]]) -> None:
        import threading
        self._items, self._lock = items, threading.Lock()

    def __iter__(self) -> 'Shared':
        return self

    def __next__(self) -> tuple[str, int]:
        with self._lock:
            return next(self._items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--trials', type=int, default=100_000, help='number of damaged files')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--kind', default='', choices=('', *KINDS), help='this kind alone')
    parser.add_argument('--first', type=int, default=0, help='number of the first trial')
    parser.add_argument('--jobs', type=int, default=2, help='processes that read')
    parser.add_argument('--out', type=Path, default=Path('fuzz'), help='folder for the findings')
    parser.add_argument('--child', type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(*options.child, options.seed)
    start = time.monotonic()
    work = ((kind, options.first + number) for kind, number in order(
        options.trials, options.kind))
    tally = fuzz(Shared(work), options.trials, options.seed, options.jobs, options.out,
                 options.kind)
    print(json.dumps({'trials': options.trials, 'seed': options.seed, 'seconds': round(
        time.monotonic() - start), **{name: value for name, value in asdict(tally).items()
                                      if name != 'findings'}}, indent=1))
    what = Counter((one['kind'], one['outcome']) for one in tally.findings)
    for (kind, outcome), count in what.most_common():
        print(f'{count} x {kind}: {outcome}')
    sys.exit(int(bool(tally.findings)))


if __name__ == '__main__':
    main()
