"""Task: the training and test images of a recipe, and the vocabulary of their classes."""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
import unicodedata

import numpy as np
from training.data.image_index import Index, label_of, read_folders
from training.data.shards import find_shards, Shards
from training.data.splits import hold_out, read_object_split, select_classes
from training.recipe import Data
from vl2v_ros.files import shown
from vl2v_ros.images.folders import other_images
from vl2v_ros.words import vocabulary, vocabulary_file
from vl2v_ros.words.encoder import TextEncoder
from vl2v_ros.words.labels import check_entries, check_labels, Entry
from vl2v_ros.words.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Task:
    """
    The images to train and to test on.

    train: its labels are numbers of the first `trained` class names.
    test: all classes and domains; none of its images is in `train`.
    class_names: names of all classes; those that are trained on come first.
    trained: number of classes that are trained on.
    domains: numbers of the domains of `test` that are trained on.
    scenes: a `clutter` dataset of render.py, whose objects are tested as well; None: no such test.
    few: some images of each class that is not trained on, to learn from afterwards, and then those
    of `train`; none of them is in `test`. None: none.
    fresh: number of the former.
    """

    train: Index
    test: Index
    class_names: tuple[str, ...]
    trained: int
    domains: tuple[int, ...]
    scenes: Path | None = None
    few: Index | None = None
    fresh: int = 0

    @property
    def labels(self) -> list[str]:
        """The classes in words."""
        return [label_of(name) for name in self.class_names]

    @property
    def seen_domains(self) -> tuple[str, ...]:
        """Names of the domains of `test` that are trained on."""
        return tuple(self.test.domain_names[number] for number in self.domains)


def read_task(data: Data) -> Task:
    """
    Read the images and split them.

    Without a folder of test images, a part of the training images is held out for the test, and
    classes and domains that are not trained on are tested with all their images.

    :raises ValueError: for missing folders, domains or classes, or too few of them.
    """
    images = _read(data.images)
    if not data.split:
        check_folders(images)
    names, trained = _classes(data, images.class_names)
    images = select_classes(images, names if data.test is None or data.few else trained)
    used = (images.labels < len(trained)) & _in_domains(images, data.domains)
    train = select_classes(images.take(used), trained)
    empty = [name for number, name in enumerate(trained) if not (train.labels == number).any()]
    if empty:
        raise ValueError(f'{data.images}: no image to train on of the class '
                         f'{", ".join(empty)}; add some, or leave the class out')
    if len(trained) < 2:
        raise ValueError(f'{data.images}: expected at least 2 classes to train on, got '
                         f'{", ".join(trained)}')
    kept, fresh = np.flatnonzero(used), _fresh(images, len(trained), data)
    if data.test is None:
        rest, _ = hold_out(train, data.hold_out, seed=0)
        train, kept = train.take(rest), kept[rest]
        test = images.take(np.setdiff1d(np.arange(len(images)), [*kept, *fresh]))
    else:
        test = select_classes(_read(data.test), names)
    if not len(test):
        raise ValueError(f'{data.test or data.images}: no image to test on of {len(names)} '
                         f'classes; add some, hold out more than data.hold_out {data.hold_out}, '
                         'or name a folder as data.test')
    seen = data.domains or train.domain_names
    if _is_flat(train) and _is_flat(test):  # named as their folders, which differ
        seen = test.domain_names
    return Task(train, test, names, len(trained), tuple(
        number for number, name in enumerate(test.domain_names) if name in seen),
        few=images.take(np.concatenate([fresh, kept])) if data.few else None, fresh=len(fresh))


def _fresh(images: Index, trained: int, data: Data) -> np.ndarray:
    """Return rows of `data.few` images of each class that is not trained on, in its domains."""
    rng, rows = np.random.default_rng(0), []  # the same for all seeds of a study
    for number in range(trained, len(images.class_names)) if data.few else ():
        there = np.flatnonzero((images.labels == number) & _in_domains(images, data.domains))
        if len(there) < data.few:
            raise ValueError(f'{images.root}: expected {data.few} images of '
                             f'{images.class_names[number]}, for data.few, got {len(there)}; add '
                             'some, or lower it')
        rows.append(rng.permutation(there)[:data.few])
    return np.concatenate(rows) if rows else np.array([], np.int64)


