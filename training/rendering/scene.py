"""A scene of textured meshes in MuJoCo: a table, lamps, distractors and objects."""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from training.rendering.domains import Domain, pattern
from training.rendering.engine import mujoco
from training.rendering.meshes import Mesh, read_texture

FIELD_OF_VIEW = 45.0  # vertical, of every camera [deg]
TILE = 128  # side of a table's pattern [px]
THINGS = (mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER,
          mujoco.mjtGeom.mjGEOM_ELLIPSOID)  # distractors: plain bodies, of no class
HIDDEN = np.array([0.0, 0.0, -5.0])  # under the table, out of every camera's sight
SEEN, ASIDE = 0, 4  # geometry groups: drawn, not drawn
STEP = 0.004  # of the physics [s]


@dataclass(frozen=True)
class View:
    """
    What one camera saw.

    rgb: (H, W, 3) uint8 after the domain's sensor.
    ids: (H, W) int16, the object of each pixel, -1 for none.
    depth: (H, W) float32 [m], or None without depth.
    whole: per object, the number of pixels it would cover with nothing in front of it.
    """

    rgb: np.ndarray
    ids: np.ndarray
    depth: np.ndarray | None
    whole: np.ndarray


def why_unusable(mesh: Mesh) -> str:
    """Return why a mesh or its texture cannot be read, '' if it can."""
    spec = mujoco.MjSpec()
    try:
        _add_mesh(spec, mesh, 0, falling=True)
        spec.compile()
    except ValueError as error:
        return ' '.join(str(error).split())
    return ''


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return left, top, width and height [px] of the pixels that are set; COCO's bbox."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1),
            int(rows[-1] - rows[0] + 1))


