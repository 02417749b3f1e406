"""
Photo sets: labelled photos, and the names of their classes.

The class of a photo is its folder or, for files such as n01440764_tench.jpg, the start of the
file's name. Photos of classes without a name are left out.
"""
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
import unicodedata

import numpy as np
from timm.data import ImageNetInfo
import torch
from training.data.class_names import read_classes, read_names
from training.data.image_index import Index, label_of, make_index, without_corrupt
from training.measuring import metrics
from training.measuring.robot import Command, FIVE
from training.recipe import ROOT
from vl2v_ros.files import brief, read_yaml
from vl2v_ros.images.folders import image_files
from vl2v_ros.words import vocabulary
from vl2v_ros.words.cached_text import CachedText
from vl2v_ros.words.labels import check_texts, Entry
from vl2v_ros.words.offline import PLAIN
from vl2v_ros.words.recording import canonical
from vl2v_ros.words.vocabulary import Vocabulary

SHOWN = 5  # classes, in a sentence


@dataclass(frozen=True)
class PhotoSet:
    """
    The folder of photos, and the names of their classes.

    images: folder of photos, at any depth; <domain>/<class>/* has domains.
    names: YAML file, a mapping of classes to names, or a list of the names of ImageNet's classes
    in order; None: the names are those of the folders.
    descriptions: folder with <class>.txt for some of the classes; only without `names`.
    """

    images: Path
    names: Path | None = None
    descriptions: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Sets(Command):
    """The photos to measure the student on."""

    sets: Path = ROOT / 'config/photo_sets.yaml'
    """File of the sets of photos."""
    data: Path = Path()
    """Folder that holds the images of the sets."""
    photos: Path | None = None
    """Folder with photos, at any depth, to use instead of the sets."""
    names: Path | None = None
    """YAML file that maps the folders of --photos to names; by default the folders' own names."""
    only: tuple[str, ...] = ()
    """Names of the sets to use, in this order; by default all."""


@dataclass(frozen=True, eq=False)
class Shown:
    """
    N photos and their names.

    index: its domains are the folders of <domain>/<class>/*.
    words: vocabulary of C names.
    labels: (N,) int64, numbers of names.
    left_out: text on what was left out and why; '' for nothing.
    """

    index: Index
    words: Vocabulary
    labels: np.ndarray
    left_out: str


def read_sets(path: Path, data: Path) -> dict[str, PhotoSet]:
    """
    Read a file of photo sets, such as config/photo_sets.yaml.

    :param data: folder that images and descriptions are relative to; names are in the repository.
    :raises ValueError: for a file that is no mapping of names to sets.
    """
    try:
        content = read_yaml(path)
    except ValueError as error:
        raise ValueError(f'photo sets {path}: {error}') from error
    known = [field.name for field in fields(PhotoSet)]
    if not isinstance(content, dict) or not content or not all(
            isinstance(one, dict) and 'images' in one and one.keys() <= set(known)
            and all(isinstance(value, str) for value in one.values())
            for one in content.values()):
        raise ValueError(f'photo sets {path}: expected a mapping of sets to {", ".join(known)}, '
                         f'of which images is needed, got {brief(content)}')
    return {str(name): PhotoSet(**{
        what: (ROOT if what == 'names' else data) / value for what, value in one.items()})
        for name, one in content.items()}


def sets_of(command: Sets) -> dict[str, PhotoSet]:
    """Return the chosen sets of photos; raises ValueError for unknown ones."""
    if command.photos is not None:
        return {command.photos.name: PhotoSet(command.photos, command.names)}
    if command.names is not None:
        raise ValueError('--names: expected --photos too, which it is the names of')
    sets = read_sets(command.sets, command.data)
    if wrong := [name for name in command.only if name not in sets]:
        raise ValueError(f'--only: expected some of {", ".join(sets)}, got {", ".join(wrong)}')
    return {name: sets[name] for name in command.only or sets}


