"""
Run the CUDA tests and the benchmarks of the core; write one JSON and one page.

benchmarks/on_gpu.sh, which also provides what Python lacks.

Each part is a process of its own and runs whatever became of those before it. The exit code is 1
if one of them failed.
"""
import argparse
from dataclasses import dataclass
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import time
from xml.etree import ElementTree

import machine

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / 'benchmarks'
TITLES = {'profile': 'One frame', 'tests': 'CUDA tests', 'component': 'Beside others',
          'training': 'Training', 'step': 'Training step'}
# [s] on a GPU; together under 5 minutes
LIMITS = {'profile': 40, 'tests': 110, 'component': 65, 'training': 55, 'step': 20}
SLOWER = 12  # times as long may a rehearsal on a CPU take


@dataclass(frozen=True)
class Done:
    """How a part ended."""

    code: int
    seconds: float
    said: str


def state(code: int, result: dict[str, object]) -> str:
    """Say how a part ended, for the table."""
    if code:
        return f'FAILED (exit code {code})'
    left_out = result.get('left out', {})
    return f'FAILED (left out: {", ".join(left_out)})' if left_out else 'ok'


def commands(device: str, quick: bool, folder: Path) -> dict[str, list[object]]:
    """Return the command of each part; it writes <part>.json, or .xml for the tests."""
    # Where there is no GPU: the same code, as small as it can be.
    small, cuda = quick or device == 'cpu', device != 'cpu'
    files = [path for path in sorted((ROOT / 'test').glob('test_*.py'))
             if 'mark.cuda' in path.read_text(encoding='utf-8')]
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
            [16] if cuda else []), '--rounds', 1 if small else 3, '--seconds',
            0.2 if cuda else 0, *few),
        'training': measured('training_rate.py', 'training', *(
            [] if cuda else ['--batch', 8, '--image-size', 64, '--steps', 8]), *(
            ['--steps', 60] if cuda and quick else [])),
        'step': measured('training_step.py', 'step', '--rounds', 1 if small else 5, *(
            ['--batch', 256, '--steps', 20] if cuda else ['--batch', 4, '--steps', 1]))}


def run(command: list[object], limit: float, device: str, log: Path) -> Done:
    """Run Python with some arguments, for so long at most; it and all it started end then."""
    environment = os.environ | ({'CUDA_VISIBLE_DEVICES': ''} if device == 'cpu' else {})
    start = time.monotonic()
    with log.open('w', encoding='utf-8') as out:
        process = subprocess.Popen([sys.executable, *map(str, command)], stdout=out, cwd=ROOT,
                                   stderr=subprocess.STDOUT, env=environment,
                                   start_new_session=True)
        try:
            code, ended = process.wait(limit), []
        except subprocess.TimeoutExpired:
            code, ended = 124, [f'stopped: it took more than {limit:.0f} s']
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:  # nothing is left of it
                pass
            process.wait()
    said = log.read_text(encoding='utf-8', errors='replace').replace('\r', '\n').strip()
    return Done(code, time.monotonic() - start, '\n'.join([said, *ended]))


def read_tests(path: Path) -> dict[str, object]:
    """Return what pytest says in JUnit's format, as JSON and with a 'table'."""
    cases = list(ElementTree.parse(path).iter('testcase'))

    def named(kind: str) -> list[str]:
        return [f'{case.get("name")}: {part.get("message", "")[:300]}'
                for case in cases for part in case.findall(kind)]

    failed, skipped = named('failure') + named('error'), named('skipped')
    found = {'tests': len(cases), 'failed': failed, 'skipped': skipped,
             'seconds': {case.get('name'): float(case.get('time')) for case in cases}}
    lines = [f'{len(cases)} tests, {len(failed)} failed, {len(skipped)} skipped.']
    if failed:
        lines += ['', *(f'- {" ".join(line.split())}' for line in failed)]
    return found | {'table': '\n'.join(lines)}


def read_result(part: str, folder: Path) -> dict[str, object]:
    """Return what a part wrote; empty if it did not come to that."""
    try:
        if part == 'tests':
            return read_tests(folder / 'tests.xml')
        return json.loads((folder / f'{part}.json').read_text())
    except (OSError, ValueError, ElementTree.ParseError):
        return {}


def page(result: dict[str, object]) -> str:
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
                        help='cpu: rehearse all of it, small')
    parser.add_argument('--quick', action='store_true', help='fewer rounds')
    parser.add_argument('--parts', nargs='+', choices=list(TITLES), default=list(TITLES))
    parser.add_argument('--out', type=Path, help='folder of the results; default: a new one')
    return parser.parse_args(arguments)


def main() -> None:
    """Run all parts, say how each ended, and write what they found."""
    options = parse(sys.argv[1:])
    if options.device == 'cuda':
        import torch
        if not torch.cuda.is_available():
            sys.exit(f'on_gpu: expected a CUDA device, torch {torch.__version__} finds none; '
                     'repair the driver, or rehearse on the CPU with --device cpu')
    out = (options.out or Path(tempfile.mkdtemp(prefix='on_gpu_'))).resolve()
    folder = out / 'parts'
    folder.mkdir(parents=True, exist_ok=True)
    start, parts = time.monotonic(), {}
    for part, command in commands(options.device, options.quick, folder).items():
        if part not in options.parts:
            continue
        print(f'on_gpu: {TITLES[part]} ...', flush=True)
        for old in folder.glob(f'{part}.*'):
            old.unlink()
        limit = LIMITS[part] * (SLOWER if options.device == 'cpu' else 1)
        done = run(command, limit, options.device, folder / f'{part}.log')
        found = read_result(part, folder)
        parts[part] = {'state': state(done.code, found), 'seconds': round(done.seconds, 1),
                       'said': done.said, 'result': found}
        print(f'on_gpu: {TITLES[part]}: {parts[part]["state"]}, {done.seconds:.0f} s', flush=True)
    found = machine.describe() | machine.gpu()
    result = {'device': found['gpu'] if options.device == 'cuda' else 'CPU, a rehearsal',
              'machine': found, 'quick': options.quick, 'parts': parts,
              'seconds': round(time.monotonic() - start, 1)}
    (out / 'on_gpu.json').write_text(json.dumps(result, indent=1))
    (out / 'on_gpu.md').write_text(page(result), encoding='utf-8')
    print(f'\n{page(result)}\non_gpu: wrote {out / "on_gpu.json"} and {out / "on_gpu.md"}')
    sys.exit(any(found['state'] != 'ok' for found in parts.values()))


if __name__ == '__main__':
    main()
