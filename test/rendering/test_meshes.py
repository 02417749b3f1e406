"""Meshes on disk: which texture is a mesh's."""
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from training.rendering.meshes import find_meshes, read_texture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ('cup/cup.obj', 'jug/jug.obj'):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text('v 0 0 0\n')
    for name in ('a b.png', 'other.png'):
        cv2.imwrite(str(tmp_path / 'cup' / name), np.full((4, 4, 3), 9, np.uint8))
    return tmp_path


@pytest.mark.parametrize(('line', 'texture'), [
    ('map_Kd a b.png', 'a b.png'), ('  map_Kd\tother.png', 'other.png'), ('map_Kd', None),
    ('map_kd -s 1 1 1 other.png', 'other.png'), (r'map_Kd .\other.png', 'other.png'),
    ('map_Kd ', None), ('map_Kd none.png', None), ('map_Kd .', None),
    ('map_Kd ' + 'x' * 999, None), ('map_Kd \0', None), ('# map_Kd other.png', None),
    ('map_Kdx other.png', None)])
def test_the_named_texture_is_taken_and_no_line_ends_the_search(
        folder: Path, line: str, texture: str | None) -> None:
    (folder / 'cup' / 'cup.mtl').write_text(f'newmtl m\n{line}\n')
    (folder / 'jug' / 'odd.mtl').mkdir()
    os.mkfifo(folder / 'jug' / 'pipe.mtl')
    os.mkfifo(folder / 'jug' / 'pipe.png')
    cup, jug = find_meshes(folder)
    assert (cup.texture and cup.texture.name, jug.texture) == (texture, None)


def test_a_texture_that_is_no_image_is_named(folder: Path) -> None:
    (folder / 'jug' / 'jug.png').write_bytes(b'none')
    _, jug = find_meshes(folder)
    with pytest.raises(ValueError, match='texture .*jug.png: expected a BMP'):
        read_texture(jug, 8)
