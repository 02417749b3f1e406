"""Vectors are compared only with those of their own origin."""
import array

import numpy as np
import pytest
from vl2v_ros.words.vectors.origin import Origin, unit_rows

HERE = Origin('tower', 'student')
ROWS = np.array([[0.6, 0.8, 0], [0, 0, 1]], np.float32)


@pytest.mark.parametrize('found, expected', [
    (HERE, HERE), (HERE, Origin('tower')), (Origin('tower'), HERE)])
def test_vectors_of_the_same_origin_are_returned(found: Origin, expected: Origin) -> None:
    one_after_the_other = array.array('f', ROWS.tobytes())
    assert np.array_equal(unit_rows(one_after_the_other, found, expected, width=3), ROWS)
    assert np.array_equal(unit_rows(ROWS, found, expected), ROWS)
    assert np.array_equal(unit_rows(ROWS[0], found, expected), ROWS[:1])
    assert unit_rows([], found, expected, width=3).shape == (0, 3)


@pytest.mark.parametrize('values, found, said', [
    (ROWS, Origin('other', 'student'), "expected vectors of the space 'tower', got those of 'o"),
    (ROWS, Origin('', 'student'), "expected vectors of the space 'tower', got those of ''"),
    (ROWS, Origin('tower', 'other'), "expected vectors of the student 'student', got those of 'o"),
    (ROWS.ravel()[:5], HERE, r'expected rows of 3 numbers, got the shape \(5,\)'),
    (ROWS[:, :2], HERE, r'expected rows of 3 numbers, got the shape \(2, 2\)'),
    (ROWS * 2, HERE, 'expected unit vectors, got one of length 2 in row 0'),
    (ROWS * [[1], [np.nan]], HERE, 'expected unit vectors, got one of length nan in row 1'),
    (ROWS * [[1], [0]], HERE, 'expected unit vectors, got one of length 0 in row 1')])
def test_others_are_refused(values: np.ndarray, found: Origin, said: str) -> None:
    with pytest.raises(ValueError, match=f'^memory: {said}'):
        unit_rows(values, found, HERE, 'memory', 3)
