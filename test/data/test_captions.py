"""Captions: what is said of a class is true of it, and of which others."""
from collections import Counter
import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny_data import write_images
from training.data.captions import caption, FACETS, Facts, read_captions, read_facts, TEMPLATES
from training.data.image_index import read_folders
from vl2v_ros.words import vocabulary_file
from vl2v_ros.words.labels import Entry
import yaml

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / 'config/captions/ycb.yaml'
DESCRIBED = vocabulary_file.parse(str(ROOT / 'config/vocabularies/ycb.yaml')).entries
NAMES = list(yaml.safe_load(SHIPPED.read_text(encoding='utf-8')))
ENTRY = {'names': ['tea cup'], 'kinds': ['cup'], 'colours': ['red'], 'shapes': ['round'],
         'materials': ['metal'], 'uses': ['drinking'], 'looks': ['It is red.']}


@pytest.fixture(scope='module')
def shipped() -> list[Facts]:
    return read_facts(SHIPPED, NAMES, DESCRIBED)


def test_shipped_facts_cover_the_51_objects(shipped: list[Facts]) -> None:
    assert len(shipped) == len(NAMES) == 51
    assert [facts.names[0] for facts in shipped] == list(DESCRIBED)
    assert [facts.looks[:1] for facts in shipped] == [
        entry.descriptions for entry in DESCRIBED.values()]
    for facts in shipped:
        assert len(facts.names) >= 2 and len(facts.looks) >= 2
        assert all(getattr(facts, facet) for facet in FACETS)


@pytest.mark.parametrize('field', ['names', 'looks'])
def test_shipped_names_and_sentences_are_of_one_object(
        shipped: list[Facts], field: str) -> None:
    said = Counter(words.casefold() for facts in shipped for words in getattr(facts, field))
    assert [words for words, count in said.items() if count > 1] == []


def test_order_is_that_of_the_classes() -> None:
    facts = read_facts(SHIPPED, ['062_dice', '011_banana'], DESCRIBED)
    assert [entry.names[0] for entry in facts] == ['dice', 'banana']
    assert 'die' in facts[0].names and 'fruit' in facts[1].kinds


def phrase_of(words: str) -> str:
    """Return what a caption says without its template; the shortest, if several fit."""
    found = [words[len(start):len(words) - len(end)] for start, end in
             (template.split('{}') for template in TEMPLATES)
             if words.startswith(start) and words.endswith(end)]
    return min(found, key=len)


def truth(phrase: str, facts: Facts) -> bool:
    """Judge a phrase of shared words by itself: each word must be a fact of the class."""
    if ' thing for ' in phrase:
        colour, use = phrase.split(' thing for ')
        return colour in facts.colours and use in facts.uses
    shapes, colours, kinds = facts.shapes, facts.colours, facts.kinds
    known = {*kinds, *(f'{first} {kind}' for kind in kinds
                       for first in (*colours, *shapes, *facts.materials)),
             *(f'{colour} {shape} {kind}' for colour in colours for shape in shapes
               for kind in kinds),
             *(f'{shape} {colour} object' for shape in shapes for colour in colours)}
    return phrase in known


def test_captions_are_true_of_the_classes_in_their_mask(shipped: list[Facts]) -> None:
    rng, sorts = np.random.default_rng(0), Counter()
    names = {words: number for number, facts in enumerate(shipped) for words in facts.names}
    looks = {words: number for number, facts in enumerate(shipped) for words in facts.looks}
    for turn in range(4000):
        number = turn % len(shipped)
        words, true_of = caption(shipped, number, rng)
        assert true_of.dtype == bool and true_of.shape == (51,) and true_of[number], words
        sentence = next((look for look in shipped[number].looks if words.endswith(look)), '')
        start = words.removesuffix(sentence).strip()
        if sentence and not start:
            sorts['looks'] += 1
            assert looks[words] == number and true_of.sum() == 1
        elif sentence or phrase_of(start) in shipped[number].names and true_of.sum() == 1:
            sorts['name'] += 1
            assert names[phrase_of(start)] == number and true_of.sum() == 1
        else:
            sorts['shared'] += 1
            sorts['of several'] += true_of.sum() > 1
            judged = [truth(phrase_of(start), facts) for facts in shipped]
            assert true_of.tolist() == judged, words
    assert sorts['name'] > 2000 and sorts['looks'] > 200 and sorts['shared'] > 800
    assert sorts['of several'] > 400


