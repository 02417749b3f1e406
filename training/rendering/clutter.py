"""Heaps of objects that fell on a table, seen by a base camera and a hand camera."""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from training.rendering.domains import DOMAINS
from training.rendering.meshes import Mesh
from training.rendering.scene import box_of, Scene, View
from training.rendering.single import random_rotation

OBJECTS = (3, 10)  # per heap
SPREAD = 0.16  # largest distance from the middle at which objects are dropped [m]
CAMERAS = {  # distance [m], elevation [deg]: a camera on the robot's base, one at its gripper
    'base': ((0.85, 1.1), (22.0, 40.0)),
    'hand': ((0.5, 0.7), (60.0, 85.0)),
}
SMALLEST = 20  # objects with fewer visible pixels are not annotated


@dataclass(frozen=True)
class Annotation:
    """One object in one picture: index of its mesh, box [px], pixels, visible fraction."""

    index: int
    box: tuple[int, int, int, int]
    area: int
    visible: float


@dataclass(frozen=True)
class Heap:
    """A settled heap: the classes in it, and per camera its view and annotations."""

    names: tuple[str, ...]
    views: dict[str, tuple[View, list[Annotation]]]


def fallen(meshes: Sequence[Mesh], size: tuple[int, int], rng: np.random.Generator) -> Scene:
    """
    Drop meshes on a table until they rest; close the scene at the end.

    :param size: width and height of its pictures [px].
    :raises ValueError: for a mesh or texture that cannot be read.
    """
    scene = Scene(meshes, size, falling=True)
    for index in range(len(meshes)):  # one above the other, so that none begins inside another
        position = np.array([*rng.uniform(-SPREAD, SPREAD, 2), 0.15 + 0.16 * index])
        scene.place(index, position, random_rotation(rng))
    scene.settle()
    return scene


def pools(meshes: Sequence[Mesh], names: Sequence[str], heaps: int, mixed: int | None
          ) -> list[Sequence[Mesh]]:
    """
    Return the meshes that each heap of a domain is made of.

    :param names: the id classes of an object split; empty without one.
    :param mixed: number of heaps, the last ones, that are of all meshes, and not of these classes
        alone; None: every other heap.
    :raises ValueError: for more of them than heaps, or without a split.
    """
    known = [mesh for mesh in meshes if mesh.name in names]
    if mixed is None:
        return [known if known and number % 2 == 0 else meshes for number in range(heaps)]
    if not names or not 0 <= mixed <= heaps:
        raise ValueError(f'expected --mixed from 0 to the {heaps} of --heaps, beside --split, got '
                         f'{mixed}{"" if names else " without --split"}')
    return [known if known and number < heaps - mixed else meshes for number in range(heaps)]


def heap(meshes: Sequence[Mesh], domain_name: str, size: tuple[int, int], seed: int,
         number: int) -> Heap:
    """
    Drop some of the meshes on a table until they rest, and render; always the same heap.

    :param size: width and height of the pictures [px].
    :raises ValueError: for a mesh or texture that cannot be read.
    """
    rng = np.random.default_rng([seed, number, *domain_name.encode()])
    domain = DOMAINS[domain_name]
    count = min(len(meshes), int(rng.integers(OBJECTS[0], OBJECTS[1] + 1)))
    chosen = [meshes[index] for index in rng.choice(len(meshes), count, replace=False)]
    scene = fallen(chosen, size, rng)
    try:
        scene.light_up(domain, rng)
        views = {}
        for camera, (distance, elevation) in CAMERAS.items():
            scene.camera.lookat[:] = *rng.uniform(-0.04, 0.04, 2), 0.03
            scene.camera.distance = rng.uniform(*distance)
            scene.camera.elevation = -rng.uniform(*elevation)
            scene.camera.azimuth = rng.uniform(0, 360)
            view = scene.look(domain, rng, with_depth=True)
            views[camera] = view, _annotate(view, count)
    finally:
        scene.close()
    return Heap(tuple(mesh.name for mesh in chosen), views)


def _annotate(view: View, count: int) -> list[Annotation]:
    annotations = []
    for index in range(count):
        mask = view.ids == index
        area = int(mask.sum())
        if area >= SMALLEST:
            annotations.append(Annotation(index, box_of(mask), area,
                                          area / max(area, int(view.whole[index]))))
    return annotations
