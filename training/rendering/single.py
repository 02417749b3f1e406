"""Pictures of one object each: random pose, distance, crop and occlusion, in every domain."""
from dataclasses import dataclass

import numpy as np
from training.rendering.domains import Domain
from training.rendering.meshes import Mesh
from training.rendering.scene import box_of, Scene, THINGS, View

SMALLEST = 0.012  # smallest part of the picture that the object's visible pixels cover
LEAST_VISIBLE = 0.45  # smallest visible part of the object's pixels within the picture
TRIES = 20


@dataclass(frozen=True)
class ObjectPicture:
    """
    A picture of one object.

    rgb: (S, S, 3) uint8. box: the object's left, top, width, height [px]. visible: fraction of the
    object's pixels that are within the picture and not hidden.
    """

    rgb: np.ndarray
    box: tuple[int, int, int, int]
    visible: float


class SingleScene:
    """A scene of one object, compiled once, for any number of pictures."""

    def __init__(self, mesh: Mesh, size: int, seed: int) -> None:
        """Compile; raises ValueError for a mesh or texture that cannot be read."""
        self._seed = seed
        self._scene = Scene([mesh], (size, size), falling=False)
        self._vertices = self._scene.vertices().astype(float)
        self._radius = float(np.linalg.norm(self._vertices, axis=1).max())

    def close(self) -> None:
        """Free the renderer's memory."""
        self._scene.close()

    def picture(self, domain_name: str, domain: Domain, number: int) -> ObjectPicture:
        """Return picture `number` of a domain; always the same one."""
        entropy = [self._seed, number, *domain_name.encode()]
        rng = np.random.default_rng(entropy)
        for _ in range(TRIES):
            view = self._try(domain, rng)
            mask = view.ids == 0
            visible = mask.sum() / max(1, view.whole[0])
            if mask.mean() >= SMALLEST and visible >= LEAST_VISIBLE:
                break
        else:
            raise ValueError(f'no view of it covers {SMALLEST:.0%} of a picture in {TRIES} tries')
        return ObjectPicture(view.rgb, box_of(mask), float(visible))

    def _try(self, domain: Domain, rng: np.random.Generator) -> View:
        scene, radius = self._scene, self._radius
        scene.light_up(domain, rng)
        rotation = random_rotation(rng)
        height = -(self._vertices @ rotation[2]).min()
        scene.place(0, np.array([0, 0, height]), rotation)
        camera = scene.camera
        camera.azimuth, camera.elevation = rng.uniform(0, 360), -rng.uniform(*domain.elevation)
        camera.distance = radius * rng.uniform(2.6, 5.5)
        shift = radius * rng.uniform(-0.5, 0.5, 2)  # moves it out of the middle, or crops it
        camera.lookat[:] = shift[0], shift[1], height
        count = int(rng.integers(domain.distractors[0], domain.distractors[1] + 1))
        scene.scatter(count, np.zeros(3), radius * rng.uniform(1.3, 2.2), radius, rng)
        if count and rng.random() < 0.5:  # one of them comes before the object
            towards = np.deg2rad(camera.azimuth + 180 + rng.uniform(-35, 35))
            reach = radius * rng.uniform(1.0, 1.4)
            scene.move_thing(int(rng.integers(min(count, len(THINGS)))), reach * np.cos(towards),
                             reach * np.sin(towards))
        return scene.look(domain, rng)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """Return a random (3, 3) rotation, uniform over all rotations."""
    quaternion = rng.standard_normal(4)
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]])
