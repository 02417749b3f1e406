"""Labels and descriptions: what is kept, folded, refused, added and removed."""

import pytest
from support.entries import BARKS, HOT, numbered
from vl2v_ros.words.labels import (
    add,
    check_entries,
    check_labels,
    Entry,
    MAX_DESCRIPTION_LENGTH,
    MAX_LABEL_LENGTH,
    MAX_LABELS,
    MAX_TEXTS,
    remove,
)


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