def read_set(found: PhotoSet, encoder: CachedText, templates: Sequence[str]) -> Shown:
    """
    Read photos and encode their names.

    Names of folders that cannot be encoded without a text tower are left out.

    :raises ValueError: if no photo has a name, or names from a file cannot be encoded.
    """
    index = read_photos(found.images)
    called = _called(found, index.class_names)
    if found.names is None:
        called = _encodable(called, encoder, templates)
    names = tuple(dict.fromkeys(called.values()))
    numbers = {name: number for number, name in enumerate(names)}
    by_class = np.array([numbers.get(called.get(name, ''), -1) for name in index.class_names])
    there = by_class[index.labels] >= 0
    if not there.any():
        raise ValueError(f'photos {found.images}: expected some of a class with a name, such as '
                         f'{", ".join(list(called)[:SHOWN]) or "none"}; got the classes '
                         f'{", ".join(index.class_names[:SHOWN])}')
    nameless = [name for name, number in zip(index.class_names, by_class, strict=True)
                if number < 0]
    said = (f'{(~there).sum()} of {len(there)} photos, of {len(nameless)} of {len(by_class)} '
            f'classes, which have no name that is known: {", ".join(nameless[:SHOWN])}'
            f'{", ..." if nameless[SHOWN:] else ""}') if nameless else ''
    index = index.take(there)
    # Unchecked, as two names may differ in case alone: the Cardigan is a corgi, no cardigan is.
    entries = {name: Entry(texts) for name, texts in _descriptions(found, called).items()}
    return Shown(index, vocabulary.build(entries, encoder, 1, templates), by_class[index.labels],
                 said)


def read_photos(root: Path) -> Index:
    """Return the photos at any depth of a folder; raises ValueError if there is none."""
    files = list(image_files(root))
    if not files:
        raise ValueError(f'photos: expected images in {root}, found none; correct the path, or '
                         'name the folder that it starts from as --data')
    classes = [unicodedata.normalize('NFC', file.parent.name)
               or file.stem.partition('_')[0] for file in files]
    domains = [file.parts[0] if len(file.parts) > 2 else '' for file in files]
    return without_corrupt(make_index(root, [str(file) for file in files], classes, domains), True)


def _called(found: PhotoSet, classes: Sequence[str]) -> dict[str, str]:
    """Return class -> name."""
    if found.names is None:
        return {name: label_of(name).replace('-', ' ').lower() for name in classes}
    try:
        return read_names(found.names)
    except ValueError:
        names, wnids = read_classes(found.names), ImageNetInfo().label_names()
        if len(names) != len(wnids):
            raise ValueError(f'names {found.names}: expected a mapping of classes to names, or a '
                             f'list of {len(wnids)}, got a list of {len(names)}') from None
        return dict(zip(wnids, names, strict=True))


def _encodable(called: dict[str, str], encoder: CachedText, templates: Sequence[str]
               ) -> dict[str, str]:
    """Return the part of class -> name that can be encoded."""
    try:
        encoder.encode([vocabulary.prompt(templates[0], name) for name in called.values()])
        return called
    except ValueError:
        prompts = {name: {vocabulary.prompt(template, name) for template in (*templates, *PLAIN)}
                   for name in called.values()}
        kept = encoder.kept([prompt for some in prompts.values() for prompt in some])
        return {key: name for key, name in called.items() if prompts[name] & kept}


def _descriptions(found: PhotoSet, called: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the descriptions of each name."""
    said: dict[str, tuple[str, ...]] = dict.fromkeys(called.values(), ())
    for key, name in called.items():
        path = found.descriptions / f'{key}.txt' if found.descriptions else None
        if path and path.is_file():
            text = ' '.join(path.read_text(encoding='utf-8-sig').split())
            said[name] = said[name] or check_texts([text], str(path), 'a sentence')
    return said


def known_names(encoder: CachedText, words: Vocabulary, templates: Sequence[str]
                ) -> tuple[Vocabulary, np.ndarray]:
    """
    Return all names in the recording beside a student, and the places of some words among them.

    :return: a vocabulary, and (C,) int64, the numbers that the C words have in it. Words that are
        not in the recording are added.
    """
    names = list(encoder.names)
    places = {canonical(name): number for number, name in enumerate(names)}
    places |= {name: number for number, name in enumerate(names)}  # exact names are preferred
    numbers = []
    for label in words.labels:
        number = places.get(label, places.get(canonical(label)))
        if number is None:
            number = len(names)
            names.append(label)
        numbers.append(number)
    return (vocabulary.build(dict.fromkeys(names, Entry()), encoder, 1, templates),
            np.array(numbers, np.int64))


def accuracies(similarities: torch.Tensor, labels: torch.Tensor, index: Index
               ) -> dict[str, float]:
    """Return top-1 and top-5 accuracy, as the mean of the domains [%]."""
    first, five = [], []
    for domain in np.unique(index.domains):
        mine = torch.from_numpy(index.domains == domain)
        first.append(metrics.accuracy(similarities[mine], labels[mine]))
        nearest = similarities[mine].topk(min(FIVE, similarities.shape[1])).indices
        five.append((nearest == labels[mine, None]).any(1).double().mean().item())
    return {'top-1': 100 * float(np.mean(first)), 'top-5': 100 * float(np.mean(five))}
