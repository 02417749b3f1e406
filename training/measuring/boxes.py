"""A student on the boxes of a detector: how many objects it names rightly, per domain."""
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from training.data.class_names import read_names
from training.data.coco import read_crops
from training.measuring.robot import Command, facts, Robot
from vl2v_ros.images.regions import Box, cut
from vl2v_ros.images.sources import read_image
from vl2v_ros.words import vocabulary
from vl2v_ros.words.labels import Entry


@dataclass(frozen=True, kw_only=True)
class Boxes(Command):
    """Name the boxes of COCO annotations as the node names those of a detector."""

    images: Path
    """Folder with annotations.json in COCO's format, or <domain>/annotations.json."""
    names: Path
    """YAML file that maps the classes to names."""
    margin: float = 0.1
    """The parameter region_margin: part of the side of a box that is seen beyond it."""
    smallest: int = 32
    """Smallest length of the shorter side of a box [px]."""
    least_visible: float = 0.5
    """Smallest part of an object that nothing covers, in [0, 1]."""


def boxes(command: Boxes) -> dict[str, Any]:
    """
    Name each box; a table with a row per domain and one for their mean.

    :raises ValueError: if annotations or names cannot be used.
    """
    robot = Robot(command.checkpoint, command.device, command.templates)
    index = read_crops(command.images, 0.0, command.least_visible, command.smallest)
    assert index.boxes is not None  # read_crops always has them
    called = read_names(command.names)
    if missing := set(index.class_names) - called.keys():
        raise ValueError(f'{command.names}: expected a name of each class, found none of '
                         f'{", ".join(sorted(missing))}')
    labels = sorted(set(called.values()))
    words = vocabulary.build(dict.fromkeys(labels, Entry()), robot.encoder, 1, robot.templates)
    right = np.empty(len(index), bool)
    for row, (left, top, width, height) in enumerate(index.boxes.tolist()):
        part = cut(read_image(index.root / index.files[row]),
                   Box(left + width / 2, top + height / 2, width, height), command.margin, 0)
        best = (robot.runtime.embed([part]) @ words.prototypes.T).argmax()
        right[row] = words.labels[best] == called[index.class_names[index.labels[row]]]
    rows: list[dict[str, object]] = [
        {'domain': name, 'boxes': int((index.domains == number).sum()),
         'first name is right [%]': 100 * float(right[index.domains == number].mean())}
        for number, name in enumerate(index.domain_names) if (index.domains == number).any()]
    rows.append({'domain': 'mean', 'boxes': len(index), 'first name is right [%]': float(
        np.mean([row['first name is right [%]'] for row in rows]))})
    return {**facts(command, robot), 'table': rows, 'notes': [f'over {len(labels)} names']}
