"""Labels from users: checked, changed, encoded."""
from collections.abc import Sequence
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from support.tiny_models import GivenText, WIDTH, write_tower
from vl2v_ros.words import vocabulary
from vl2v_ros.words.cached_text import CachedText
from vl2v_ros.words.clip_text import ClipText
from vl2v_ros.words.labels import (
    add,
    check_entries,
    check_labels,
    check_templates,
    Entry,
    MAX_DESCRIPTION_LENGTH,
    MAX_LABEL_LENGTH,
    MAX_LABELS,
    MAX_TEXTS,
    remove,
)
from vl2v_ros.words.vocabulary import TEMPLATE


@pytest.fixture(scope='module')
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ClipText:
    folder = tmp_path_factory.mktemp('tower')
    return ClipText(write_tower(folder), folder)


def numbered(count: int) -> list[str]:
    return [f'label {number}' for number in range(count)]


@pytest.mark.parametrize('labels', [
    ['Tasse', 'Löffel', 'Straße'], ['杯子', '勺子'], ['чашка'], ['كوب'], ['כוס'], ['कप', 'চামচ'],
    ['☕', '👩‍🚒'], ['C++', '{label}', "user's cup", '# 1', 'yes', '12', '-']])
def test_labels_of_any_script_are_kept_as_they_are(labels: list[str]) -> None:
    assert list(check_labels(labels).items()) == [(label, Entry()) for label in labels]


def test_spaces_are_folded_in_labels_and_descriptions() -> None:
    labels = ['  coffee   cup ', 'dog\u00a0\u3000bowl']
    entries = check_labels(labels, [' It  is  hot. ', '  '])
    assert entries == {'coffee cup': Entry(('It is hot.',)), 'dog bowl': Entry()}


def test_each_line_of_a_description_is_a_sentence() -> None:
    entries = check_labels(['cup', 'dog'], ['It is hot.\n  \n It is  red.\n', '\n'])
    assert entries == {'cup': Entry(('It is hot.', 'It is red.')), 'dog': Entry()}


def test_descriptions_in_any_language_are_accepted(recwarn: pytest.WarningsRecorder) -> None:
    sentences = ['Eine hohe blaue Dose.', '高い青い缶。', 'علبة زرقاء طويلة.']
    assert check_labels(['can'], ['\n'.join(sentences)]) == {'can': Entry(tuple(sentences))}
    assert not recwarn.list


@pytest.mark.parametrize(('labels', 'message'), [
    (['cup', ''], 'label 2: expected a name, got a blank'),
    (['  \u3000'], 'label 1: expected a name, got a blank'),
    (['cup', 'dog', 'CUP'], "label 3: 'CUP' repeats 'cup'"),
    (['coffee cup', ' Coffee   Cup '], "label 2: 'Coffee Cup' repeats 'coffee cup'"),
    (['Straße', 'STRASSE'], "label 2: 'STRASSE' repeats 'Straße'"),
    (['x' * (MAX_LABEL_LENGTH + 1)], f'label 1: .* {MAX_LABEL_LENGTH} characters, got 201'),
    (numbered(MAX_LABELS + 1), f'at most {MAX_LABELS} labels, got {MAX_LABELS + 1}; split')])
