"""Where vectors come from, and the check before vectors are compared."""
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from vl2v_ros.files import brief

INEXACT = 1e-3  # by which the length of a unit vector may differ from 1; float16 differs by less


class Origin(NamedTuple):
    """
    Where vectors come from.

    space: identity of the text tower in whose space they are.
    student: digest of the student that made them of images; '': of any.
    """

    space: str
    student: str = ''


def unit_rows(values: Sequence[float] | np.ndarray, found: Origin, expected: Origin,
              what: str = 'vectors', width: int = 0) -> np.ndarray:
    """
    Return vectors that may be compared with those of an expected origin.

    :param values: the vectors, one after the other, as messages hold them; or (N, D).
    :param found: where they come from; with a space alone, only that is compared.
    :param what: their name in an error.
    :param width: D; 0: all values are one vector, or it is told by their shape.
    :return: (N, D) float32 unit rows; N may be 0.
    :raises ValueError: for another origin, another D, and for what is no unit vector.
    """
    for name, has, wanted in zip(Origin._fields, found, expected, strict=True):
        if has != wanted and (name == 'space' or has and wanted):
            raise ValueError(f'{what}: expected vectors of the {name} {brief(wanted)}, got those '
                             f'of {brief(has)}; vectors of different origin cannot be compared')
    rows = np.asarray(values, np.float32)
    if rows.ndim == 1 and (not width or rows.size % width == 0):
        rows = rows.reshape(-1, width) if width else rows[None]
    if rows.ndim != 2 or width and rows.shape[1] != width:
        raise ValueError(f'{what}: expected rows of {width or "some"} numbers, got the shape '
                         f'{rows.shape}')
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    if not (np.abs(lengths - 1) <= INEXACT).all():
        bad = int(np.argmin(np.abs(lengths - 1) <= INEXACT))
        raise ValueError(f'{what}: expected unit vectors, got one of length {lengths[bad]:.4g} in '
                         f'row {bad}')
    return rows
