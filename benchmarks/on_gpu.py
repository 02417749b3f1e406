"""
Run the CUDA tests and the benchmarks of the core; write one JSON file and one page.

Start it with benchmarks/on_gpu.sh, which also provides missing Python packages.

Each part is a process of its own and runs even if an earlier one failed. All parts start as copies
of a process that has imported the packages, which takes 15 s on some machines. The exit code is 1
if a part failed.
"""
import argparse
from collections.abc import Callable
from dataclasses import dataclass
import json
import multiprocessing
from multiprocessing.process import BaseProcess
import os
from pathlib import Path
import runpy
import signal
import sys
import tempfile
import time
from typing import Any
from xml.etree import ElementTree

from benchmarks import machine

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / 'benchmarks'
TITLES = {'profile': 'One frame', 'tests': 'CUDA tests', 'component': 'Beside others',
          'training': 'Training', 'step': 'Training step'}
QUICK = ('profile', 'tests', 'step')
# [s] on a GPU; a good one needs half of it, and 20 s before all parts to import packages
LIMITS = {'profile': 40, 'tests': 110, 'component': 65, 'training': 55, 'step': 20}
SLOWER = 12  # factor of these limits for a rehearsal on a CPU
# Imported once for all parts. None of them may start CUDA: no copy of the process could use it.
PACKAGES = ['torch', 'torchvision', 'timm', 'timm.optim', 'cv2', 'open_clip', 'tyro', 'pytest',
            'lightning_fabric', 'webdataset', 'torch.profiler', 'torch.utils.tensorboard',
            'vl2v_ros.model.classifier', 'vl2v_ros.model.runtime.torch_runtime']
CORES = 8  # from here on the tests' toy student is trained beside the first tests
TOY = 'SHAPES_FOLDER'  # environment variable: where tests find it, see test/conftest.py


@dataclass(frozen=True)
class Done:
    """How a part ended."""

    code: int
    seconds: float
    said: str


def state(code: int, result: dict[str, Any]) -> str:
    """Return how a part ended, for the table."""
    if code:
        return f'FAILED (exit code {code})'
    left_out = result.get('left out', {})
    return f'FAILED (left out: {", ".join(left_out)})' if left_out else 'ok'


def commands(device: str, quick: bool, folder: Path) -> dict[str, list[object]]:
    """Return the command of each part; it writes <part>.json, or .xml for the tests."""
    # Where there is no GPU: the same code, as small as it can be.
    small, cuda = quick or device == 'cpu', device != 'cpu'
    texts = {path: path.read_text(encoding='utf-8')
             for path in sorted((ROOT / 'test').rglob('test_*.py'))}
    files = sorted((path for path, text in texts.items() if 'mark.cuda' in text),
                   key=lambda path: 'shapes_student' in texts[path])  # the toy's last
    few = [] if cuda else ['--width', 320, '--height', 240]

    def measured(script: str, part: str, *options: object) -> list[object]:
        return [BENCHMARKS / script, '--device', device, '--out', folder / f'{part}.json',
                *options]

    return {
        'profile': measured('frame_profile.py', 'profile', '--frames', 1000 if cuda else 20,
                            '--profiled', 20 if cuda else 3),
        'tests': ['-m', 'pytest', '-m', 'cuda', '-p', 'no:cacheprovider', '--durations', 5, '-q',
                  f'--junitxml={folder / "tests.xml"}', *files],
        'component': measured('component.py', 'component', '--batches', 1, 4, *(
            [16] if cuda else []), '--rounds', 1 if small else 2, '--seconds',
            0.2 if cuda else 0, *few),
        'training': measured('learning/training_rate.py', 'training', *(
            ['--steps', 20 if quick else 40] if cuda else
            ['--batch', 8, '--image-size', 64, '--steps', 8])),
        'step': measured('learning/training_step.py', 'step', '--rounds', 1 if small else 4, *(
            ['--batch', 256, '--steps', 10] if cuda else ['--batch', 4, '--steps', 1]))}


def perform(command: list[str], log: Path) -> None:
    """Run a script, or -m and a module, with arguments, as Python does; log its output."""
    os.setsid()  # so that it ends with all that it starts
    with log.open('w', encoding='utf-8') as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
    os.chdir(ROOT)
    if command[0] == '-m':
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name='__main__', alter_sys=True)
    else:
        sys.argv = command
        runpy.run_path(command[0], run_name='__main__')


def expect_cuda() -> None:
    import torch
    if not torch.cuda.is_available():
        sys.exit(f'on_gpu: expected a CUDA device, torch {torch.__version__} finds none; repair '
                 'the driver, or rehearse on the CPU with --device cpu')


