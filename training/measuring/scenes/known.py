"""Images of which is known what they show, and where: renders with annotations, drawn boxes."""
from dataclasses import dataclass, field
from pathlib import Path

from training.data.class_names import read_names
from training.data.coco import read_crops
from training.measuring.robot import Command
from training.measuring.scenes.average_precision import Boxed
from vl2v_ros.files import brief, read_yaml
from vl2v_ros.images.sources import read_image

FIRST, SECOND = slice(0, None, 2), slice(1, None, 2)  # halves: to choose on, and to measure on


@dataclass(frozen=True, kw_only=True)
class Known(Command):
    """The student to measure, and the images to measure it on."""

    images: Path
    """Folder of annotations.json in COCO's format, or of <domain>/annotations.json, or of the
    photos of --boxes."""
    names: Path
    """YAML file that maps the classes to names; its names are the vocabulary."""
    boxes: Path | None = None
    """YAML file of boxes drawn by hand, such as config/where/grocery_boxes.yaml."""
    smallest: int = 32
    """Smallest length of the shorter side of a box that counts, in COCO annotations [px]."""
    least_visible: float = 0.5
    """Smallest part of an object that nothing covers for it to count, in [0, 1]."""


@dataclass(frozen=True, eq=False)
class Scene:
    """
    An image with what it shows.

    objects: what has to be found; others: what may be found, too small or hidden to count.
    """

    path: Path
    objects: list[Boxed] = field(default_factory=list)
    others: list[Boxed] = field(default_factory=list)


def read_scenes(command: Known) -> tuple[list[Scene], list[str]]:
    """
    Return the images, and the names of all classes, each once.

    :raises ValueError: if annotations or names cannot be used.
    """
    called = read_names(command.names)
    scenes = _drawn(command, called) if command.boxes else _annotated(command, called)
    return scenes, sorted(set(called.values()))


def _annotated(command: Known, called: dict[str, str]) -> list[Scene]:
    everything = read_crops(command.images, 0.0, 0.0, 1)
    counted = read_crops(command.images, 0.0, command.least_visible, command.smallest, False)
    if missing := set(everything.class_names) - called.keys():
        raise ValueError(f'{command.names}: expected a name of each class, found none of '
                         f'{", ".join(sorted(missing))}')
    known, scenes = set(), {file: Scene(command.images / file) for file in everything.files}
    for index in (counted, everything):
        assert index.boxes is not None  # read_crops always has them
        for row, (left, top, width, height) in enumerate(index.boxes.tolist()):
            file, name = index.files[row], called[index.class_names[index.labels[row]]]
            one = Boxed(name, (left, top, left + width, top + height))
            scene = scenes[file]
            if index is counted:
                scene.objects.append(one)
                known.add((file, one))
            elif (file, one) not in known:
                scene.others.append(one)
    return list(scenes.values())


def _drawn(command: Known, called: dict[str, str]) -> list[Scene]:
    assert command.boxes is not None
    content, scenes = read_yaml(command.boxes), []
    try:
        for file, objects in content.items():
            path = command.images / file
            height, width = read_image(path).pixels.shape[:2]
            scenes.append(Scene(path, [Boxed(one['label'], tuple(
                value * side for value, side in zip(one['box'], (width, height) * 2, strict=True)))
                for one in objects]))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f'{command.boxes}: expected photos with a label and a box of each thing, '
                         f'as fractions, got {brief(content)}') from error
    names = set(called.values())
    if wrong := {one.label for scene in scenes for one in scene.objects} - names:
        raise ValueError(f'{command.boxes}: expected names of {command.names}, got '
                         f'{", ".join(sorted(wrong))}')
    return scenes
