"""How well maps tell what is present: the fitted line, and the command that measures it."""
import json
from pathlib import Path
import sys

import numpy as np
import pytest
from support import shapes
from support.tiny_data import write_png
import torch
from training import naming
from training.measuring.scenes.told import bins, fit
from vl2v_ros.model import checkpoint
from vl2v_ros.model.presence import told
import yaml

NAMES = 'red circle', 'blue square', 'green star', 'yellow triangle'
SIDE = 96


def test_the_line_that_made_the_data_is_found() -> None:
    rng = np.random.default_rng(0)
    found = rng.normal(size=(20_000, 2)) + (0, 12)
    truth = rng.random(20_000) < told(found, (2.0, 0.5, -7.5))
    assert fit(found, truth) == pytest.approx((2.0, 0.5, -7.5), rel=0.1)
    with pytest.raises(ValueError, match='that are not, got 3 of 3 that are'):
        fit(found[:3], np.ones(3, bool))


def test_values_that_are_apart_give_no_endless_line() -> None:
    found = np.array([[0.1, 1], [0.2, 1], [0.8, 1], [0.9, 1]])
    slope, other, _ = fit(found, np.array([False, False, True, True]))
    assert 1 < slope < 100 and other == pytest.approx(0, abs=1e-3)


def test_bins_hold_probability_share_and_count() -> None:
    told, truth = torch.tensor([0.05, 0.96, 1.0, 0.92]), torch.tensor([False, True, True, False])
    (low, never, one), (high, often, three) = bins(told, truth)
    assert (low, never, one, three) == (pytest.approx(0.05), 0, 1, 3)
    assert high == pytest.approx(0.96) and often == pytest.approx(2 / 3)


def test_command_measures_what_pictures_show(
        shapes_student: Path, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
        ) -> None:
    rng, boxes = np.random.default_rng(0), {}
    for number in range(6):
        shown = [NAMES[number % 4], NAMES[(number + 1) % 4]]
        write_png(tmp_path / f'scenes/{number}.png', np.hstack(
            [shapes.draw(label, SIDE, SIDE, rng, (0, 0)) for label in shown]))
        boxes[f'{number}.png'] = [{'label': label, 'box': [half / 2, 0, half / 2 + 0.5, 1]}
                                  for half, label in enumerate(shown)]
    (tmp_path / 'boxes.yaml').write_text(yaml.safe_dump(boxes))
    (tmp_path / 'names.yaml').write_text(yaml.safe_dump(dict(zip('abcd', NAMES, strict=True))))

    def measure(*more: object) -> dict:
        monkeypatch.setattr(sys, 'argv', list(map(str, (
            'naming.py', 'presence', '--checkpoint', shapes_student, '--out', tmp_path / 'out',
            '--images', tmp_path / 'scenes', '--names', tmp_path / 'names.yaml', '--boxes',
            tmp_path / 'boxes.yaml', '--sizes', 96, *more))))
        naming.main()
        result: dict = json.loads((tmp_path / 'out/result.json').read_text())
        return result

    result = measure('--lengths', 3, '--draws', 2)
    assert [(row['line'], row['names']) for row in result['table']] == [
        (line, count) for line in ("the student's", 'fitted') for count in (3, 4)]
    assert all(row['AUROC [%]'] > 60 for row in result['table'])  # few names hide what is absent
    assert '3 of 6 images were measured; of all their labels 50.0 % are present' in result[
        'notes'][0]
    assert (tmp_path / 'out/presence.svg').read_text().startswith('<?xml')
    for path in shapes_student.parent.iterdir():  # its text tower, too
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    measure('--lengths', 3, '--draws', 2, '--calibrate', '--checkpoint', tmp_path /
            shapes_student.name)
    spec = checkpoint.load(tmp_path / shapes_student.name).spec
    assert spec.presence_line == pytest.approx(result['line'])
    with pytest.raises(SystemExit, match='expected --lengths from 2 to 3 names, got 4'):
        measure('--lengths', 4)