def shard_task(data: Data) -> tuple[Task, Shards]:
    """
    Read the test images and find the shards to train on; the task's `train` is empty.

    :raises ValueError: for missing shards, folders, domains or classes.
    """
    found = find_shards(data.images)
    if data.test is None:
        raise ValueError('data.test: expected a folder of images to test on, as none can be held '
                         'out of shards')
    _check_domains(data.images, data.domains, found.domain_names)
    names, trained = _classes(data, found.class_names)
    if missing := [name for name in trained if name not in found.class_names]:
        raise ValueError(f'{data.images}: expected shards of the class {", ".join(missing)}; they '
                         f'have {", ".join(found.class_names)}')
    test = select_classes(_read(data.test), names)
    seen = data.domains or found.domain_names
    return Task(select_classes(test, trained).take([]), test, names, len(trained), tuple(
        number for number, name in enumerate(test.domain_names) if name in seen)), found


def _classes(data: Data, found: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of all classes, those trained on first, and of these."""
    if not data.split:
        return tuple(found), tuple(found)
    try:
        split = read_object_split(data.split)
    except ValueError as error:
        raise ValueError(f'data.split: {error}') from error
    return (*split.id, *split.ood), split.id


def _check_domains(root: Path, names: Sequence[str], found: Sequence[str]) -> None:
    if missing := [name for name in names if name not in found]:
        raise ValueError(f'data.domains: {root} has no domain {", ".join(missing)}; it has '
                         f'{", ".join(found)}')


def _read(root: Path) -> Index:
    index = read_folders(root)
    report_corrupt(index)
    return index


def report_corrupt(index: Index) -> None:
    """Print which files were left out, the first ten by name, and which kinds of images."""
    if others := other_images(index.root):
        print(f'{shown(index.root)}: passed over {others}')
    if index.corrupt:
        more = f' and {len(index.corrupt) - 10} more' if len(index.corrupt) > 10 else ''
        print(f'{shown(index.root)}: {len(index.corrupt)} corrupt files left out: '
              f'{"; ".join(index.corrupt[:10])}{more}')


def check_folders(index: Index) -> None:
    """Raise ValueError for class folders without any image."""
    level = '/'.join('*' * index.files[0].count('/'))
    found = {unicodedata.normalize('NFC', path.name) for path in index.root.glob(level)
             if path.is_dir() and not path.name.startswith('.')}
    if empty := sorted(found - set(index.class_names)):
        raise ValueError(f'{index.root}: no image in the folders of the class '
                         f'{", ".join(empty)}; add some, or remove the folders')


def _is_flat(index: Index) -> bool:
    """Return whether an index is of root/<class>/*, without domains."""
    return index.files[0].count('/') == 1


def _in_domains(index: Index, names: Sequence[str]) -> np.ndarray:
    """Return the (N,) mask of some domains, of all for no name."""
    _check_domains(index.root, names, index.domain_names)
    return np.isin(np.array(index.domain_names)[index.domains], names or index.domain_names)


def describe(labels: Sequence[str], data: Data) -> dict[str, Entry]:
    """
    Return the descriptions of each label; none if the recipe does not enrich.

    :raises ValueError: for a label that is not in the vocabulary file.
    """
    if not data.enrich:
        return check_labels(labels)
    known = vocabulary_file.parse(str(data.vocabulary)).entries
    if missing := [label for label in labels if label not in known]:
        raise ValueError(f'data.vocabulary: {data.vocabulary} lacks {", ".join(missing)}; add a '
                         'description for each, or train with --data.no-enrich')
    return check_entries([(label, known[label]) for label in labels])


def vocabulary_of(labels: Sequence[str], data: Data, encoder: TextEncoder) -> Vocabulary:
    """Return the labels with their prototypes; raises ValueError as `describe` does."""
    return vocabulary.build(describe(labels, data), encoder, 1, data.templates)
