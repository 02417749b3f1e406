"""Labels from users: checked, changed, read from files, encoded."""
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from tiny_models import WIDTH, write_tower
from vl2v_ros import vocabulary
from vl2v_ros.text import CachedText, ClipText
from vl2v_ros.vocabulary import MAX_DESCRIPTION_LENGTH, MAX_LABEL_LENGTH, MAX_LABELS, TEMPLATE


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
    assert vocabulary.check(labels) == dict.fromkeys(labels, '')


def test_spaces_are_folded_in_labels_and_descriptions() -> None:
    labels = ['  coffee   cup ', 'dog\u00a0\u3000bowl']
    entries = vocabulary.check(labels, [' It  is  hot. ', '  '])
    assert entries == {'coffee cup': 'It is hot.', 'dog bowl': ''}


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
        vocabulary.check(labels)


@pytest.mark.parametrize('character', [
    '\n', '\r', '\t', '\0', '\x1b', '\x7f', '\x85', '\u2028', '\u2029'], ids=ascii)
def test_control_characters_are_refused_wherever_they_stand(character: str) -> None:
    for text in (f'red{character}cup', f'cup{character}', f'{character}cup', character):
        with pytest.raises(ValueError, match='label 2: expected one line without control'):
            vocabulary.check(['dog', text])
        with pytest.raises(ValueError, match='label 1, description: expected one line'):
            vocabulary.check(['dog'], [text])


def test_the_limits_themselves_are_allowed() -> None:
    labels = numbered(MAX_LABELS - 1) + ['x' * MAX_LABEL_LENGTH]
    descriptions = [''] * (MAX_LABELS - 1) + ['y' * MAX_DESCRIPTION_LENGTH]
    assert vocabulary.check(labels, descriptions) == dict(zip(labels, descriptions))
    descriptions[-1] += 'y'
    with pytest.raises(ValueError, match=f'label {MAX_LABELS}, description: .*got 2001'):
        vocabulary.check(labels, descriptions)


@pytest.mark.parametrize('descriptions', [['It is hot.'], ['a', 'b', 'c']])
def test_descriptions_of_another_number_are_refused(descriptions: list[str]) -> None:
    with pytest.raises(ValueError, match=rf'one per label \(2\), got {len(descriptions)}'):
        vocabulary.check(['cup', 'dog'], descriptions)


IN_FORCE = {'cup': 'It is hot.', 'dog': '', 'spoon': ''}


@pytest.mark.parametrize(('more', 'expected'), [
    ({}, IN_FORCE),
    ({'fork': 'It has tines.'}, {**IN_FORCE, 'fork': 'It has tines.'}),
    ({'dog': 'It barks.'}, {'cup': 'It is hot.', 'dog': 'It barks.', 'spoon': ''}),
    ({'DOG': 'It barks.'}, {'cup': 'It is hot.', 'dog': 'It barks.', 'spoon': ''}),
    ({'Cup': 'It is cold.'}, {'cup': 'It is cold.', 'dog': '', 'spoon': ''}),
    ({'cup': ''}, IN_FORCE)])
def test_added_labels_go_to_the_end_and_known_ones_keep_their_place(
        more: dict[str, str], expected: dict[str, str]) -> None:
    before = dict(IN_FORCE)
    assert list(vocabulary.add(before, more).items()) == list(expected.items())
    assert before == IN_FORCE


def test_adding_beyond_the_limit_is_refused() -> None:
    entries = dict.fromkeys(numbered(MAX_LABELS), '')
    assert vocabulary.add(entries, {'label 0': 'It is the first.'})['label 0']
    with pytest.raises(ValueError, match=f'at most {MAX_LABELS}'):
        vocabulary.add(entries, {'cup': ''})


@pytest.mark.parametrize(('labels', 'left'), [
    ([], ['cup', 'dog', 'spoon']), (['dog'], ['cup', 'spoon']), (['spoon', 'cup'], ['dog']),
    ([' DOG '], ['cup', 'spoon']), (['dog', 'dog'], ['cup', 'spoon'])])
def test_removed_labels_are_gone_and_the_others_keep_their_order(
        labels: list[str], left: list[str]) -> None:
    before = dict(IN_FORCE)
    assert list(vocabulary.remove(before, labels).items()) == [(x, IN_FORCE[x]) for x in left]
    assert before == IN_FORCE


