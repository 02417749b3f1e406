"""Rows: which images the batches of an epoch have; the same however often a run is resumed."""
from collections.abc import Sequence

import numpy as np


def rows_of_epoch(count: int, batch: int, seed: int, epoch: int) -> np.ndarray:
    """Return the rows of an epoch's batches, (steps, batch); an incomplete batch is left out."""
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return order[:count // batch * batch].reshape(-1, batch)


def shares(parts: Sequence[float], batch: int) -> list[int]:
    """Return the number of images of each source in a batch: by parts, at least one each."""
    ends = np.round(np.cumsum(parts) / sum(parts) * batch).astype(int)
    counts = np.diff(ends, prepend=0)
    if counts.min() < 1:
        raise ValueError(f'batch: expected at least one image of each of {len(parts)} sources, '
                         f'got a batch of {batch} with the parts {", ".join(map(str, parts))}; '
                         'raise it, or the smallest part')
    return counts.tolist()


def rows_between(count: int, start: int, stop: int, seed: Sequence[int]) -> np.ndarray:
    """Return rows `start` to `stop` of endless passes over `count` rows, each in another order."""
    assert 0 <= start < stop, (start, stop)
    passes = range(start // count, -(-stop // count))
    rows = np.concatenate([np.random.default_rng([*seed, number]).permutation(count)
                           for number in passes])
    return rows[start - passes.start * count:stop - passes.start * count]


def mixed_rows(sizes: Sequence[int], counts: Sequence[int], per_epoch: int, seed: int,
               rank: int, world: int, epoch: int) -> np.ndarray:
    """Return the (steps, part) rows of a process in an epoch, `counts` of each source."""
    columns, offset = [], 0
    for number, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        images = per_epoch * world * count
        rows = rows_between(size, epoch * images, (epoch + 1) * images, [seed, number])
        columns.append(rows.reshape(per_epoch, world, count)[:, rank] + offset)
        offset += size
    return np.concatenate(columns, axis=1)
