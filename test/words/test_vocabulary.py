"""Vocabularies: templates filled in, and labels encoded."""
from collections.abc import Sequence
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from support.entries import HOT, numbered
from support.tiny_models import GivenText, WIDTH, write_tower
from vl2v_ros.words import vocabulary
from vl2v_ros.words.cached_text import CachedText
from vl2v_ros.words.clip_text import ClipText
from vl2v_ros.words.labels import (
    check_labels,
    check_templates,
    Entry,
)
from vl2v_ros.words.vocabulary import TEMPLATE


@pytest.fixture(scope='module')
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ClipText:
    folder = tmp_path_factory.mktemp('tower')
    return ClipText(write_tower(folder), folder)


@pytest.mark.parametrize(('template', 'label', 'description', 'expected'), [
    (TEMPLATE, 'cup', '', 'a photo of a cup.'),
    (TEMPLATE, 'cup', 'It is hot.', 'a photo of a cup. It is hot.'),
    (TEMPLATE, '{description}', 'It is {label}.', 'a photo of a {description}. It is {label}.'),
    (TEMPLATE, '{0} {x!r} }{', r'\1 {{', r'a photo of a {0} {x!r} }{. \1 {{'),
    ('{label} {label}', 'cup', 'It is hot.', 'cup cup'),
    ('{other} {label}', 'cup', '', '{other} cup')])
def test_only_the_places_of_the_template_are_filled(
        template: str, label: str, description: str, expected: str) -> None:
    assert vocabulary.prompt(template, label, description) == expected


@pytest.mark.parametrize(('templates', 'message'), [
    ((), 'template: expected at least one, got none'),
    (('the {label}', 'a photo'), "template 2: expected the place {label} .*, got 'a photo'"),
    (('a photo[ of a {label}]. {description}',), 'template 1: expected the place .*outside of'),
    (('{Label}',), 'template 1: expected the place {label} and, if wanted, {description} and'),
    (('{label} {desciption}',), "template 1: expected the place .*got '{label} {desciption}'"),
    (('{label} {}',), 'template 1: expected the place'),
    (('{label}', ' '), 'template 2: expected a sentence, got a blank'),
    (('{label}', ' {label} '), 'template 2: expected different texts'),
    (('{label}\n',), 'template 1: expected one line'),
    (tuple(f'{number} {{label}}' for number in range(101)), 'template 101: expected at most 100')])
