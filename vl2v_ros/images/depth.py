"""How far: the place in space of each box, from a depth image that is registered to its image."""
from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np
from vl2v_ros.images.camera import Camera, ratio
from vl2v_ros.images.encodings import RawImage, rows_of
from vl2v_ros.images.frame import check_size
from vl2v_ros.images.regions import Box, inside

UNITS = {'16UC1': ('u2', 0.001), '32FC1': ('f4', 1.0)}  # by REP 118: type, metres per value
# The object is nearer than what is beside it in its box. An ellipse fills pi / 4 of its box, so
# the median of its pixels is a quantile of pi / 8 = 0.4 of all.
MIDDLE = 0.4
FRONT = 0.05  # quantile that counts as the object's nearest point
INNER = 0.9  # part of a box's sides that is looked at
LEAST = 0.1  # part of the pixels in a box that must have a depth
ALONG = 64  # most rows and columns that are looked at: more change the result little


@dataclass(frozen=True)
class Depth:
    """
    A depth image, as a view of a message.

    values: (H, W) uint16 or float32, in `unit` [m], along the optical axis.
    """

    values: np.ndarray
    unit: float


@dataclass(frozen=True)
class Place:
    """
    Where an object is, in its camera's optical frame: x to the right, y down, z forward.

    x, y, z: the middle of the surface that is seen [m].
    width, height, length: its size along x, y and z [m]; the length is twice what is nearer than
        z, as nobody sees the back.
    """

    x: float
    y: float
    z: float
    width: float
    height: float
    length: float


def view_depth(image: RawImage) -> Depth:
    """
    Return the depth in a message, without a copy.

    :raises ValueError: for another encoding than 16UC1 [mm] and 32FC1 [m], and for an invalid
        size, step or amount of data.
    """
    check_size(image.width, image.height)
    if image.encoding not in UNITS:
        raise ValueError(f'expected a depth image of {" [mm] or ".join(UNITS)} [m], got '
                         f'{image.encoding!r:.80}')
    kind, unit = UNITS[image.encoding]
    values = np.dtype(kind).newbyteorder('>' if image.is_bigendian else '<')
    row_bytes = image.width * values.itemsize
    rows = rows_of(image, row_bytes, image.height)
    return Depth(rows[:, :row_bytes].view(values), unit)


@np.errstate(over='ignore', invalid='ignore')  # of hostile numbers come infinities, left out below
def places(depth: Depth, boxes: Sequence[Box], camera: Camera, size: tuple[int, int],
           nearest: float, farthest: float) -> list[Place | None]:
    """
    Return the place of each box, in their order; None for one without enough valid depth.

    :param boxes: in the image that the depth is registered to [px].
    :param size: width and height of that image [px]; depth may have fewer or more pixels.
    :param nearest, farthest: depth outside of these is invalid, as are 0, NaN and infinity [m].
    :raises ValueError: for depth or a camera of another shape than the image.
    """
    scale = ratio((depth.values.shape[1], depth.values.shape[0]), size, 'depth image')
    edges: dict[int, tuple[float, float, float, float]] = {}
    distances: list[tuple[float, float]] = []
    for number, box in enumerate(boxes):
        try:
            left, top, right, bottom = inside(box, *size, least=1)
        except ValueError:
            continue
        part = _inner(depth.values, left * scale, top * scale, right * scale, bottom * scale)
        if measured := _distances(part, depth.unit, nearest, farthest):
            edges[number] = left, top, right, bottom
            distances.append(measured)
    found: list[Place | None] = [None] * len(boxes)
    for number, place in zip(edges, _spread(list(edges.values()), distances, camera, size),
                             strict=True):
        # A lens model may have no answer at the border, or one that is turned inside out.
        if all(map(math.isfinite, vars(place).values())) and min(place.width, place.height) > 0:
            found[number] = place
    return found


def _spread(edges: Sequence[tuple[float, float, float, float]],
            distances: Sequence[tuple[float, float]], camera: Camera, size: tuple[int, int]
            ) -> list[Place]:
    """Return the places of boxes whose distances are known."""
    if not edges:
        return []
    left, top, right, bottom = np.array(edges).T
    x, y = (left + right) / 2, (top + bottom) / 2
    points = np.array([(x, y), (left, y), (right, y), (x, top), (x, bottom)])  # (5, 2, N)
    rays = camera.rays(points.transpose(0, 2, 1).reshape(-1, 2), size).reshape(5, -1, 2)
    z, front = np.array(distances).T
    columns = (rays[0, :, 0] * z, rays[0, :, 1] * z, z, (rays[2, :, 0] - rays[1, :, 0]) * z,
               (rays[4, :, 1] - rays[3, :, 1]) * z, 2 * (z - front))
    return [Place(*row) for row in np.array(columns).T.tolist()]


def _inner(values: np.ndarray, left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Return the inner pixels of a box, at most ALONG in each direction, as a view."""
    rows, columns = (_samples(first, last, length) for first, last, length in (
        (top, bottom, values.shape[0]), (left, right, values.shape[1])))
    return values[rows, columns]


def _samples(first: float, last: float, length: int) -> slice:
    off = (last - first) * (1 - INNER) / 2
    start = min(max(round(first + off), 0), length - 1)
    stop = min(max(round(last - off), start + 1), length)
    return slice(start, stop, -(-(stop - start) // ALONG))


def _distances(part: np.ndarray, unit: float, nearest: float, farthest: float
               ) -> tuple[float, float] | None:
    """Return the depth of what a box shows and of its nearest point [m], None for too little."""
    metres = part.astype(np.float64) * unit
    valid = metres[(metres >= nearest) & (metres <= farthest)]  # NaN is neither
    if len(valid) < max(1, LEAST * metres.size):
        return None
    front, middle = np.quantile(valid, (FRONT, MIDDLE)).tolist()
    return middle, front
