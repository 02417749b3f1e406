"""
Measure a memory of many sightings: how long a search takes, what it holds, what it writes.

python benchmarks/memory/search.py [--rivals]

The vectors are random. With --rivals, other ways to search are measured beside: half precision in
blocks and, where it is installed, sqlite-vec.
"""
import os

os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')  # as the nodes do, before numpy is imported

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
import json
from multiprocessing import get_context
from pathlib import Path
import sys
from tempfile import TemporaryDirectory
import time
from typing import Any

from benchmarks import machine
from benchmarks.timing import percentile
import numpy as np
import tyro
from vl2v_ros.files import write_json
from vl2v_ros.memory.memory import Memory
from vl2v_ros.memory.sighting import Seen, Where
from vl2v_ros.words.vectors.origin import Origin

ROOT = Path(__file__).resolve().parents[2]
ORIGIN = Origin('a text tower', 'a student')
SECOND = 10 ** 9  # [ns]
BLOCK = 2048  # rows in half precision that are converted at once


@dataclass(frozen=True)
class Options:
    """What is measured."""

    out: Path = ROOT / 'build/benchmarks/memory_search.json'  # JSON file to write.
    count: int = 100_000  # Number of sightings.
    width: int = 512  # D of the vectors.
    queries: int = 200  # Number of searches.
    thumbnail: int = 3_000  # Size of a thumbnail [bytes].
    rivals: bool = False  # Measure other ways to search, too.


def units(count: int, width: int, seed: int) -> np.ndarray:
    """Return (count, width) float32 unit rows."""
    rows = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def times(search: Callable[[np.ndarray], Any], queries: np.ndarray) -> dict[str, float]:
    """
    Return how long searches take, and the computing time of all threads [ms].

    A tenth more come before, to warm up. On a busy machine the computing time says more.
    """
    taken, computed = [], []
    for query in np.concatenate([queries[:len(queries) // 10], queries]):
        start, busy = time.perf_counter(), time.process_time()
        search(query)
        taken.append(1e3 * (time.perf_counter() - start))
        computed.append(1e3 * (time.process_time() - busy))
    taken, computed = (sorted(values[len(queries) // 10:]) for values in (taken, computed))
    return {'p50 [ms]': percentile(taken, 0.5), 'p99 [ms]': percentile(taken, 0.99),
            'max [ms]': taken[-1], 'computing p50 [ms]': percentile(computed, 0.5),
            'computing p99 [ms]': percentile(computed, 0.99)}


def fill(memory: Memory, options: Options) -> dict[str, float]:
    """Write all sightings, a second's ten in a transaction; return how long that takes."""
    rows, saves = units(options.count, options.width, 0), []
    picture = bytes(options.thumbnail)
    for number, row in enumerate(rows):
        memory.see(ORIGIN, [Seen(row, number * SECOND // 10, f'camera {number % 4}')],
                   lambda seen: picture)
        if number % 10 == 9:
            start = time.perf_counter()
            memory.save()
            saves.append(1e3 * (time.perf_counter() - start))
    saves.sort()
    return {'p50 [ms]': percentile(saves, 0.5), 'p99 [ms]': percentile(saves, 0.99),
            'max [ms]': saves[-1]}


def opened(path: Path, count: int) -> dict[str, float]:
    """Open a memory; return how long that takes [s], and the memory that it takes [MiB]."""
    before, start = machine.memory(os.getpid()), time.perf_counter()
    memory = Memory(path, count)
    found = {'opened [s]': time.perf_counter() - start,
             'memory [MiB]': machine.memory(os.getpid()) - before}
    memory.close()
    return found


def measure(options: Options, folder: Path) -> dict[str, Any]:
    """Return the figures of our own memory."""
    path, queries = folder / 'memory.sqlite', units(options.queries, options.width, 1)
    memory = Memory(path, options.count)
    found: dict[str, Any] = {'ten sightings written': fill(memory, options)}
    memory.close()
    sizes = [file.stat().st_size for file in folder.iterdir()]
    found['file [MiB]'] = sum(sizes) / 2**20
    with ProcessPoolExecutor(1, get_context('spawn')) as fresh:  # as a node is after its start
        found |= fresh.submit(opened, path, options.count).result()
    memory = Memory(path, options.count)
    middle = options.count * SECOND // 20
    for what, where in {'all': Where(), 'one of four cameras': Where('camera 1'),
                        'half of the time': Where(after=middle)}.items():
        found[f'10 of {what}'] = times(partial(memory.find, k=10, where=where), queries)
    found['1000 of all'] = times(partial(memory.find, k=1000), queries)
    memory.close()
    return found


def in_blocks(rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a search in half precision, which takes half of the memory."""
    half, scores = rows.astype(np.float16), np.empty(len(rows), np.float32)

    def search(query: np.ndarray) -> np.ndarray:
        for start in range(0, len(half), BLOCK):
            np.matmul(half[start:start + BLOCK].astype(np.float32), query,
                      out=scores[start:start + BLOCK])
        return np.argpartition(-scores, 9)[:10]
    return search


def by_sqlite_vec(rows: np.ndarray, kind: str, path: Path) -> Callable[[np.ndarray], list[Any]]:
    """Return a search by sqlite-vec; raises ImportError without it."""
    import apsw  # Python's own SQLite often loads no extensions
    import sqlite_vec
    base = apsw.Connection(str(path))
    base.enable_load_extension(True)
    base.load_extension(sqlite_vec.loadable_path())
    base.execute(f'CREATE VIRTUAL TABLE rows USING vec0(row {kind}[{rows.shape[1]}])')
    value = {'float': '?', 'int8': "vec_quantize_int8(?, 'unit')"}[kind]
    with base:
        base.executemany(f'INSERT INTO rows (row) VALUES ({value})',
                         ((row.tobytes(),) for row in rows))
    return lambda query: base.execute(
        f'SELECT rowid, distance FROM rows WHERE row MATCH {value} AND k = 10',
        (query.tobytes(),)).fetchall()


def rivals(options: Options, folder: Path) -> dict[str, Any]:
    """Return the times of other ways to search."""
    rows, queries = units(options.count, options.width, 0), units(options.queries, options.width,
                                                                  1)
    found: dict[str, Any] = {'float16 in blocks': times(in_blocks(rows), queries)}
    for kind in ('float', 'int8'):
        try:
            search = by_sqlite_vec(rows, kind, folder / f'{kind}.sqlite')
        except ImportError as error:
            print(f'without sqlite-vec: {error}', file=sys.stderr)
            break
        found[f'sqlite-vec, {kind}'] = times(search, queries[:20])
    return found


def main() -> None:
    """Measure, print, and write the JSON."""
    options = tyro.cli(Options, description=__doc__)
    with TemporaryDirectory() as place:
        found = {'machine': machine.describe(), 'count': options.count, 'width': options.width,
                 'memory': measure(options, Path(place))}
        if options.rivals:
            found['rivals'] = rivals(options, Path(place))
    print(json.dumps({name: value for name, value in found.items() if name != 'machine'},
                     indent=1))
    write_json(options.out, found)


if __name__ == '__main__':
    main()
