"""Scenes: what a stage shows, rendered for real."""
from collections.abc import Iterator

import numpy as np
import pytest
from test_render import write_cube
from training.rendering.domains import DOMAINS
from training.rendering.meshes import find_meshes
from training.rendering.scene import Scene, TILE

SIZE = 64


@pytest.fixture(scope='module')
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp('stage')
    write_cube(folder / 'cube')
    stage = Scene(find_meshes(folder), (SIZE, SIZE), falling=False)
    stage.place(0, np.array([0, 0, -1.0]), np.eye(3))  # under the table
    stage.camera.lookat[:], stage.camera.distance, stage.camera.elevation = 0, 0.8, -90
    yield stage
    stage.close()


def table(stage: Scene, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the colour of the table's pattern, and of a picture of the bare table; sum 1."""
    rng = np.random.default_rng(seed)
    stage.light_up(DOMAINS['tabletop'], rng)
    stage.scatter(0, np.zeros(3), 0.1, 0.1, rng)
    start = stage.model.tex_adr[stage.model.texture('table').id]
    tile = stage.model.tex_data[start:start + TILE * TILE * 3].reshape(-1, 3)
    colours = tile.mean(0), stage.look(DOMAINS['tabletop'], rng).rgb.reshape(-1, 3).mean(0)
    return tuple(colour / colour.sum() for colour in colours)


def test_each_picture_has_a_table_of_its_own_and_shows_it(stage: Scene) -> None:
    # If a few tables served all pictures of an object, they would tell which object it is.
    tiles, pictures = map(np.array, zip(*(table(stage, seed) for seed in range(12)), strict=True))
    assert len(np.unique(tiles.round(6), axis=0)) == 12
    apart = np.linalg.norm(pictures[:, None] - tiles[None], axis=2)  # (picture, tile)
    assert (apart.argmin(1) == range(12)).sum() >= 10  # lamps have colours, too


def test_a_table_is_the_same_whenever_asked(stage: Scene) -> None:
    first, other = table(stage, 3), table(stage, 4)
    again = table(stage, 3)
    for before, after, another in zip(first, again, other, strict=True):
        assert np.array_equal(before, after) and not np.array_equal(before, another)
