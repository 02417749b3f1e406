"""
Measure one pass through a student on a CPU: its time on the clock, and its CPU time.

python -m benchmarks.passes
python -m benchmarks.passes --others 2

Passes of several batch sizes, with one and with more threads, pinned to CPUs or not, take turns:
one right after the other, and with pauses, as between the frames of a slow camera. The frames are
noise. It writes JSON.
"""
from dataclasses import dataclass
from itertools import product
from pathlib import Path
import re
import subprocess
import sys
import time
from typing import Any

from benchmarks import machine
from benchmarks.timing import percentile
import numpy as np
import openvino
from tqdm import tqdm
import tyro
from vl2v_ros.files import write_json
from vl2v_ros.labeller import Labeller
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime import graphs
from vl2v_ros.model.runtime.precision import HINTS
from vl2v_ros.words.cached_text import default_cache_dir

ROOT = Path(__file__).resolve().parent.parent
PASSES = 10  # of one contender in a turn


@dataclass(frozen=True)
class Options:
    """What is measured."""

    checkpoint: Path = ROOT / 'models/student.safetensors'  # The student.
    batches: tuple[int, ...] = (1, 2, 4, 8)  # Frames in a pass.
    threads: tuple[int, ...] = (1, 2)  # Threads of a pass.
    pause: float = 0.02  # Between passes, where there are pauses [s].
    rounds: int = 10  # Turns of each contender.
    others: int = 0  # Processes that compute without end, beside.
    out: Path = ROOT / 'build/benchmarks/passes.json'  # JSON file to write.


def contenders(options: Options) -> dict[str, openvino.InferRequest]:
    """Return name -> a request that is ready to run, in the precision that the runtime chose."""
    student = checkpoint.open_stored(options.checkpoint, default_cache_dir())
    runtime = Labeller.open(options.checkpoint, 'cpu').classifier.runtime
    chosen = re.match(r'CPU, (?:int8 and )?(\w+), ', runtime.description)
    if not chosen:
        raise ValueError(f'expected a student that runs in OpenVINO, got {runtime.description}')
    size, rng = student.spec.image_size, np.random.default_rng(0)
    found = {}
    for batch, threads, pinned in product(options.batches, options.threads, (False, True)):
        model = graphs.of_weights(student)
        model.reshape([batch, size, size, 3])
        request = graphs.core().compile_model(model, 'CPU', {
            'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': HINTS[chosen[1]],
            'INFERENCE_NUM_THREADS': threads, 'NUM_STREAMS': 1, 'ENABLE_CPU_PINNING': pinned,
        }).create_infer_request()
        given = request.get_input_tensor().data
        given[:] = rng.integers(0, 256, given.shape)
        request.infer()
        found[f'batch {batch}, {threads} thread{"s" * (threads > 1)}'
              + ', pinned' * pinned] = request
    return found


def measure(options: Options) -> dict[str, Any]:
    """Return the result as JSON can hold it; times are per frame [ms]."""
    requests = contenders(options)
    runs: dict[str, dict[str, Any]] = {}
    for turn, (name, request) in tqdm(
            list(product(range(-1, options.rounds), requests.items())), unit='turn'):
        frames = request.get_input_tensor().shape[0]
        for pause in (0.0, options.pause):
            clock = []
            before = time.process_time()
            for _ in range(PASSES):
                start = time.perf_counter()
                request.infer()
                clock.append(1e3 * (time.perf_counter() - start) / frames)
                time.sleep(pause)
            used = 1e3 * (time.process_time() - before) / PASSES / frames
            if turn >= 0:  # the first is for warming up
                run = runs.setdefault(name + ', pauses' * (pause > 0), {'cpu': [], 'clock': []})
                run['cpu'].append(used)
                run['clock'] += clock
    return {'machine': machine.describe(), 'checkpoint': options.checkpoint.name,
            'others': options.others, 'pause [s]': options.pause,
            'milliseconds per frame': runs}


def table(result: dict[str, Any]) -> str:
    """Return Markdown."""
    lines = ['| pass | CPU time per frame [ms] | clock p50 [ms] | clock p95 [ms] |',
             '|---|---:|---:|---:|']
    for name, run in result['milliseconds per frame'].items():
        used, clock = sorted(run['cpu']), sorted(run['clock'])
        lines.append(f'| {name} | {percentile(used, 0.5):.2f} ({used[0]:.2f} to {used[-1]:.2f}) | '
                     f'{percentile(clock, 0.5):.2f} | {percentile(clock, 0.95):.2f} |')
    return '\n'.join(lines)


def main() -> None:
    """Measure, print the table, and write the JSON."""
    options = tyro.cli(Options, description=__doc__)
    if options.rounds < 1 or min(*options.batches, *options.threads) < 1:
        sys.exit('passes: --rounds, --batches, --threads: expected at least 1, got '
                 f'{options.rounds}, {options.batches}, {options.threads}')
    busy = [subprocess.Popen([sys.executable, '-c', 'while True: pass'])
            for _ in range(options.others)]
    try:
        result = measure(options)
    except ValueError as error:
        sys.exit(f'passes: {error}')
    finally:
        for process in busy:
            process.kill()
            process.wait()
    result['table'] = table(result)
    print(result['table'])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, result)


if __name__ == '__main__':
    main()