def test_captions_depend_on_the_draws_alone(shipped: list[Facts]) -> None:
    def said(seed: int) -> list[str]:
        rng = np.random.default_rng(seed)
        return [caption(shipped, number % 51, rng)[0] for number in range(30)]

    assert said(0) == said(0) != said(1)


@pytest.mark.parametrize(('content', 'message'), [
    ({}, 'expected an entry for the class 025_mug, found none; add one'),
    (['025_mug'], r"expected entries by class name, got \['025_mug'\]"),
    ({'025_mug': None}, 'expected the lists .*got None'),
    ({'025_mug': {**ENTRY, 'sounds': ['none']}}, r"expected the lists .*, got \[.*'sounds'"),
    ({'025_mug': {key: ENTRY[key] for key in FACETS}}, "expected the lists .*'looks'.*, got"),
    ({'025_mug': {**ENTRY, 'uses': []}}, r'expected a list of texts as uses, got \[\]; at least'),
    ({'025_mug': {**ENTRY, 'colours': 'red'}}, "expected a list of texts as colours, got 'red'"),
    ({'025_mug': {**ENTRY, 'names': [True]}}, r'as names, got \[True\]; at least one, in quotes')])
def test_facts_of_no_use_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / 'captions.yaml'
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=f'{path}.*{message}'):
        read_facts(path, ['025_mug'], {'mug': Entry(('A red cup.',))})


def test_files_and_descriptions_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = tmp_path / 'captions.yaml'
    with pytest.raises(ValueError, match=f'captions {path}: expected a YAML file: .*No such file'):
        read_facts(path, ['025_mug'], {})
    path.write_text('025_mug: [')
    with pytest.raises(ValueError, match='expected a YAML file: while parsing'):
        read_facts(path, ['025_mug'], {})
    path.write_text(yaml.safe_dump({'025_mug': ENTRY}))
    for described in ({'cup': Entry(('A red cup.',))}, {'mug': Entry(synonyms=('cup',))}):
        with pytest.raises(ValueError, match='mug has no description; add it to the vocabulary'):
            read_facts(path, ['025_mug'], described)
    described = {'mug': Entry(('A cup.', 'It has a handle.'))}
    assert read_facts(path, ['025_mug'], described)[0].looks == (
        'A cup.', 'It has a handle.', 'It is red.')


def test_captions_of_images_are_read_in_the_order_of_the_index(tmp_path: Path) -> None:
    index = read_folders(write_images(tmp_path / 'images', count=2))
    said = {name: f'{name}, "seen" by a machine' for name in index.files}
    with (tmp_path / 'said.csv').open('w', newline='') as file:
        csv.writer(file).writerows([('file', 'caption'), *reversed(said.items())])
    assert read_captions(tmp_path / 'said.csv', index) == list(said.values())


@pytest.mark.parametrize('content, message', [
    ('name,text\na,b\n', 'expected a CSV file with the columns file and caption'),
    ('file,caption\nday/red_circle/0.png,\n', 'has no caption of 16 of 16 images'),
    (None, 'expected a CSV file'),
])
def test_a_file_without_all_captions_is_refused(tmp_path: Path, content: str | None, message: str
                                                ) -> None:
    index = read_folders(write_images(tmp_path / 'images', count=2))
    path = tmp_path / 'said.csv'
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_captions(path, index)