class Scene:
    """A table, lamps, distractors and the given meshes, compiled once and rendered many times."""

    def __init__(self, meshes: Sequence[Mesh], size: tuple[int, int], falling: bool) -> None:
        """
        Compile the scene.

        :param size: width and height of the images [px].
        :param falling: the objects fall and collide; otherwise they float.
        :raises ValueError: for a mesh or texture that cannot be read, naming its class.
        """
        self._size, self._falling = size, falling
        spec = _empty_scene(size)
        for index, mesh in enumerate(meshes):
            _add_mesh(spec, mesh, index, falling)
        try:
            self.model = spec.compile()
        except ValueError as error:
            names = ', '.join(mesh.name for mesh in meshes)
            raise ValueError(f'{names}: {" ".join(str(error).split())}') from error
        self.data = mujoco.MjData(self.model)
        self._renderer = mujoco.Renderer(self.model, size[1], size[0])
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 0
        self._option.geomgroup[SEEN] = 1
        self.camera = mujoco.MjvCamera()
        self._object_geoms = [self.model.geom(f'object{index}').id for index in range(len(meshes))]
        self._bodies = [self.model.body(f'object{index}') for index in range(len(meshes))]
        self._thing_geoms = [self.model.geom(f'thing{index}').id for index in range(len(THINGS))]
        self._things = [self.model.body(f'thing{index}').mocapid[0]
                        for index in range(len(THINGS))]
        self._table = self.model.geom('table').id
        if not falling:  # put each mesh's own frame at its body, so that it turns about its middle
            self.model.geom_pos[self._object_geoms] = 0
            self.model.geom_quat[self._object_geoms] = 1, 0, 0, 0
            # Otherwise MuJoCo would use the position of the body's inertia for the geometry.
            self.model.geom_sameframe[self._object_geoms] = int(
                mujoco.mjtSameFrame.mjSAMEFRAME_NONE)

    def close(self) -> None:
        """Free the renderer's memory."""
        self._renderer.close()

    def vertices(self, index: int = 0) -> np.ndarray:
        """Return an object's (V, 3) vertices [m] in the frame of its geometry."""
        mesh = self.model.geom_dataid[self._object_geoms[index]]
        first, count = self.model.mesh_vertadr[mesh], self.model.mesh_vertnum[mesh]
        return self.model.mesh_vert[first:first + count]

    def place(self, index: int, position: np.ndarray, rotation: np.ndarray) -> None:
        """Place an object: position [m] of its middle, (3, 3) rotation."""
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, rotation.ravel())
        if self._falling:
            start = self.model.jnt_qposadr[self._bodies[index].jntadr[0]]
            self.data.qpos[start:start + 3], self.data.qpos[start + 3:start + 7] = (
                position, quaternion)
        else:
            mocap = self._bodies[index].mocapid[0]
            self.data.mocap_pos[mocap], self.data.mocap_quat[mocap] = position, quaternion

    def position(self, index: int) -> np.ndarray:
        """Return the position of the middle of an object [m]."""
        return self.data.xipos[self._bodies[index].id].copy()

    def outline(self, index: int) -> np.ndarray:
        """
        Return an object's (V, 3) vertices [m] in the optical frame of the camera.

        x is to the right, y down, z forward, as the camera was in the last picture.
        """
        geom = self._object_geoms[index]
        world = self.vertices(index) @ self.data.geom_xmat[geom].reshape(3, 3).T + (
            self.data.geom_xpos[geom])
        eyes = self._renderer.scene.camera  # of a camera with two; it looks from their middle
        forward, up = eyes[0].forward, eyes[0].up
        axes = np.stack([np.cross(forward, up), -up, forward])
        return (world - (eyes[0].pos + eyes[1].pos) / 2) @ axes.T

    def light_up(self, domain: Domain, rng: np.random.Generator) -> None:
        """Draw the light and the table of a domain at random."""
        model = self.model
        model.vis.headlight.ambient[:] = rng.uniform(*domain.fill)
        warmth = 1 + rng.uniform(-0.12, 0.12) * np.array([1, 0, -1])
        model.light_diffuse[0] = rng.uniform(*domain.key) * warmth
        model.light_specular[0] = 0.2 * domain.shadows
        model.light_castshadow[0] = domain.shadows
        azimuth, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.3)
        model.light_pos[0] = np.cos(azimuth), np.sin(azimuth), height
        model.light_dir[0] = -model.light_pos[0] / np.linalg.norm(model.light_pos[0])
        if domain.textured:
            model.geom_matid[self._table] = model.material('table').id
            model.geom_rgba[self._table] = 1
            self._lay_table(rng)
        else:
            model.geom_matid[self._table] = -1
            model.geom_rgba[self._table, :3] = rng.uniform(0.75, 0.95) + rng.uniform(-.04, .04, 3)

    def _lay_table(self, rng: np.random.Generator) -> None:
        """Give the table a new pattern in each picture, so that it does not reveal the object."""
        texture = self.model.texture('table').id
        start = self.model.tex_adr[texture]
        tile = pattern(rng, TILE)
        self.model.tex_data[start:start + tile.size] = tile.ravel()
        self.model.mat_texrepeat[self.model.material('table').id] = rng.uniform(2, 6)
        # MuJoCo's Renderer has no way of its own to draw a texture that has changed.
        self._renderer._gl_context.make_current()
        mujoco.mjr_uploadTexture(self.model, self._renderer._mjr_context, texture)

    def scatter(self, count: int, centre: np.ndarray, reach: float, thing_size: float,
                rng: np.random.Generator) -> None:
        """Place `count` distractors of about `thing_size` [m] around a centre; hide the others."""
        for index, (geom, mocap) in enumerate(zip(self._thing_geoms, self._things, strict=True)):
            if index >= count:
                self.data.mocap_pos[mocap] = HIDDEN
                continue
            size = thing_size * rng.uniform(0.25, 0.6, 3)
            self.model.geom_size[geom] = size
            self.model.geom_rbound[geom] = np.linalg.norm(size)
            self.model.geom_rgba[geom, :3] = rng.uniform(0.1, 0.95, 3)
            angle = rng.uniform(0, 2 * np.pi)
            height = size[1] if THINGS[index] == mujoco.mjtGeom.mjGEOM_CYLINDER else size[2]
            self.data.mocap_pos[mocap] = (centre[0] + reach * np.cos(angle),
                                          centre[1] + reach * np.sin(angle), height)
            turn = rng.uniform(0, np.pi)
            self.data.mocap_quat[mocap] = np.cos(turn / 2), 0, 0, np.sin(turn / 2)

    def move_thing(self, index: int, x: float, y: float) -> None:
        """Move a visible distractor to another position on the table [m]."""
        self.data.mocap_pos[self._things[index], :2] = x, y

    def look(self, domain: Domain, rng: np.random.Generator, with_depth: bool = False) -> View:
        """Take a picture with `camera`."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        rgb = self._draw()
        depth = self._measure() if with_depth else None
        ids = self._identify()
        groups = self.model.geom_group.copy()
        whole = []
        for geom in self._object_geoms:
            self.model.geom_group[:] = ASIDE
            self.model.geom_group[geom] = SEEN
            whole.append(int((self._identify() >= 0).sum()))
        self.model.geom_group[:] = groups
        return View(domain.sensor(rgb, ids, rng), ids, depth, np.array(whole))

    def _draw(self) -> np.ndarray:
        self._renderer.update_scene(self.data, self.camera, self._option)
        return self._renderer.render()

    def _measure(self) -> np.ndarray:
        self._renderer.enable_depth_rendering()
        depth = self._draw()
        self._renderer.disable_depth_rendering()
        return depth

    def _identify(self) -> np.ndarray:
        self._renderer.enable_segmentation_rendering()
        drawn = self._draw()
        self._renderer.disable_segmentation_rendering()
        objects = np.full(self.model.ngeom + 1, -1, np.int16)  # the last place: no geometry
        objects[self._object_geoms] = range(len(self._object_geoms))
        is_geom = drawn[..., 1] == int(mujoco.mjtObj.mjOBJ_GEOM)
        return objects[np.where(is_geom, drawn[..., 0], -1)]

    def settle(self, longest: float = 4.0) -> None:
        """Let the objects fall until they rest, at most for the time `longest` [s]."""
        for step in range(int(longest / STEP)):
            mujoco.mj_step(self.model, self.data)
            if step * STEP > 0.7 and np.abs(self.data.qvel).max() < 0.02:
                break


def _empty_scene(size: tuple[int, int]) -> mujoco.MjSpec:
    spec = mujoco.MjSpec()
    spec.option.timestep = STEP
    spec.visual.global_.offwidth, spec.visual.global_.offheight = size
    spec.visual.global_.fovy = FIELD_OF_VIEW
    spec.visual.quality.shadowsize = 1024
    spec.visual.quality.offsamples = 4
    spec.visual.map.znear, spec.visual.map.zfar = 0.01, 20.0
    spec.stat.extent = 1.0  # so that the clipping planes are in metres
    spec.visual.headlight.diffuse = [0, 0, 0]
    spec.visual.headlight.specular = [0, 0, 0]
    world = spec.worldbody
    world.add_light(pos=[0, 0, 1], dir=[0, 0, -1], castshadow=True,
                    type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL)
    _add_material(spec, 'table', np.zeros((TILE, TILE, 3), np.uint8), repeat=1)
    spec.add_texture(name='sky', type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, width=64, height=384,
                     builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT, rgb1=[0.75, 0.78, 0.8],
                     rgb2=[0.35, 0.36, 0.4])
    world.add_geom(name='table', type=mujoco.mjtGeom.mjGEOM_PLANE, size=[3, 3, 0.1],
                   material='table', group=SEEN, friction=[0.8, 0.02, 0.002])
    for index, kind in enumerate(THINGS):
        body = world.add_body(name=f'thing{index}', mocap=True, pos=HIDDEN)
        body.add_geom(name=f'thing{index}', type=kind, size=[0.02, 0.02, 0.02], group=SEEN,
                      contype=0, conaffinity=0)
    return spec


def _add_material(spec: mujoco.MjSpec, name: str, pixels: np.ndarray, repeat: float = 0) -> None:
    texture = spec.add_texture(name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, nchannel=3,
                               width=pixels.shape[1], height=pixels.shape[0])
    texture.data = pixels.tobytes()
    material = spec.add_material(name=name, specular=0.15, shininess=0.3)
    if repeat:
        material.texrepeat, material.texuniform = [repeat, repeat], True
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


def _add_mesh(spec: mujoco.MjSpec, mesh: Mesh, index: int, falling: bool) -> None:
    name = f'object{index}'
    spec.add_mesh(name=name, file=str(mesh.path), maxhullvert=64 if falling else -1,
                  inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX)
    # MuJoCo counts a texture's rows from below, files from above.
    _add_material(spec, name, read_texture(mesh, 1024))
    body = spec.worldbody.add_body(name=name, mocap=not falling)
    if falling:
        body.add_freejoint()
    body.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, material=name,
                  group=SEEN, density=400, friction=[0.8, 0.02, 0.002],
                  contype=int(falling), conaffinity=int(falling))
