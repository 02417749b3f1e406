"""Split an index by domain (VL2V) or by object (the robot experiment), as rows of it."""
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from training.data.image_index import Index
from vl2v_ros.files import brief, one_line, read_yaml


@dataclass(frozen=True)
class ObjectSplit:
    """Names of the classes that a student is trained on (id), and of those never seen (ood)."""

    id: tuple[str, ...]
    ood: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ObjectSets:
    """
    The sets X_id, X_ood, Y_id and Y_ood of paper B (Li, Fang et al., ICCV 2023).

    x_id: rows of the images with id objects only; train and test on parts of these.
    x_ood: rows of the images with at least one ood object; scenes may show id objects too.
    y_id, y_ood: numbers of the classes. "Y_id on X_ood" scores columns y_id on rows x_ood.
    left_out: number of images that show objects of neither list, or nothing.
    """

    x_id: np.ndarray
    x_ood: np.ndarray
    y_id: np.ndarray
    y_ood: np.ndarray
    left_out: int


def leave_one_domain_out(index: Index) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """
    Split by domain; each is the target once (Gulrajani and Lopez-Paz, ICLR 2021; VL2V).

    :return: name of the target domain -> rows of all other domains, rows of the target.
    :raises ValueError: if the index has one domain or one class only.
    """
    present = np.unique(index.domains)
    if len(present) < 2:
        raise ValueError(f'expected at least 2 domains, to leave one out; {index.root} has '
                         f'{_listed(index.domain_names, present)}; read a folder of '
                         '<domain>/<class>/*')
    _need_two_classes(index)
    return {index.domain_names[domain]: (np.flatnonzero(index.domains != domain),
                                         np.flatnonzero(index.domains == domain))
            for domain in present}


def hold_out(index: Index, part: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Split at random within each class of each domain; scenes within each domain.

    Views of one heap may be in both parts: render test scenes with another seed instead.

    :param part: fraction of each group to hold out, in (0, 1); at least one image stays.
    :return: rows that stay, rows held out; ascending.
    """
    if not 0 < part < 1:
        raise ValueError(f'part: expected a number between 0 and 1, got {part}')
    rng = np.random.default_rng(seed)
    kind = index.labels if index.labels.ndim == 1 else np.zeros(len(index), np.int64)
    groups = index.domains * (len(index.class_names) + 1) + kind
    parts = []
    for group in np.unique(groups):
        rows = rng.permutation(np.flatnonzero(groups == group))
        parts.append(rows[:min(len(rows) - 1, round(part * len(rows)))])
    held = np.sort(np.concatenate(parts))
    return np.setdiff1d(np.arange(len(index)), held), held


def select_classes(index: Index, names: Sequence[str]) -> Index:
    """
    Return the images of some classes, numbered in the order given.

    All scenes stay; objects of other classes in them become things without a name.

    :raises ValueError: if the index lacks one of them.
    """
    columns = _columns(index, names)
    if index.labels.ndim == 2:
        return replace(index, labels=index.labels[:, columns], class_names=tuple(names))
    chosen = index.take(np.isin(index.labels, columns))
    numbers = np.full(len(index.class_names), -1, np.int64)
    numbers[columns] = range(len(columns))
    return replace(chosen, labels=numbers[chosen.labels], class_names=tuple(names))


def read_object_split(path: Path) -> ObjectSplit:
    """
    Read an object split: YAML with lists of class names, `id` and `ood`.

    :raises ValueError: for another kind of file, or a class that is named twice.
    """
    try:
        content = read_yaml(path)
    except ValueError as error:
        raise ValueError(f'{path}: {error}; correct the path or the file') from error
    if (not isinstance(content, dict) or set(content) != {'id', 'ood'}
            or not all(isinstance(names, list) and names for names in content.values())
            or not all(isinstance(name, str | int) for name in sum(content.values(), []))):
        raise ValueError(f'{path}: expected two lists of class names, id and ood, got '
                         f'{brief(content)}')
    names = [str(name) for name in (*content['id'], *content['ood'])]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f'{path}: expected each class once, got '
                         f'{one_line(", ".join(twice))} twice')
    return ObjectSplit(tuple(map(str, content['id'])), tuple(map(str, content['ood'])))


def split_objects(index: Index, split: ObjectSplit) -> ObjectSets:
    """
    Split images by the objects in them; pictures of one object, crops or scenes.

    Images that show an object of neither list are left out and counted; to keep such scenes,
    `select_classes(index, split.id + split.ood)` first.

    :raises ValueError: if the index lacks a class of the split, or X_id or X_ood is empty.
    """
    y_id, y_ood = _columns(index, split.id), _columns(index, split.ood)
    present = index.labels
    if present.ndim == 1:
        present = np.eye(len(index.class_names), dtype=bool)[present]  # (N, C)
    others = np.delete(present, np.concatenate([y_id, y_ood]), axis=1).any(1)
    any_ood = present[:, y_ood].any(1)
    x_ood = any_ood & ~others
    x_id = present[:, y_id].any(1) & ~any_ood & ~others
    for rows, what, names in ((x_id, 'id objects only', split.id),
                              (x_ood, 'ood objects', (*split.id, *split.ood))):
        if not rows.any():
            raise ValueError(f'{index.root}: none of its {len(index)} images shows {what} '
                             f'({others.sum()} show others as well); render some with --objects '
                             f'{" ".join(names)}')
    return ObjectSets(np.flatnonzero(x_id), np.flatnonzero(x_ood), y_id, y_ood,
                      int((~x_id & ~x_ood).sum()))


def _columns(index: Index, names: Sequence[str]) -> np.ndarray:
    missing = [name for name in names if name not in index.class_names]
    if missing:
        raise ValueError(f'{index.root} has no class {", ".join(missing)}; it has '
                         f'{", ".join(index.class_names)}')
    return np.array([index.class_names.index(name) for name in names], np.int64)


def _need_two_classes(index: Index) -> None:
    present = (np.unique(index.labels) if index.labels.ndim == 1
               else np.flatnonzero(index.labels.any(0)))
    if len(present) < 2:
        raise ValueError(f'expected images of at least 2 classes; {index.root} has '
                         f'{_listed(index.class_names, present)}; add another class')


def _listed(names: Sequence[str], numbers: np.ndarray) -> str:
    return 'only ' + (', '.join(names[number] for number in numbers) or 'none')
