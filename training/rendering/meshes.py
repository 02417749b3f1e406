"""Find textured meshes on disk and read their textures."""
from collections.abc import Sequence
from dataclasses import dataclass
import os
from pathlib import Path

import cv2
import numpy as np
from vl2v_ros.images.frame import to_rgb
from vl2v_ros.images.sources import read_image

GREY = np.full((4, 4, 3), 160, np.uint8)
TEXTURES = ('.png', '.jpg', '.jpeg')


@dataclass(frozen=True)
class Mesh:
    """One object: its class name, its OBJ file and its texture, if it has one."""

    name: str
    path: Path
    texture: Path | None


def find_meshes(folder: Path, wanted: Sequence[str] | None = None) -> list[Mesh]:
    """
    Return the meshes of a folder: every `<class>/*.obj`, or every `<class>.obj`, by name.

    A texture is the file that the OBJ's material names (map_Kd), else the only picture beside it.

    :param wanted: only these classes.
    :raises ValueError: if there is none, or one that is wanted is missing.
    """
    meshes: list[Mesh] = []
    for path in sorted([*folder.glob('*.obj'), *folder.glob('*/*.obj'),
                        *folder.glob('*/google_16k/*.obj')]):
        parent = path.parent.parent if path.parent.name == 'google_16k' else path.parent
        name = path.stem if path.parent == folder else parent.name
        if name not in {mesh.name for mesh in meshes}:
            meshes.append(Mesh(name, path, _texture(path)))
    if not meshes:
        raise ValueError(f'expected meshes as {folder}/<class>/*.obj, found none; '
                         'training/fetch_ycb.py downloads the YCB set')
    missing = set(wanted or ()) - {mesh.name for mesh in meshes}
    if missing:
        raise ValueError(f'{folder}: no mesh of {", ".join(sorted(missing))}; there are '
                         f'{", ".join(mesh.name for mesh in meshes)}')
    return [mesh for mesh in meshes if not wanted or mesh.name in wanted]


def _texture(path: Path) -> Path | None:
    named = []
    for material in filter(os.path.isfile, sorted(path.parent.glob('*.mtl'))):
        for line in material.read_text(errors='replace').splitlines():
            key, *names = line.replace('\\', '/').split(maxsplit=1) or ['']
            for name in names if key.lower() == 'map_kd' else ():
                # Options may stand before the name, and spaces in it.
                named += [path.parent / name.strip(), path.parent / name.split()[-1]]
    beside = [file for file in sorted(path.parent.iterdir()) if file.suffix.lower() in TEXTURES]
    found = list(dict.fromkeys(filter(os.path.isfile, named))) or [
        file for file in beside if file.is_file()]
    return found[0] if len(found) == 1 else None


def read_texture(mesh: Mesh, side: int) -> np.ndarray:
    """
    Return the (S, S, 3) uint8 RGB texture of a mesh; plain grey if it has none.

    :raises ValueError: if the file is no image.
    """
    if mesh.texture is None:
        return GREY
    try:
        pixels = to_rgb(read_image(mesh.texture))
    except ValueError as error:
        raise ValueError(f'texture {mesh.texture}: {error}') from error
    if pixels.shape[:2] == (side, side):
        return pixels
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