@pytest.mark.parametrize(('labels', 'message'), [
    (['dog', 'fork'], "in force, got 'fork'; nothing was removed"),
    ([''], "in force, got ''"),
    (['cup', 'dog', 'spoon'], 'at least one label to stay; use REPLACE')])
def test_removing_what_is_not_there_or_all_is_refused(labels: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vocabulary.remove(IN_FORCE, labels)


def test_a_removed_label_cannot_be_removed_again() -> None:
    with pytest.raises(ValueError, match="got 'dog'"):
        vocabulary.remove(vocabulary.remove(IN_FORCE, ['dog']), ['dog'])


@pytest.mark.parametrize(('text', 'expected'), [
    ('cup', ['cup']), ('coffee cup, dog ,spoon', ['coffee cup', 'dog', 'spoon']),
    ('cup,,dog, ', ['cup', 'dog']), ('yes,12,null', ['yes', '12', 'null']), ('', []), (' , ', [])])
def test_labels_are_read_from_a_list_with_commas(text: str, expected: list[str]) -> None:
    assert vocabulary.parse(text) == dict.fromkeys(expected, '')


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], str]:
    def write(content: str, name: str = 'vocabulary.yaml') -> str:
        (tmp_path / name).write_text(content, encoding='utf-8')
        return str(tmp_path / name)
    return write


PLAIN = ['yes', 'no', '12', '1.5', 'null', '~', 'on', '0x1F', '2024-01-01', '1_000', 'true']


@pytest.mark.parametrize(('content', 'expected'), [
    ('labels: [cup, coffee  mug]', {'cup': '', 'coffee mug': ''}),
    ('# kitchen\nother: 3\nlabels:\n- cup\n- "dog: big"\n', {'cup': '', 'dog: big': ''}),
    ('labels:\n  cup: It is hot.\n  dog:\n  杯子: ""\n',
     {'cup': 'It is hot.', 'dog': '', '杯子': ''}),
    ('\ufefflabels: [cup]', {'cup': ''}),
    ('labels: [' + ', '.join(PLAIN) + ']', dict.fromkeys(PLAIN, '')),
    ('labels:\n' + ''.join(f'  {word}: {word}\n' for word in PLAIN), dict(zip(PLAIN, PLAIN)))])
def test_yaml_is_read_and_all_of_it_stays_text(
        write: Callable[[str], str], content: str, expected: dict[str, str]) -> None:
    assert list(vocabulary.parse(write(content)).items()) == list(expected.items())


def test_yml_is_yaml_too(write: Callable[[str, str], str]) -> None:
    assert vocabulary.parse(write('labels: [cup]', 'short.yml')) == {'cup': ''}


@pytest.mark.parametrize(('content', 'message'), [
    ('labels:\n- cup\n\n# more\n- ""\n- dog', 'line 5: expected a name'),
    ('labels:\n- cup\n- dog\n- Cup', "line 4: 'Cup' repeats 'cup'"),
    ('labels:\n  cup: a\n  dog: b\n  cup: c\n', "line 4: 'cup' repeats 'cup'"),
    ('labels:\n  cup: a\n  dog: "b\\nc"\n', 'line 3, description: expected one line'),
    (f'labels:\n  cup: a\n  dog: {"b" * 2001}\n', 'line 3, description: expected at most'),
    ('labels:\n- cup\n- [dog]', 'line 3: expected a label, or a label and one description'),
    ('labels:\n  cup:\n    dog: c\n', 'line 2: expected a label, or'),
    ('labels:\n  cup: [a, b]\n', 'line 2: expected a label, or'),
    ('labels:\n\t- cup', r"not a YAML file: .*\nfound character '\\t'.*\n.* line 2"),
    ('labels: [cup', 'not a YAML file'),
    ('labels: [cup]\n---\nlabels: [dog]', 'not a YAML file'),
    ('', 'expected `labels:`'),
    ('# nothing\n', 'expected `labels:`'),
    ('- cup', 'expected `labels:`'),
    ('cup: It is hot.', 'expected `labels:`'),
    ('labels: cup', 'expected `labels:`')])
def test_bad_yaml_is_refused_with_file_and_line(
        write: Callable[[str], str], content: str, message: str) -> None:
    path = write(content)
    with pytest.raises(ValueError, match=message) as raised:
        vocabulary.parse(path)
    assert str(raised.value).startswith(f'vocabulary {path}')


