"""Scenes: pictures of many objects, each of them present or not, and a label's two prompts."""
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from training.data.coco import read_scenes
from training.data.image_index import Index, label_of
from training.data.splits import (
    ObjectSets,
    ObjectSplit,
    read_object_split,
    select_classes,
    split_objects,
)
from training.data.task import describe, report_corrupt
from training.recipe import Data
from vl2v_ros.words import vocabulary
from vl2v_ros.words.encoder import TextEncoder


@dataclass(frozen=True, eq=False)
class SceneTask:
    """
    The scenes to learn from, and to test on; labels are (N, C) bool, the objects present.

    train: scenes with id objects only; its labels are of the first `trained` classes.
    few: some scenes with ood objects, to learn from afterwards, and then those of before; None:
    none.
    fresh: number of the former.
    test, sets: scenes to test on, and which of them show ood objects.
    class_names: of all classes, those trained on first.
    """

    train: Index
    few: Index | None
    fresh: int
    test: Index
    sets: ObjectSets
    class_names: tuple[str, ...]
    trained: int

    @property
    def labels(self) -> list[str]:
        """The classes in words."""
        return [label_of(name) for name in self.class_names]


class PromptPair(NamedTuple):
    """Prototypes of labels that are present, and that are absent; (C, D) unit rows each."""

    present: torch.Tensor
    absent: torch.Tensor

    def first(self, count: int) -> 'PromptPair':
        """Return those of the first labels."""
        return PromptPair(self.present[:count], self.absent[:count])


def read_scene_task(data: Data) -> SceneTask:
    """
    Read the scenes of a recipe, as render.py writes them (`clutter`), and split them by objects.

    Scenes that show another object than those of the split, or none, are left out.

    :raises ValueError: for missing scenes or classes, or too few scenes with ood objects.
    """
    assert data.split and data.test, 'a recipe with scenes has both'
    try:
        split = read_object_split(data.split)
    except ValueError as error:
        raise ValueError(f'data.split: {error}') from error
    train, known = _read(data.images, split, data.least_visible)
    test, sets = _read(data.test, split, data.least_visible)
    if len(known.x_ood) < data.few:
        raise ValueError(f'{data.images}: expected {data.few} scenes with ood objects, for '
                         f'data.few, got {len(known.x_ood)}; render more, or lower it')
    ids = train.take(known.x_id)
    return SceneTask(
        replace(ids, labels=ids.labels[:, :len(split.id)], class_names=split.id),
        train.take(np.concatenate([known.x_ood[:data.few], known.x_id])) if data.few else None,
        data.few, test, sets,
        (*split.id, *split.ood), len(split.id))


def _read(root: Path, split: ObjectSplit, least_visible: float) -> tuple[Index, ObjectSets]:
    """Return scenes, their classes in the order of the split, and which show ood objects."""
    names = (*split.id, *split.ood)
    shown = read_scenes(root, 0.0)  # an ood object that can hardly be seen is in a scene, too
    report_corrupt(shown)
    sets = split_objects(shown, split)
    if sets.left_out:
        print(f'{root}: {sets.left_out} of {len(shown)} scenes left out: they show other objects, '
              'or none')
    return select_classes(read_scenes(root, least_visible), names), replace(
        sets, y_id=np.arange(len(split.id)), y_ood=np.arange(len(split.id), len(names)))


def pair_of(task: SceneTask, data: Data, encoder: TextEncoder) -> PromptPair:
    """Return the prototypes of all classes' prompts; raises ValueError as `describe` does."""
    entries = describe(task.labels, data)
    return PromptPair(*(torch.tensor(vocabulary.build(entries, encoder, 1, (template,)).prototypes)
                  for template in data.presence))
