"""What a camera saw, and what is remembered of it."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from vl2v_ros.images.regions import Box


class Position(NamedTuple):
    """A point [m] in the frame `frame_id`."""

    frame_id: str
    x: float
    y: float
    z: float


@dataclass(frozen=True, eq=False)
class Seen:
    """
    An image, or a box in it.

    vector: (D,) float32 unit row.
    stamp: of the image [ns].
    camera, frame_id: name of the camera, and the frame of its images.
    box: None for the image as a whole.
    position: where it is, None if that is not known.
    """

    vector: np.ndarray
    stamp: int
    camera: str = ''
    frame_id: str = ''
    box: Box | None = None
    position: Position | None = None


@dataclass
class Sighting:
    """
    What was seen, once or several times in a row.

    number: rises from one to the next.
    first, last: stamps of the first and the last image [ns].
    at: when the last one came, by this machine's clock [s].
    count: number of images.
    camera, frame_id, box, position: of the last one, see `Seen`.
    thumbnail: JPEG of the first one; empty where there is none.
    similarity: cosine to what was asked for.
    """

    number: int
    camera: str
    frame_id: str
    first: int
    last: int
    at: float
    count: int = 1
    box: Box | None = None
    position: Position | None = None
    thumbnail: bytes = b''
    similarity: float = 0.0


@dataclass(frozen=True)
class Where:
    """
    Which sightings are looked through.

    camera: name of a camera; None: all.
    after, before: stamps [ns] of which a sighting has to be between, at least in part; None: no
    bound.
    """

    camera: str | None = None
    after: int | None = None
    before: int | None = None


@dataclass(frozen=True)
class Found:
    """
    The answer to a search.

    sightings: the most similar first.
    compared: number of sightings that were looked through.
    """

    sightings: Sequence[Sighting]
    compared: int
