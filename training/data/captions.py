"""Captions: sentences on a class in many wordings, and captions of images from a file."""
from collections.abc import Sequence
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from training.data.image_index import Index, label_of
from vl2v_ros.files import brief, one_line, read_yaml
from vl2v_ros.words.labels import Entries

FACETS = ('kinds', 'colours', 'shapes', 'materials', 'uses')
TEMPLATES = ('a photo of a {}.', 'a picture of a {}.', 'a {}.', '{}', 'the {}.',
             'a rendering of a {}.', 'a close view of a {}.', 'a {} on a table.',
             'a dark photo of a {}.', 'a blurry photo of a {}.', 'a drawing of a {}.',
             'there is a {} in front of the robot.', 'a photo of one {}.')


@dataclass(frozen=True)
class Facts:
    """
    Facts of one class, from which captions are made.

    names: names in words; the first is that of the class (`image_index.label_of`).
    kinds, colours, shapes, materials, uses: words that other classes may share.
    looks: sentences on appearance and shape.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    colours: tuple[str, ...]
    shapes: tuple[str, ...]
    materials: tuple[str, ...]
    uses: tuple[str, ...]
    looks: tuple[str, ...]


def read_facts(path: Path, class_names: Sequence[str], described: Entries) -> list[Facts]:
    """
    Read the facts of some classes from YAML, in their order.

    :param described: label -> entry; its descriptions come first in `looks`.
    :raises ValueError: for a class without facts, or an entry with other fields.
    """
    try:
        content = read_yaml(path)
    except ValueError as error:
        raise ValueError(f'captions {path}: {error}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path}: expected entries by class name, got {brief(content)}')
    facts = []
    for name in class_names:
        if name not in content:
            raise ValueError(f'{path}: expected an entry for the class {name}, found none; add '
                             'one')
        entry = content[name]
        expected = {'names', *FACETS, 'looks'}
        if not isinstance(entry, dict) or set(entry) != expected:
            found = one_line(list(entry)) if isinstance(entry, dict) else brief(entry)
            raise ValueError(f'{path}, {name}: expected the lists {sorted(expected)}, got {found}')
        for key, words in entry.items():
            if not words or not isinstance(words, list) or not all(
                    isinstance(word, str) for word in words):
                raise ValueError(f'{path}, {name}: expected a list of texts as {key}, got '
                                 f'{brief(words)}; at least one, in quotes if YAML takes it for '
                                 'something else')
        label = label_of(name)
        if label not in described or not described[label].descriptions:
            raise ValueError(f'{path}: {label} has no description; add it to the vocabulary file')
        facts.append(Facts(names=(label, *entry['names']),
                           looks=(*described[label].descriptions, *entry['looks']),
                           **{facet: tuple(entry[facet]) for facet in FACETS}))
    return facts


def caption(facts: Sequence[Facts], number: int, rng: np.random.Generator
            ) -> tuple[str, np.ndarray]:
    """
    Make a random caption of a class.

    :return: the caption, and a (C,) bool mask of the classes it is true of.
    """
    fact = facts[number]
    if rng.random() < 0.6:  # its name, perhaps with a sentence on its looks
        words = TEMPLATES[rng.integers(len(TEMPLATES))].format(_one(fact.names, rng))
        if rng.random() < 0.5:
            words = f'{words} {_one(fact.looks, rng)}'
        return words, np.arange(len(facts)) == number
    if rng.random() < 0.2:
        return _one(fact.looks, rng), np.arange(len(facts)) == number
    return _shared(facts, fact, rng)


def _shared(facts: Sequence[Facts], fact: Facts, rng: np.random.Generator
            ) -> tuple[str, np.ndarray]:
    colour, shape, kind = (_one(words, rng) for words in (fact.colours, fact.shapes, fact.kinds))
    material, use = _one(fact.materials, rng), _one(fact.uses, rng)
    phrase, needed = [
        (f'{colour} {kind}', {'colours': colour, 'kinds': kind}),
        (f'{shape} {colour} object', {'shapes': shape, 'colours': colour}),
        (f'{shape} {kind}', {'shapes': shape, 'kinds': kind}),
        (kind, {'kinds': kind}),
        (f'{colour} {shape} {kind}', {'colours': colour, 'shapes': shape, 'kinds': kind}),
        (f'{material} {kind}', {'materials': material, 'kinds': kind}),
        (f'{colour} thing for {use}', {'colours': colour, 'uses': use}),
    ][rng.integers(7)]
    true_of = np.array([all(word in getattr(other, facet) for facet, word in needed.items())
                        for other in facts])
    return TEMPLATES[rng.integers(len(TEMPLATES))].format(phrase), true_of


def _one(words: Sequence[str], rng: np.random.Generator) -> str:
    return words[int(rng.integers(len(words)))]


def read_captions(path: Path, index: Index) -> list[str]:
    """
    Read the captions of the images of an index, in its order: CSV with columns file and caption.

    :raises ValueError: for another kind of file, or an image without a caption.
    """
    try:
        with path.open(encoding='utf-8-sig', newline='') as file:
            said = {row['file']: row['caption'] for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError, KeyError, csv.Error) as error:
        raise ValueError(f'{path}: expected a CSV file with the columns file and caption '
                         f'({type(error).__name__}: {one_line(error)})') from error
    missing = [name for name in index.files if not (said.get(name) or '').strip()]
    if missing:
        raise ValueError(f'{path}: has no caption of {len(missing)} of {len(index)} images, such '
                         f'as {missing[0]}; add them, or train without the term caption')
    return [said[name] for name in index.files]