def test_templates_of_no_use_are_refused(templates: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vocabulary.build({'cup': Entry()}, GivenText({'cup': [1]}), 1, templates)


def test_braces_that_are_no_place_may_stand_in_a_template() -> None:
    assert check_templates(['{ {label}  } {{label}}']) == ('{ {label} } {{label}}',)


def unit(row: np.ndarray) -> np.ndarray:
    return row / np.sqrt((row ** 2).sum())


def mean(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return what open_clip makes of several rows."""
    return unit(sum(row.astype(float) for row in rows))


@pytest.mark.parametrize(('label', 'read'), [
    ('a red mug', 'a photo of a red mug'), ('an apple', 'a photo of an apple'),
    ('the onion', 'a photo of an onion'), ('the', 'a photo of a the'),
    ('The Laughing Cow', 'a photo of a The Laughing Cow'), ('anchor', 'a photo of an anchor')])
def test_a_label_is_read_as_without_its_article(label: str, read: str) -> None:
    assert vocabulary.prompt('a photo of {a} {label}', label) == read


@pytest.mark.parametrize(('templates', 'prompts'), [
    ([TEMPLATE], [['a photo of a cup. It is hot.'], ['a photo of a dog.'],
                  ['a photo of a {label}. It has {braces}.']]),
    (['the {label}', 'a {label}.', '{description} {label}'],
     [['the cup', 'a cup.', 'It is hot. cup'], ['the dog', 'a dog.', 'dog'],
      ['the {label}', 'a {label}.', 'It has {braces}. {label}']])])
def test_prototypes_are_the_mean_over_templates(
        encoder: ClipText, templates: list[str], prompts: list[list[str]]) -> None:
    entries = {'cup': HOT, 'dog': Entry(), '{label}': Entry(('It has {braces}.',))}
    built = vocabulary.build(entries, encoder, 7, templates)
    for prototype, of_label in zip(built.prototypes, prompts, strict=True):
        np.testing.assert_allclose(
            prototype, mean([encoder.encode([text]).rows[0] for text in of_label]), atol=1e-6)
    assert built.labels == tuple(entries) and built.version == 7
    assert built.descriptions == (('It is hot.',), (), ('It has {braces}.',))
    assert built.prompts == tuple(text for of_label in prompts for text in of_label)
    assert built.prompt_labels.tolist() == [
        number for number, of_label in enumerate(prompts) for _ in of_label]
    np.testing.assert_allclose(built.prompt_rows, encoder.encode(built.prompts).rows, atol=1e-6)


def test_each_wording_weighs_the_same_whatever_its_templates_say() -> None:
    rng = np.random.default_rng(0)
    texts = ['cup', 'a cup: hot', 'a cup: red', 'mug', 'a mug: hot', 'a mug: red',
             'dog', 'a dog:']
    rows = {text: unit(rng.standard_normal(5)) for text in texts}
    entries = {'cup': Entry(('hot', 'red'), ('mug',)), 'dog': Entry()}
    built = vocabulary.build(entries, GivenText(rows), 1, ('{label}', 'a {label}: {description}'))
    wordings = [mean([rows[name], rows[f'a {name}: {sentence}']])
                for name in ('cup', 'mug') for sentence in ('hot', 'red')]
    np.testing.assert_allclose(built.prototypes[0], mean(wordings), atol=1e-6)
    np.testing.assert_allclose(built.prototypes[1], mean([rows['dog'], rows['a dog:']]), atol=1e-6)
    # Not what the mean of all prompts would be, as 'cup' serves two wordings.
    of_prompts = mean([rows[text] for text in texts[:6]])
    assert not np.allclose(built.prototypes[0], of_prompts, atol=1e-3)
    # Each prompt is there once.
    assert built.prompts == tuple(texts)
    assert built.prompt_labels.tolist() == [0] * 6 + [1] * 2
    assert built.prompt_labels.dtype == np.int64
    np.testing.assert_allclose(built.prompt_rows, [rows[text] for text in texts], atol=1e-6)


def test_a_prompt_that_two_labels_share_is_a_prompt_of_each() -> None:
    entries = {'big clamp': Entry(synonyms=('clamp',)), 'small clamp': Entry(synonyms=('clamp',))}
    rows = {'big clamp': [1, 0], 'clamp': [0, 1], 'small clamp': [0.6, 0.8]}
    built = vocabulary.build(entries, GivenText(rows), 1, ('{label}',))
    assert built.prompts == ('big clamp', 'clamp', 'small clamp', 'clamp')
    assert built.prompt_labels.tolist() == [0, 0, 1, 1]


def test_background_prompts_come_as_they_are_behind_those_of_the_labels(encoder: ClipText) -> None:
    background = ('an empty table', 'a photo of a robot arm.')
    built = vocabulary.build({'cup': HOT, 'dog': Entry()}, encoder, 1, background=background)
    plain = vocabulary.build({'cup': HOT, 'dog': Entry()}, encoder, 1)
    assert np.array_equal(built.prototypes, plain.prototypes)
    assert built.background == background and plain.background == ()
    assert plain.background_rows.shape == (0, WIDTH)
    assert built.background_rows.dtype == np.float32
    np.testing.assert_allclose(built.background_rows, encoder.encode(background).rows, atol=1e-6)
    assert built.prompts == plain.prompts + background
    assert built.prompt_labels.tolist() == [0, 1, 2, 3]
    assert np.array_equal(built.prompt_rows[2:], built.background_rows)


def test_too_many_prompts_are_refused_before_they_are_encoded() -> None:
    entries = {label: Entry(('a', 'b'), ('another ' + label,)) for label in numbered(7000)}
    with pytest.raises(ValueError, match='at most 50000 prompts, got 2 templates for 28000 '
                                         'wordings of 7000 labels; leave some out'):
        vocabulary.build(entries, GivenText({'': [1]}), 1, ('{label}', 'a {label}'))


def test_vocabulary_cannot_be_changed(encoder: ClipText) -> None:
    built = vocabulary.build(check_labels(['cup', 'dog']), encoder, 1, background=['a table'])
    for array in (built.prototypes, built.prompt_rows, built.background_rows):
        with pytest.raises(ValueError, match='read-only'):
            array[0, 0] = 0
    with pytest.raises(ValueError, match='read-only'):
        built.prompt_labels[0] = 1
    with pytest.raises(FrozenInstanceError):
        built.version = 2


def test_5000_labels_get_unit_rows_of_their_own(encoder: ClipText, cache_dir: Path) -> None:
    entries = check_labels(numbered(5000))
    cached = CachedText('tiny', WIDTH, lambda: encoder, cache_dir)
    built = vocabulary.build(entries, cached, 1)
    assert built.prototypes.shape == (5000, WIDTH) and built.prototypes.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(built.prototypes, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(
        built.prototypes[4321], encoder.encode(['a photo of a label 4321.']).rows[0], atol=1e-6)


def test_labels_whose_prompt_was_cut_are_listed(encoder: ClipText) -> None:
    long = ' '.join(['very'] * 72)
    entries = {'cup': Entry(), 'dog': Entry(('It is big.', f'It is {long} big.')),
               f'{long} red': Entry(), 'mug': Entry(synonyms=(f'{long} big cup',))}
    built = vocabulary.build(entries, encoder, 1, ('{label}', 'the {label}. {description}'))
    assert built.truncated == ('dog', 'mug')
    built = vocabulary.build(entries, encoder, 1, ('{label}', 'a photo of the {label}.'))
    assert built.truncated == (f'{long} red', 'mug')
    built = vocabulary.build({'cup': Entry()}, encoder, 1, background=['table', f'{long} {long}'])
    assert built.truncated == (f'{long} {long}',)


def test_no_label_gives_no_vocabulary(encoder: ClipText) -> None:
    with pytest.raises(ValueError, match='at least one label, got none'):
        vocabulary.build({}, encoder, 1)


@pytest.mark.parametrize('value', [np.nan, np.inf, 0])
@pytest.mark.filterwarnings('ignore::RuntimeWarning')
def test_a_tower_that_answers_no_numbers_is_refused(value: float) -> None:
    tower = GivenText({'a mug': np.eye(4)[0], 'a cup': np.full(4, value)})
    with pytest.raises(ValueError, match="answers in numbers, got none for 'a cup'"):
        vocabulary.build(check_labels(['mug', 'cup']), tower, 1, ['a {label}'])
