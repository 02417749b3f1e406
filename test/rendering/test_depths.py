"""Depth of heaps, and where in space the objects in them are."""
from pathlib import Path

import numpy as np
import pytest
from test_render import write_cube
from training.rendering import depths
from training.rendering.meshes import find_meshes


@pytest.fixture(scope='module')
def picture(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, list[depths.Thing]]:
    folder = tmp_path_factory.mktemp('cube')
    write_cube(folder / 'cube')
    found, = depths.pictures(find_meshes(folder), [(0.6, 0.7)], np.random.default_rng(3))
    return found


def test_a_mesh_is_where_its_pixels_are(picture: tuple[np.ndarray, list[depths.Thing]]) -> None:
    depth, (thing,) = picture
    left, top, width, height = thing.box
    assert thing.visible == pytest.approx(1, abs=0.01) and 0.5 < thing.middle < 0.8
    assert thing.low[2] - 1e-3 <= thing.middle <= thing.high[2]
    seen = depth[top:top + height, left:left + width]
    assert seen.min() == pytest.approx(thing.low[2], abs=5e-3)  # its nearest corner
    # The box lies within the rays to the corners of the room that the mesh takes up.
    focal, x0, y0 = (depths.camera().matrix[place] for place in ((0, 0), (0, 2), (1, 2)))
    corners = np.array([(x, y, z) for x in (thing.low[0], thing.high[0])
                        for y in (thing.low[1], thing.high[1])
                        for z in (thing.low[2], thing.high[2])])
    columns, rows = (corners[:, :2] / corners[:, 2:] * focal + (x0, y0)).T
    assert columns.min() - 1 < left and left + width < columns.max() + 2
    assert rows.min() - 1 < top and top + height < rows.max() + 2
    middle = (thing.low + thing.high) / 2
    assert (middle[:2] / middle[2] * focal + (x0, y0)) == pytest.approx(
        (left + width / 2, top + height / 2), abs=8)


def test_a_picture_is_of_the_asked_distance(tmp_path: Path) -> None:
    write_cube(tmp_path / 'cube')
    ranges = [(0.5, 0.5), (1.5, 1.5)]
    near, far = (things[0].middle for _, things in depths.pictures(
        find_meshes(tmp_path), ranges, np.random.default_rng(3)))
    assert near == pytest.approx(0.5, abs=0.2) and far == pytest.approx(1.5, abs=0.2)
