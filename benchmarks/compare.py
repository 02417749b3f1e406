"""
Compare two runs of `make bench`: which figures became worse, and which better.

make bench-compare                           # your last run, with the committed figures
make bench-compare OLD=old.json NEW=new.json

The committed figures are those of docs/benchmarks from the same kind of machine. A figure is worse
if the whole range of the new runs lies beyond the range of the old ones; with one run each, if it
is worse by more than a tenth.
"""
from collections.abc import Sequence
from dataclasses import dataclass
import json
from pathlib import Path
import statistics
import sys
from typing import Any

from benchmarks.contenders import OUT, ROOT
import tyro

COMMITTED = ROOT / 'docs/benchmarks'
# What two machines of one kind have in common, of their descriptions.
KIND = ('cpu', 'instructions', 'cores', 'gpu', 'system')
ALONE = 0.1  # relative difference that two single runs may have
# Figures, and their units.
COMPARED = {'latency p50': 'ms', 'latency p99': 'ms', 'cpu': 'ms/frame', 'memory': 'MiB',
            'gpu memory': 'MiB', 'highest rate': 'Hz', 'missed': 'frames', 'image hop p50': 'ms',
            'first label': 's'}
HIGHER_IS_BETTER = ('highest rate',)


@dataclass(frozen=True)
class Options:
    """The two runs."""

    old: Path | None = None
    """JSON file of the earlier run; default: the committed one of the same kind of machine."""
    new: Path | None = None
    """JSON file of the later run; default: the last one in build/benchmarks."""


def verdict(old: Sequence[float], new: Sequence[float], higher_is_better: bool) -> int:
    """Return 1 if the new runs are worse than the old beyond their range, -1 if better, else 0."""
    if higher_is_better:
        old, new = [-value for value in old], [-value for value in new]
    slack = ALONE * abs(statistics.median(old)) if min(len(old), len(new)) < 2 else 0.0
    return (min(new) > max(old) + slack) - (max(new) < min(old) - slack)


def compare(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return a line for each figure that became worse, and for each that became better."""
    lines: dict[int, list[str]] = {1: [], -1: [], 0: []}
    for name in old['figures'].keys() & new['figures'].keys():
        before, after = old['figures'][name], new['figures'][name]
        for figure, unit in COMPARED.items():
            pair = [[run[figure] for run in runs if figure in run] for runs in (before, after)]
            if all(pair):
                middle = [statistics.median(values) for values in pair]
                change = f' ({middle[1] / middle[0] - 1:+.0%})' if middle[0] else ''
                ranges = [f'{min(values):.4g} to {max(values):.4g}' for values in pair]
                lines[verdict(pair[0], pair[1], figure in HIGHER_IS_BETTER)].append(
                    f'{name}: {figure} {middle[0]:.4g} -> {middle[1]:.4g} {unit}{change}'
                    f'; {ranges[0]} before, {ranges[1]} now')
    return sorted(lines[1]), sorted(lines[-1])


def read(path: Path) -> dict[str, Any]:
    """Return a run; exits with one line if the file is no run."""
    try:
        run = json.loads(path.read_text())
        if 'figures' not in run:
            raise ValueError('it has no figures')
        return run
    except (OSError, ValueError) as error:
        sys.exit(f'bench-compare: expected the JSON of a `make bench`, got {path}: {error}')


def last_run(folder: Path) -> Path:
    """Return the newest run in a folder; exits with one line if there is none."""
    found = [path for path in (folder / 'bench.json', folder / 'quick.json') if path.is_file()]
    if not found:
        sys.exit(f"bench-compare: expected a run in {folder}, got none; run `make bench` or "
                 "`make bench BENCH_ARGS='--quick'` first, or name one with NEW=...")
    return max(found, key=lambda path: path.stat().st_mtime)


def committed(new: dict[str, Any], folder: Path) -> Path:
    """Return the run of a folder from the machine of `new`; exits with one line without one."""
    runs = {path: run for path in sorted(folder.glob('*.json'))
            if 'figures' in (run := json.loads(path.read_text()))}
    fitting = [path for path, run in runs.items()
               if all(run['machine'].get(key) == new['machine'].get(key) for key in KIND)]
    if not fitting:
        kinds = '; '.join(f'{path.name}: {_kind(run)}' for path, run in runs.items())
        sys.exit(f'bench-compare: expected committed figures of {_kind(new)}, got {kinds}; '
                 'name a run with OLD=...')
    return min(fitting, key=lambda path: runs[path]['options'] != new['options'])


def _kind(run: dict[str, Any]) -> str:
    return ', '.join(f'{key} {run["machine"].get(key, "unknown")}' for key in KIND)


def main() -> None:
    """Print the lines; exit with 1 if something became worse."""
    options = tyro.cli(Options, description=__doc__)
    new_path = options.new or last_run(OUT)
    new = read(new_path)
    old_path = options.old or committed(new, COMMITTED)
    old = read(old_path)
    print(f'{old_path} -> {new_path}')
    for key in ('machine', 'options'):
        if old[key] != new[key]:
            differs = sorted(name for name in old[key].keys() | new[key].keys()
                             if old[key].get(name) != new[key].get(name))
            print(f'the two differ in {key}: {", ".join(differs)}; compare them with care')
    worse, better = compare(old, new)
    for title, lines in (('worse', worse), ('better', better)):
        print('\n'.join([f'{len(lines)} figures are {title} beyond the range of their runs',
                         *(f'  {line}' for line in lines)]))
    sys.exit(1 if worse else 0)


if __name__ == '__main__':
    main()
