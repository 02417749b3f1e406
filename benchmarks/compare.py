"""
Compare two runs of `make bench`: which figures became worse, and which better.

make bench-compare OLD=old.json NEW=new.json

A figure is worse if the whole range of the new runs lies beyond the range of the old ones; with
one run each, if it is worse by more than a tenth.
"""
from collections.abc import Sequence
import json
from pathlib import Path
import statistics
import sys
from typing import Any

ALONE = 0.1  # relative difference that two single runs may have
# Figures, and their units.
COMPARED = {'latency p50': 'ms', 'latency p99': 'ms', 'cpu': 'ms/frame', 'memory': 'MiB',
            'gpu memory': 'MiB', 'highest rate': 'Hz', 'missed': 'frames', 'image hop p50': 'ms',
            'first label': 's'}
HIGHER_IS_BETTER = ('highest rate',)


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


def main(arguments: Sequence[str]) -> None:
    """Print the lines; exit with 1 if something became worse."""
    if len(arguments) != 2:
        sys.exit('bench-compare: expected two files: make bench-compare OLD=old.json NEW=new.json')
    old, new = (read(Path(argument)) for argument in arguments)
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
    main(sys.argv[1:])
