"""Depth images of heaps from several distances, and where the objects in them are."""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from training.rendering.clutter import fallen
from training.rendering.domains import DOMAINS
from training.rendering.meshes import Mesh
from training.rendering.scene import box_of, FIELD_OF_VIEW, Scene, View
from vl2v_ros.images.camera import Camera

SIZE = 640, 480  # of the images [px]
OBJECTS = 7  # per heap


@dataclass(frozen=True)
class Thing:
    """
    An object in a picture.

    box: left, top, width and height [px].
    visible: part of its pixels that nothing covers, in [0, 1].
    middle: depth of the middle of what is seen of it [m].
    low, high: (3,) least and largest coordinates of its mesh in the camera's optical frame [m].
    """

    box: tuple[int, int, int, int]
    visible: float
    middle: float
    low: np.ndarray
    high: np.ndarray


def camera() -> Camera:
    """Return the camera of the renders."""
    focal = SIZE[1] / 2 / np.tan(np.radians(FIELD_OF_VIEW) / 2)
    matrix = np.array([[focal, 0, SIZE[0] / 2 - 0.5], [0, focal, SIZE[1] / 2 - 0.5], [0, 0, 1]])
    return Camera(matrix, (), False, (0, 0), SIZE)


def pictures(meshes: Sequence[Mesh], distances: Sequence[tuple[float, float]],
             rng: np.random.Generator) -> Iterator[tuple[np.ndarray, list[Thing]]]:
    """
    Yield the (H, W) depth [m] of each picture of a new heap, and the objects in it.

    :param distances: per picture, least and largest distance of the camera from the heap [m].
    :raises ValueError: for a mesh or texture that cannot be read.
    """
    count = min(OBJECTS, len(meshes))
    scene = fallen([meshes[index] for index in rng.choice(len(meshes), count, replace=False)],
                   SIZE, rng)
    try:
        for low, high in distances:
            scene.camera.lookat[:] = *rng.uniform(-0.04, 0.04, 2), 0.03
            scene.camera.distance = rng.uniform(low, high)
            scene.camera.elevation = -rng.uniform(20, 80)
            scene.camera.azimuth = rng.uniform(0, 360)
            view = scene.look(DOMAINS['studio'], rng, with_depth=True)
            assert view.depth is not None, 'asked for'
            yield view.depth, [_thing(scene, view, index) for index in range(count)
                               if (view.ids == index).any()]
    finally:
        scene.close()


def _thing(scene: Scene, view: View, index: int) -> Thing:
    mask, outline = view.ids == index, scene.outline(index)
    assert view.depth is not None, 'asked for'
    return Thing(box_of(mask), float(mask.sum() / view.whole[index]),
                 float(np.median(view.depth[mask])), outline.min(0), outline.max(0))
