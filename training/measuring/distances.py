"""How far off the places are that the node finds for boxes by depth, on rendered heaps."""
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm
from training.measuring.pages import charts
from vl2v_ros.files import replacing
from vl2v_ros.images.depth import Depth, places
from vl2v_ros.images.regions import Box

NEAR, FAR = 0.05, 20.0  # the node's depth_min and depth_max [m]
NOISE = 0.004  # of a stereo camera: standard deviation at 1 m [m]; it grows with the square
EDGE = 0.03  # beside a larger step of the depth, a stereo camera sees nothing [m]
HOLES = 0.2  # part of the image that is lost to reflections
LARGER = 1.1  # side of a box that is too large, as a part of the right one
SERIES = ('exact', 'in millimetres', '+ noise', '+ holes', '+ larger boxes')
# Other ways to take one distance from the exact depth in a box, for comparison.
WAYS = {
    'median of the box': lambda box: np.median(box),
    'median of its inner half': lambda box: np.median(box[inner(len(box)), inner(len(box[0]))]),
    'least of its inner half': lambda box: box[inner(len(box)), inner(len(box[0]))].min()}
RANGES = 8  # of distances: each heap is seen once from each


@dataclass(frozen=True, kw_only=True)
class Distances:
    """Measure the places of boxes in space; it renders heaps, and needs no student."""

    meshes: Path
    """Folder of meshes, as fetch_ycb.py writes it."""
    out: Path
    """Folder for result.json and distance.png."""
    heaps: int = 40
    """Number of heaps."""
    distances: tuple[float, float] = (0.4, 3.0)
    """Nearest and farthest distance of the camera from the middle of a heap [m]."""
    smallest: int = 16
    """Smallest length of the shorter side of a box [px]."""
    least_visible: float = 0.5
    """Smallest part of an object that nothing covers, in [0, 1]."""
    seed: int = 0
    """The same seed gives the same heaps."""


def distances(command: Distances) -> dict[str, Any]:
    """
    Place the boxes of the truth by several depth images, each with the faults of those before.

    Truth is the middle of an object's visible pixels for its distance, and the middle of its whole
    mesh for its place. Writes distance.png.

    :raises ValueError: for meshes that cannot be used, or where no object is large enough.
    """
    found = measured(command)
    edges = np.linspace(*command.distances, RANGES + 1)
    lines = curves({name: found[name] for name in SERIES}, edges)
    command.out.mkdir(parents=True, exist_ok=True)
    with charts.drawing(), replacing(command.out / 'distance.png') as temporary:
        charts.draw_errors(lines, ((edges[:-1] + edges[1:]) / 2).tolist()).savefig(
            temporary, format='png', dpi=120, facecolor='white')
    return {'table': table(found), 'notes': [], 'distances [m]': edges.tolist(),
            'errors of the distance [mm]': lines}


def inner(length: int) -> slice:
    """Return the inner half of a side."""
    return slice(length // 4, length - length // 4)


def sensed(depth: np.ndarray, rng: np.random.Generator) -> dict[str, Depth]:
    """Return what several sensors make of a depth [m], each with the faults of those before."""
    noisy = depth + NOISE * depth ** 2 * rng.standard_normal(depth.shape)
    spots: np.ndarray = cv2.resize(rng.random((24, 32)), depth.shape[::-1],
                                   interpolation=cv2.INTER_CUBIC)
    edges = cv2.morphologyEx(depth, cv2.MORPH_GRADIENT, np.ones((5, 5))) > EDGE
    holed = np.where(edges | (spots < np.quantile(spots, HOLES)), 0, noisy)
    rounded = [Depth(np.rint(1000 * values).clip(0, 65535).astype(np.uint16), 0.001)
               for values in (depth, noisy, holed)]
    return dict(zip(SERIES, [Depth(depth, 1.0), *rounded, rounded[-1]], strict=True))


def measured(command: Distances) -> dict[str, np.ndarray]:
    """
    Place all objects by all sensors.

    :return: by sensor and by other way (N, 6): the true distance, the error of the distance, how
        far the place is from the middle of the mesh, the errors of width, height and length; all
        in [m], NaN for no place, and for all but the distance of other ways.
    :raises ValueError: for meshes that cannot be used, or where no object is large enough.
    """
    from training.rendering import depths
    from training.rendering.meshes import find_meshes
    meshes, rng = find_meshes(command.meshes), np.random.default_rng(command.seed)
    ranges = list(pairwise(np.linspace(*command.distances, RANGES + 1).tolist()))
    rows: dict[str, list[list[float]]] = {name: [] for name in (*SERIES, *WAYS)}
    for _ in tqdm(range(command.heaps), unit='heap'):
        for depth, all_things in depths.pictures(meshes, ranges, rng):
            things = [thing for thing in all_things if thing.visible >= command.least_visible
                      and min(thing.box[2:]) >= command.smallest]
            for thing, (name, way) in product(things, WAYS.items()):
                left, top, width, height = thing.box
                distance = float(way(depth[top:top + height, left:left + width]))
                rows[name].append([thing.middle, distance - thing.middle, *[np.nan] * 4])
            for name, image in sensed(depth, rng).items():
                grown = LARGER if name == SERIES[-1] else 1.0
                boxes = [Box(left + width / 2, top + height / 2, grown * width, grown * height)
                         for left, top, width, height in (thing.box for thing in things)]
                found = places(image, boxes, depths.camera(), depths.SIZE, NEAR, FAR)
                for thing, place in zip(things, found, strict=True):
                    values = np.array([*vars(place).values()] if place else [np.nan] * 6)
                    true, size = (thing.low + thing.high) / 2, thing.high - thing.low
                    rows[name].append([thing.middle, values[2] - thing.middle,
                                       float(np.linalg.norm(values[:3] - true)),
                                       *(values[3:] - size)])
    if not rows[SERIES[0]]:
        raise ValueError('expected objects that are large and visible enough, found none; lower '
                         '--smallest or --least-visible, or the --distances')
    return {name: np.array(values) for name, values in rows.items()}


def table(found: Mapping[str, np.ndarray]) -> list[dict[str, object]]:
    """Return a row per sensor and way: quantiles of absolute errors [mm], where there are some."""
    lines: list[dict[str, object]] = []
    for name, values in found.items():
        placed = values[~np.isnan(values[:, 1])]
        errors = 1000 * np.abs(placed[:, 1:])
        middle, most = np.median(errors, 0), np.quantile(errors, 0.9, 0)
        numbers = {'distance [mm]': middle[0], 'mean [mm]': errors[:, 0].mean(),
                   '90 % [mm]': most[0], 'place [mm]': middle[1], '90 % of it [mm]': most[1],
                   'width [mm]': middle[2], 'height [mm]': middle[3], 'length [mm]': middle[4]}
        lines.append({'depth': name, 'boxes': len(values),
                      'without a place': len(values) - len(placed)} | {
            column: round(float(value), 1) for column, value in numbers.items()
            if not np.isnan(value)})
    return lines


def curves(found: Mapping[str, np.ndarray], edges: np.ndarray) -> dict[str, list[float | None]]:
    """Return the median error of the distance [mm] between edges [m], None where no box is."""
    lines: dict[str, list[float | None]] = {}
    for name, values in found.items():
        placed = values[~np.isnan(values[:, 1])]
        ranges = np.digitize(placed[:, 0], edges)
        errors = [1000 * np.abs(placed[ranges == number, 1]) for number in range(1, len(edges))]
        lines[name] = [float(np.median(some)) if len(some) else None for some in errors]
    return lines
