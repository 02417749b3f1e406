"""Tables of accuracy by domains and groups of objects; confusion and mistakes."""
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from training.data.coco import read_crops, read_scenes
from training.data.image_index import Index
from training.data.splits import ObjectSplit, select_classes, split_objects
from training.data.task import Task
from training.measuring import metrics
from training.measuring.pages.report import Mistake

SHOWN = 12  # mistakes in the report


def accuracy_by_domain(similarities: torch.Tensor, index: Index, task: Task,
          with_ood: torch.Tensor | None = None, prefix: str = '') -> list[dict[str, object]]:
    """
    Return the accuracies of the trained domains, of the unseen ones, and of each domain.

    :param similarities: (N, C), of the images of the index to the labels of the task.
    :param with_ood: (N,) bool, whether an image is of a scene with ood objects; None: each image
        is a scene of its own.
    """
    labels, seen = torch.tensor(index.labels), in_domains(index, task.seen_domains)
    with_ood = labels >= task.trained if with_ood is None else with_ood
    groups = {'domains trained on': seen, 'unseen domains': ~seen,
              **{name: in_domains(index, (name,)) for name in index.domain_names}}
    return [{'images': f'{prefix}{name}', 'count': int(group.sum()),
             **line(similarities[group], labels[group], with_ood[group], task.trained)}
            for name, group in groups.items() if group.any()]


def line(similarities: torch.Tensor, labels: torch.Tensor, with_ood: torch.Tensor, trained: int
         ) -> dict[str, float]:
    """
    Return a row of the table, with the groups of paper B; groups without images are left out.

    X_id, Y_id on X_ood: id objects in scenes without and with ood objects, over the id labels.
    Y_ood on X_ood: ood objects, over the ood labels. "Over all": over the labels of both.

    :param similarities: (N, C), id labels first; of a closed set the id labels only.
    :param with_ood: (N,) bool.
    """
    known, count = labels < trained, similarities.shape[1]
    of_id, of_ood, of_all = range(trained), range(trained, count), range(count)
    groups = {'X_id': (known & ~with_ood, of_id), 'X_id over all': (known & ~with_ood, of_all),
              'Y_id on X_ood': (known & with_ood, of_id),
              'Y_ood on X_ood': (~known, of_ood), 'Y_ood over all': (~known, of_all)}
    if not len(of_ood):
        groups = {name: groups[name] for name in ('X_id', 'Y_id on X_ood')}
    return {name: metrics.restricted(similarities[part], labels[part], columns)
            for name, (part, columns) in groups.items() if part.any()}


def in_domains(index: Index, names: Sequence[str]) -> torch.Tensor:
    """Return the (N,) bool mask of the images of some domains."""
    return torch.tensor([index.domain_names[domain] in names for domain in index.domains])


def scene_objects(root: Path, task: Task) -> tuple[Index, torch.Tensor]:
    """
    Read the objects in scenes as images; return them, and (N,) bool: the scene has ood objects.

    Scenes with objects that are no classes of the task are left out.

    :raises ValueError: for a task without ood classes, or scenes that do not fit it.
    """
    if task.trained == len(task.class_names):
        raise ValueError('--scenes: expected classes that are not trained on; name an object '
                         'split of them as --data.split')
    scenes = read_scenes(root, check=False)
    sets = split_objects(scenes, ObjectSplit(task.class_names[:task.trained],
                                             task.class_names[task.trained:]))
    if sets.left_out:
        print(f'{root}: {sets.left_out} of {len(scenes)} scenes left out: they show other objects,'
              ' or none')
    with_ood = {**{scenes.files[row]: False for row in sets.x_id},
                **{scenes.files[row]: True for row in sets.x_ood}}
    crops = select_classes(read_crops(root), task.class_names)
    crops = crops.take([file in with_ood for file in crops.files])
    if not len(crops):
        raise ValueError(f'{root}: none of the objects in its {len(with_ood)} scenes can be seen '
                         'well enough; render others')
    return crops, torch.tensor([with_ood[file] for file in crops.files])


def confusion(scores: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """
    Return the (C, C) counts of images, row truth; images of other labels do not count.

    :param scores: (N, C). labels: (N,) int64.
    """
    counts = np.zeros((scores.shape[1],) * 2, np.int64)
    inside = labels < scores.shape[1]
    np.add.at(counts, (labels[inside].numpy(), scores[inside].argmax(1).numpy()), 1)
    return counts


def mistakes(scores: torch.Tensor, task: Task) -> list[Mistake]:
    """Return the most confident wrong images by their (N, C) scores in [0, 1], best first."""
    labels, (best, taken) = torch.tensor(task.test.labels), scores.max(1)
    wrong = torch.where((taken != labels) & (labels < scores.shape[1]), best, -1.0)
    return [Mistake(task.test.read(row), task.labels[labels[row]], task.labels[taken[row]],
                           float(best[row]), task.test.name(row))
            for row in wrong.argsort(descending=True)[:SHOWN].tolist() if wrong[row] > 0]