def test_yaml_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'latin.yaml').write_bytes('labels: [Löffel]'.encode('latin-1'))
    with pytest.raises(ValueError, match=r'latin\.yaml: not a YAML file: .*utf-8'):
        vocabulary.parse(str(tmp_path / 'latin.yaml'))


def test_missing_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf'found none at {tmp_path}/none\.yaml'):
        vocabulary.parse(str(tmp_path / 'none.yaml'))


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'mine.yaml').write_text('labels: [cup]')
    assert vocabulary.parse('~/mine.yaml') == {'cup': ''}


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


@pytest.mark.parametrize(('templates', 'prompts'), [
    ([TEMPLATE], [['a photo of a cup. It is hot.'], ['a photo of a dog.'],
                  ['a photo of a {label}. It has {braces}.']]),
    (['the {label}', 'a {label}.', '{description} {label}'],
     [['the cup', 'a cup.', 'It is hot. cup'], ['the dog', 'a dog.', 'dog'],
      ['the {label}', 'a {label}.', 'It has {braces}. {label}']])])
def test_prototypes_are_the_mean_over_templates(
        encoder: ClipText, templates: list[str], prompts: list[list[str]]) -> None:
    entries = {'cup': 'It is hot.', 'dog': '', '{label}': 'It has {braces}.'}
    built = vocabulary.build(entries, encoder, 7, templates)
    for prototype, of_label in zip(built.prototypes, prompts, strict=True):
        total = sum(encoder.encode([text]).rows[0].astype(float) for text in of_label)
        np.testing.assert_allclose(prototype, total / np.sqrt((total ** 2).sum()), atol=1e-6)
    assert built.labels == tuple(entries) and built.descriptions == tuple(entries.values())
    assert built.version == 7


def test_vocabulary_cannot_be_changed(encoder: ClipText) -> None:
    built = vocabulary.build({'cup': '', 'dog': ''}, encoder, 1)
    with pytest.raises(ValueError, match='read-only'):
        built.prototypes[0, 0] = 0
    with pytest.raises(FrozenInstanceError):
        built.version = 2


def test_5000_labels_get_unit_rows_of_their_own(encoder: ClipText, cache_dir: Path) -> None:
    entries = vocabulary.check(numbered(5000))
    cached = CachedText('tiny', WIDTH, lambda: encoder, cache_dir)
    built = vocabulary.build(entries, cached, 1)
    assert built.prototypes.shape == (5000, WIDTH) and built.prototypes.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(built.prototypes, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(
        built.prototypes[4321], encoder.encode(['a photo of a label 4321.']).rows[0], atol=1e-6)


def test_labels_whose_prompt_was_cut_are_listed(encoder: ClipText) -> None:
    long = ' '.join(['very'] * 72)
    entries = {'cup': '', 'dog': f'It is {long} big.', f'{long} red': ''}
    built = vocabulary.build(entries, encoder, 1, ('{label}', 'the {label}. {description}'))
    assert built.truncated == ('dog',)
    built = vocabulary.build(entries, encoder, 1, ('{label}', 'a photo of the {label}.'))
    assert built.truncated == (f'{long} red',)


def test_no_label_gives_no_vocabulary(encoder: ClipText) -> None:
    with pytest.raises(ValueError, match='at least one label, got none'):
        vocabulary.build({}, encoder, 1)


def test_spellings_of_one_label_in_unicode_are_one_label() -> None:
    with pytest.raises(ValueError, match='repeats'):
        vocabulary.check(['caf\u00e9', 'cafe\u0301'])


@pytest.mark.parametrize('label', ['\u200b', '\u200b \u2060'])
def test_a_label_that_cannot_be_seen_is_blank(label: str) -> None:
    with pytest.raises(ValueError, match='got a blank'):
        vocabulary.check(['mug', label])


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match='control characters'):
        vocabulary.check(['mug\udcff'])


def test_a_folded_description_loses_its_last_newline(tmp_path: Path) -> None:
    path = tmp_path / 'list.YAML'
    path.write_text('labels:\n  mug: >\n    A cup\n    with a handle.\n')
    assert vocabulary.parse(str(path)) == {'mug': 'A cup with a handle.'}


def test_any_spelling_of_a_label_removes_it() -> None:
    entries = vocabulary.check(['caf\u00e9 noir', 'mug'])
    assert vocabulary.remove(entries, ['CAFE\u0301  noir']) == {'mug': ''}