def test_labels_that_cannot_be_told_apart_or_read_are_refused(
        labels: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_labels(labels)


@pytest.mark.parametrize('character', [
    '\n', '\r', '\t', '\0', '\x1b', '\x7f', '\x85', '\u2028', '\u2029'], ids=ascii)
def test_control_characters_are_refused_wherever_they_stand(character: str) -> None:
    for text in (f'red{character}cup', f'cup{character}', f'{character}cup', character):
        with pytest.raises(ValueError, match='label 2: expected one line without control'):
            check_labels(['dog', text])
        if character != '\n':  # which separates sentences
            with pytest.raises(ValueError, match='label 1, description 1: expected one line'):
                check_labels(['dog'], [text])


def test_the_limits_themselves_are_allowed() -> None:
    labels = numbered(MAX_LABELS - 1) + ['x' * MAX_LABEL_LENGTH]
    descriptions = [''] * (MAX_LABELS - 1) + ['y' * MAX_DESCRIPTION_LENGTH]
    entries = check_labels(labels, descriptions)
    assert tuple(entries) == tuple(labels) and entries[labels[-1]].descriptions == (
        descriptions[-1],)
    descriptions[-1] += 'y'
    with pytest.raises(ValueError, match=f'label {MAX_LABELS}, description 1: .*got 2001'):
        check_labels(labels, descriptions)


@pytest.mark.parametrize(('entry', 'message'), [
    (Entry(('It is hot.', ' ')), 'label 2, description 2: expected a sentence, got a blank'),
    (Entry(('It is hot.', 'It is HOT.')),
     "label 2, description 2: expected different texts, got 'It is HOT.' twice"),
    (Entry(tuple(numbered(MAX_TEXTS + 1))), 'label 2, description 101: .* at most 100, got 101'),
    (Entry(('two\nlines',)), 'label 2, description 1: expected one line'),
    (Entry(synonyms=('',)), 'label 2, synonym 1: expected a name, got a blank'),
    (Entry(synonyms=('x' * 201,)), 'label 2, synonym 1: expected at most 200 characters, got 201'),
    (Entry(synonyms=('tumbler', 'Tumbler')),
     "label 2, synonym 2: expected different texts, got 'Tumbler' twice"),
    (Entry(synonyms=('Glass ',)), "label 2: the synonym 'Glass' is a label too; leave one"),
    (Entry(synonyms=('tumbler', 'DOG')), "label 2: the synonym 'DOG' is a label too; leave one")])
def test_what_cannot_be_said_of_a_label_is_refused(entry: Entry, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_entries([('dog', Entry()), ('glass', entry)])


def test_two_labels_may_share_descriptions_and_synonyms() -> None:
    entry, names = Entry(('It is  black.',), ('spring  clamp',)), ['large clamp', 'small clamp']
    assert check_entries([(name, entry) for name in names]) == dict.fromkeys(
        names, Entry(('It is black.',), ('spring clamp',)))


@pytest.mark.parametrize('descriptions', [['It is hot.'], ['a', 'b', 'c']])
def test_descriptions_of_another_number_are_refused(descriptions: list[str]) -> None:
    with pytest.raises(ValueError, match=rf'one per label \(2\), got {len(descriptions)}'):
        check_labels(['cup', 'dog'], descriptions)


HOT, BARKS = Entry(('It is hot.',)), Entry(('It barks.', 'It has a tail.'))
IN_FORCE = {'cup': HOT, 'dog': Entry(synonyms=('hound',)), 'spoon': Entry()}


@pytest.mark.parametrize(('more', 'expected'), [
    ({}, IN_FORCE),
    ({'fork': HOT}, {**IN_FORCE, 'fork': HOT}),
    ({'spoon': BARKS}, {**IN_FORCE, 'spoon': BARKS}),
    ({'DOG': BARKS}, {**IN_FORCE, 'dog': Entry(BARKS.descriptions, ('hound',))}),
    ({'Cup': BARKS}, {**IN_FORCE, 'cup': BARKS}),
    ({'cup': Entry(synonyms=('mug',))}, {**IN_FORCE, 'cup': Entry(HOT.descriptions, ('mug',))}),
    ({'cup': Entry()}, IN_FORCE)])
def test_added_labels_go_to_the_end_and_known_ones_keep_their_place(
        more: dict[str, Entry], expected: dict[str, Entry]) -> None:
    before = dict(IN_FORCE)
    assert list(add(before, more).items()) == list(expected.items())
    assert before == IN_FORCE


def test_adding_beyond_the_limit_is_refused() -> None:
    entries = check_labels(numbered(MAX_LABELS))
    assert add(entries, {'label 0': HOT})['label 0'] == HOT
    with pytest.raises(ValueError, match=f'at most {MAX_LABELS}'):
        add(entries, {'cup': Entry()})


def test_adding_what_is_a_synonym_is_refused() -> None:
    with pytest.raises(ValueError, match="label 2: the synonym 'hound' is a label too"):
        add(IN_FORCE, {'Hound': Entry()})


@pytest.mark.parametrize(('labels', 'left'), [
    ([], ['cup', 'dog', 'spoon']), (['dog'], ['cup', 'spoon']), (['spoon', 'cup'], ['dog']),
    ([' DOG '], ['cup', 'spoon']), (['dog', 'dog'], ['cup', 'spoon'])])
def test_removed_labels_are_gone_and_the_others_keep_their_order(
        labels: list[str], left: list[str]) -> None:
    before = dict(IN_FORCE)
    assert list(remove(before, labels).items()) == [(x, IN_FORCE[x]) for x in left]
    assert before == IN_FORCE


@pytest.mark.parametrize(('labels', 'message'), [
    (['dog', 'fork'], "current vocabulary, got 'fork'; nothing was removed"),
    ([''], "current vocabulary, got ''"),
    (['cup', 'dog', 'spoon'], 'at least one label to stay')])
def test_removing_what_is_not_there_or_all_is_refused(labels: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        remove(IN_FORCE, labels)


def test_a_removed_label_cannot_be_removed_again() -> None:
    with pytest.raises(ValueError, match="got 'dog'"):
        remove(remove(IN_FORCE, ['dog']), ['dog'])


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


def test_spellings_of_one_label_in_unicode_are_one_label() -> None:
    with pytest.raises(ValueError, match='repeats'):
        check_labels(['caf\u00e9', 'cafe\u0301'])


@pytest.mark.parametrize('label', ['\u200b', '\u200b \u2060', '\u200d', '\u3164', '\u2800',
                                   '\ufeff', '\u115f\u1160'])
def test_a_label_that_cannot_be_seen_is_blank(label: str) -> None:
    with pytest.raises(ValueError, match='got a blank'):
        check_labels(['mug', label])


@pytest.mark.parametrize(('given', 'label'), [
    ('\ufeffmug', 'mug'), ('mug\u200b', 'mug'), ('cof\u00adfee mug', 'coffee mug'),
    ('mug\u200d', 'mug'), ('\u200e\u0643\u0648\u0628', '\u0643\u0648\u0628'),
    ('coffee\u3164mug', 'coffee mug'), ('👩\u200d🚒', '👩\u200d🚒'),
    ('\u0645\u06cc\u200c\u0632', '\u0645\u06cc\u200c\u0632')])
def test_what_has_no_width_is_no_part_of_a_label(given: str, label: str) -> None:
    entries = check_labels([given])
    assert [*entries] == [label]
    assert [*add(entries, check_labels([label]))] == [label]
    with pytest.raises(ValueError, match='repeats'):
        check_labels([given, label])
    with pytest.raises(ValueError, match='repeats'):
        check_labels([label, label.replace('\u200d', '').replace('\u200c', '')])
    assert [*remove(check_labels([label, 'cup']), [given])] == ['cup']


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match='control characters'):
        check_labels(['mug\udcff'])


def test_any_spelling_of_a_label_removes_it() -> None:
    entries = check_labels(['caf\u00e9 noir', 'mug'])
    assert remove(entries, ['CAFE\u0301  noir']) == {'mug': Entry()}
