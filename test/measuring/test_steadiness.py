"""Flicker, delay and accuracy of labels over a sequence, and the moving camera it comes from."""
import json
from pathlib import Path
import sys

import numpy as np
import pytest
from support.tiny_data import write_png
from support.tiny_models import given
from training import naming
from training.measuring.steadiness import figures, RATE, Scene
from training.rendering.moving_camera import moved


def test_figures_of_what_was_said() -> None:
    things = np.repeat([0, 1, 2], 5)
    scene = Scene(np.zeros((15, 1)), things, [frozenset('a'), frozenset('bB'), frozenset('c')],
                  given({'a': [1.0]}))
    counted, (sharp, calm) = figures(scene, [
        list('aaaaa' 'bxBbb' 'xxccc'), list('aaaaa' 'aaabb' 'bbbbb')])
    assert counted == 1  # c is found by one of them only
    assert sharp == pytest.approx({
        'flicker [1/s]': (0 + 3 + 1) * RATE / 15, 'mean delay [s]': 0,
        'longest delay [s]': 0, 'right [%]': 100 * 12 / 15})
    assert calm == pytest.approx({
        'flicker [1/s]': 0, 'mean delay [s]': 3 / RATE, 'longest delay [s]': 3 / RATE,
        'right [%]': 100 * 7 / 15})


def test_the_camera_moves_smoothly_and_the_same_way_each_time() -> None:
    rng = np.random.default_rng(0)
    photo = np.kron(rng.integers(0, 255, (12, 16, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    first, again = (np.array(list(moved(photo, (96, 72), 40, 30.0, np.random.default_rng(5))))
                    for _ in range(2))
    assert first.shape == (40, 72, 96, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    apart = [np.abs(first[0].astype(float) - view).mean() for view in first[[1, 39]]]
    assert 0 < apart[0] < apart[1]


@pytest.mark.long
def test_the_command_measures_sample_and_groceries(
        shapes_student: Path, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
        ) -> None:
    for number, name in enumerate(('Banana', 'Kiwi', 'Lemon')):
        write_png(tmp_path / f'photos/grocery/val/{name}/{number}.png',
                  np.full((60, 80, 3), 80 * number, np.uint8))
    monkeypatch.setattr(sys, 'argv', [
        'naming.py', 'steadiness', '--checkpoint', str(shapes_student), '--out',
        str(tmp_path / 'out'), '--data', str(tmp_path), '--photos', '3', '--seconds', '0.2',
        '--smoothing', '0', '0.5', '--hysteresis', '0'])
    naming.main()
    rows = json.loads((tmp_path / 'out/result.json').read_text())['table']
    assert [(row['sequence'], row['smoothing [s]']) for row in rows] == [
        ('sequence', 0), ('sequence', 0.5), ('groceries', 0), ('groceries', 0.5)]
    assert rows[1]['flicker [1/s]'] < rows[0]['flicker [1/s]']
    assert (tmp_path / 'out/steady.svg').stat().st_size > 5000