def begin(do: Callable[..., None], *arguments: object) -> BaseProcess:
    """Start a function in a copy of the process that has imported the packages."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(PACKAGES)
    process = context.Process(target=do, args=arguments)
    process.start()
    return process


def end(process: BaseProcess) -> None:
    """End a process and all that it started."""
    assert process.pid is not None, 'expected a process that was started'
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # nothing is left of it, or it has just begun
        process.kill()
    process.join()


def run(command: list[object], limit: float, log: Path) -> Done:
    """Run Python with some arguments, at most for `limit` [s]; then end all its processes."""
    start = time.monotonic()
    process = begin(perform, [*map(str, command)], log)
    try:
        process.join(limit)
        late = process.exitcode is None
    finally:
        end(process)
    said = log.read_text(encoding='utf-8', errors='replace').replace('\r', '\n').strip()
    if late:
        said += f'\nstopped: it took more than {limit:.0f} s'
    code = process.exitcode
    return Done(124 if late or code is None else code, time.monotonic() - start, said)


def read_tests(path: Path) -> dict[str, Any]:
    """Return pytest's results in JUnit's format as values for JSON, with a 'table'."""
    cases = list(ElementTree.parse(path).iter('testcase'))

    def named(kind: str) -> list[str]:
        return [f'{case.get("name")}: {part.get("message", "")[:300]}'
                for case in cases for part in case.findall(kind)]

    failed, skipped = named('failure') + named('error'), named('skipped')
    found = {'tests': len(cases), 'failed': failed, 'skipped': skipped,
             'seconds': {case.get('name'): float(case.get('time', 'nan')) for case in cases}}
    lines = [f'{len(cases)} tests, {len(failed)} failed, {len(skipped)} skipped.']
    if failed:
        lines += ['', *(f'- {" ".join(line.split())}' for line in failed)]
    return found | {'table': '\n'.join(lines)}


def read_result(part: str, folder: Path) -> dict[str, Any]:
    """Return the results that a part wrote, empty if it wrote none."""
    try:
        if part == 'tests':
            return read_tests(folder / 'tests.xml')
        return json.loads((folder / f'{part}.json').read_text())
    except (OSError, ValueError, ElementTree.ParseError):
        return {}


def page(result: dict[str, Any]) -> str:
    """Return the Markdown page."""
    lines = [f'# {result["device"]}', '', f'{machine.sentence(result["machine"])}.', '',
             f'`benchmarks/on_gpu.sh`, {result["seconds"]:.0f} s.', '',
             '| part | seconds | |', '|---|---:|---|']
    lines += [f'| {TITLES[part]} | {found["seconds"]:.0f} | {found["state"]} |'
              for part, found in result['parts'].items()]
    for part, found in result['parts'].items():
        lines += ['', f'## {TITLES[part]}', '', found['result'].get('table', 'No result.')]
        if found['state'] != 'ok':
            lines += ['', 'It said last:', '', '```', *found['said'].splitlines()[-40:], '```']
    return '\n'.join(lines) + '\n'


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser('on_gpu.sh', description=__doc__)
    parser.add_argument('--device', default='cuda', choices=['cuda', 'cpu'],
                        help='device to run on; cpu: a small rehearsal without a GPU')
    parser.add_argument('--quick', action='store_true',
                        help=f'fewer rounds, and by default only the parts {" ".join(QUICK)}')
    parser.add_argument('--parts', nargs='+', choices=list(TITLES),
                        help='parts to run (default: all)')
    parser.add_argument('--out', type=Path, help='folder of the results (default: a new one)')
    return parser.parse_args(arguments)


def run_parts(options: argparse.Namespace, folder: Path, whole_log: Path) -> dict[str, Any]:
    """Run the parts, print how each ended, and write their output into one file."""
    parts: dict[str, Any] = {}
    wanted = options.parts or (QUICK if options.quick else TITLES)
    with whole_log.open('w', encoding='utf-8') as whole:
        for part, command in commands(options.device, options.quick, folder).items():
            if part not in wanted:
                continue
            print(f'on_gpu: {TITLES[part]} ...', flush=True)
            limit = LIMITS[part] * (SLOWER if options.device == 'cpu' else 1)
            toy = begin(perform, [str(ROOT / 'test/support/shapes.py'), os.environ[TOY]],
                        folder / 'toy.log') if TOY in os.environ and part == 'tests' else None
            try:
                done = run(command, limit, folder / f'{part}.log')
            finally:
                if toy:
                    end(toy)
            found = read_result(part, folder)
            parts[part] = {'state': state(done.code, found), 'seconds': round(done.seconds, 1),
                           'said': done.said, 'result': found}
            print(f'== {TITLES[part]}\n\n{done.said}\n', file=whole, flush=True)
            print(f'on_gpu: {TITLES[part]}: {parts[part]["state"]}, {done.seconds:.0f} s',
                  flush=True)
    return parts


def main() -> None:
    """Run all parts, print how each ended, and write their results."""
    options = parse(sys.argv[1:])
    out = (options.out or Path(tempfile.mkdtemp(prefix='on_gpu_'))).resolve()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        # The environment has to be set before the first process.
        if options.device == 'cpu':
            os.environ['CUDA_VISIBLE_DEVICES'] = ''
        elif (os.cpu_count() or 1) >= CORES:
            os.environ[TOY] = str(Path(folder, 'toy'))
        if options.device == 'cuda':
            check = begin(expect_cuda)
            check.join()
            if check.exitcode:
                sys.exit(1)
        out.mkdir(parents=True, exist_ok=True)
        parts = run_parts(options, Path(folder), out / 'on_gpu.log')
    found = machine.describe() | machine.gpu()
    result = {'device': found['gpu'] if options.device == 'cuda' else 'CPU, a rehearsal',
              'machine': found, 'quick': options.quick, 'parts': parts,
              'seconds': round(time.monotonic() - start, 1)}
    (out / 'on_gpu.json').write_text(json.dumps(result, indent=1))
    (out / 'on_gpu.md').write_text(page(result), encoding='utf-8')
    print(f'\n{page(result)}\non_gpu: wrote on_gpu.json, on_gpu.md and on_gpu.log in {out}')
    sys.exit(any(found['state'] != 'ok' for found in parts.values()))


if __name__ == '__main__':
    main()
