"""Places of boxes by depth, measured on heaps that are rendered for real."""
import json
from pathlib import Path
import sys

import cv2
import numpy as np
import pytest
from training import naming
from training.measuring.distances import HOLES, sensed, SERIES, WAYS

FACES = ((1, 2, 4, 3), (5, 7, 8, 6), (1, 5, 6, 2), (3, 4, 8, 7), (1, 3, 7, 5), (2, 6, 8, 4))


@pytest.fixture
def meshes(tmp_path: Path) -> Path:
    """Write two cubes of 100 mm."""
    corners = [f'v {x} {y} {z}' for x in (0, .1) for y in (0, .1) for z in (0, .1)]
    for name in ('cube', 'other cube'):
        (tmp_path / 'meshes' / name).mkdir(parents=True)
        (tmp_path / 'meshes' / name / 'cube.obj').write_text('\n'.join(
            corners + ['f ' + ' '.join(map(str, face)) for face in FACES]))
    return tmp_path / 'meshes'


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, 'argv', ['naming.py', 'distances', *map(str, arguments)])
    naming.main()


def test_places_are_measured(meshes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                             ) -> None:
    command(monkeypatch, '--meshes', meshes, '--out', tmp_path / 'out', '--heaps', '1')
    result = json.loads((tmp_path / 'out/result.json').read_text())
    rows = {row['depth']: row for row in result['table']}
    assert tuple(rows) == (*SERIES, *WAYS) and rows['exact']['boxes'] > 8
    assert rows['exact']['distance [mm]'] < 15
    assert rows['exact']['width [mm]'] < 30
    assert rows['exact']['distance [mm]'] < rows['exact']['place [mm]'] < 90
    assert rows['exact']['width [mm]'] < rows['+ larger boxes']['width [mm]']
    assert len(result['errors of the distance [mm]']['exact']) == 8
    assert cv2.imread(str(tmp_path / 'out/distance.png')).shape[1] == 840


@pytest.mark.parametrize('options, message', [
    (('--smallest', '900'), 'expected objects that are large and visible enough, found none'),
    (('--meshes', 'nowhere'), 'expected meshes as nowhere/<class>/[*].obj, found none')])
def test_what_cannot_be_measured_is_refused(
        options: tuple[str, str], message: str, meshes: Path, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=message):
        command(monkeypatch, '--meshes', meshes, '--out', tmp_path / 'out', '--heaps', '1',
                *options)


def test_sensors_have_the_faults_that_they_are_said_to_have() -> None:
    depth = np.full((240, 320), 2.0, np.float32)
    depth[:, 160:] = 1.0
    images = {name: image.values * image.unit for name, image in sensed(
        depth, np.random.default_rng(0)).items()}
    assert np.abs(images['in millimetres'] - depth).max() < 1e-6
    assert images['+ noise'][:, :150].std() == pytest.approx(0.016, rel=0.1)
    assert images['+ noise'][:, 170:].std() == pytest.approx(0.004, rel=0.1)
    lost = images['+ holes'] == 0
    assert lost.mean() == pytest.approx(HOLES, abs=0.03) and lost[:, 158:162].all()
