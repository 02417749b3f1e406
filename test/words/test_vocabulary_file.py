"""Vocabulary files: read with everything kept as text, refused with the line, written back."""
from collections.abc import Callable
from pathlib import Path
import random

import pytest
from vl2v_ros.words import vocabulary_file
from vl2v_ros.words.labels import check_entries, check_labels, check_texts, Entry, MAX_LABELS
from vl2v_ros.words.vocabulary_file import dump, parse, VocabularyFile
import yaml


@pytest.fixture(params=['C', 'Python'])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Read and write with one of PyYAML's two parsers, as the other may not be there."""
    if request.param == 'Python':
        monkeypatch.setattr(vocabulary_file, 'LOADER', yaml.BaseLoader)
        monkeypatch.setattr(vocabulary_file, 'DUMPER', yaml.SafeDumper)
    elif not hasattr(yaml, 'CBaseLoader'):
        pytest.skip('this PyYAML was built without libyaml')
    return request.param


@pytest.fixture
def write(tmp_path: Path, parser: str) -> Callable[[str], str]:
    def write(content: str, name: str = 'vocabulary.yaml') -> str:
        (tmp_path / name).write_bytes(content.encode())
        return str(tmp_path / name)
    return write


def plain(*labels: str) -> VocabularyFile:
    return VocabularyFile(check_labels(labels))


@pytest.mark.parametrize(('text', 'expected'), [
    ('cup', ['cup']), ('coffee cup, dog ,spoon', ['coffee cup', 'dog', 'spoon']),
    ('cup,,dog, ', ['cup', 'dog']), ('yes,12,null', ['yes', '12', 'null']), ('', []), (' , ', [])])
def test_labels_are_read_from_a_list_with_commas(text: str, expected: list[str]) -> None:
    assert parse(text) == plain(*expected)


PLAIN = ['yes', 'no', '12', '1.5', 'null', '~', 'on', '0x1F', '2024-01-01', '1_000', 'true']
HOT = Entry(('It is hot.',))


OTHER_THAN_A_LIST = {
    'labels.txt': 'like a file', 'missing.json': 'like a file', 'mug, labels.TXT': 'like a file',
    'runs/student.safetensors': 'like a file', 'config/vocabularies': 'or a folder',
    r'C:\words': 'like a file', '~': 'like a file', 'words.yaml, mug': 'like a file',
    'mug|banana': 'separator', 'mug; banana': 'separator', 'mug\uff0cbanana': 'separator',
    'mug\nbanana': 'separator', '["mug", "banana"]': 'brackets', '{mug: }': 'brackets',
    '"mug", "banana"': 'quotes', "'mug'": 'quotes'}


@pytest.mark.parametrize('text', OTHER_THAN_A_LIST)
def test_what_is_neither_a_list_nor_a_yaml_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"labels separated by commas \('mug, banana'\), or the "
                       rf'path of a \*.yaml file, got .*, which .*{OTHER_THAN_A_LIST[text]}'):
        parse(text)


def test_the_name_of_a_file_here_is_no_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                             ) -> None:
    (tmp_path / 'labels').write_text('mug')
    (tmp_path / 'mug').mkdir()  # photos of it
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="got 'labels', which is a file here"):
        parse('labels')
    assert parse('labels, mug') == plain('labels', 'mug')
    assert parse('mug') == plain('mug')


@pytest.mark.parametrize('label', ['St. Bernard', 'No.5', 'U.S.A', '7.5mm bolt', "baker's choice",
                                   'size 3.5', 'cup (blue)', 'a.m.', 'rock & roll', 'x-ray'])
def test_what_only_resembles_a_path_is_a_label(label: str) -> None:
    assert parse(f'{label}, mug') == plain(label, 'mug')


@pytest.mark.parametrize(('content', 'expected'), [
    ('labels: [cup, coffee  mug]', {'cup': Entry(), 'coffee mug': Entry()}),
    ('# kitchen\nlabels:\n- cup\n- "dog: big"\n', {'cup': Entry(), 'dog: big': Entry()}),
    ('labels:\n  cup: It is hot.\n  dog:\n  杯子: ""\n',
     {'cup': HOT, 'dog': Entry(), '杯子': Entry()}),
    ('labels:\n  cup: [It is hot.]\n  dog:\n  - It barks.\n  - "It: has a tail."\n  spoon: []\n',
     {'cup': HOT, 'dog': Entry(('It barks.', 'It: has a tail.')), 'spoon': Entry()}),
    ('labels:\n  cup:\n    synonyms: [mug, tea  cup]\n    descriptions: It is hot.\n'
     '  dog:\n    synonyms: hound\n  spoon: {}\n',
     {'cup': Entry(('It is hot.',), ('mug', 'tea cup')), 'dog': Entry(synonyms=('hound',)),
      'spoon': Entry()}),
    ('labels:\n  Dose: Eine hohe blaue Dose.\n  罐: 高い青い缶。\n',
     {'Dose': Entry(('Eine hohe blaue Dose.',)), '罐': Entry(('高い青い缶。',))}),
    ('\ufefflabels: [cup]', {'cup': Entry()}),
    ('labels:\r\n- cup\r\n- dog\r\n', {'cup': Entry(), 'dog': Entry()}),
    ('labels:\n  cup: &hot It is hot.\n  tea: *hot\n', {'cup': HOT, 'tea': HOT}),
    ('labels:\n  cup: >\n    It is\n    hot.\n', {'cup': HOT}),
    ('{"labels": {"cup": "It is hot."}}', {'cup': HOT}),
    ('labels: [' + ', '.join(PLAIN) + ']', dict.fromkeys(PLAIN, Entry())),
    ('labels:\n' + ''.join(f'  {word}: {word}\n' for word in PLAIN),
     {word: Entry((word,)) for word in PLAIN}),
    ('labels:\n  cup: [' + ', '.join(PLAIN) + ']', {'cup': Entry(tuple(PLAIN))}),
    ('labels: [!!int 12, !!python/name:os.abort a, cup]',
     dict.fromkeys(['12', 'a', 'cup'], Entry()))])
def test_yaml_is_read_and_all_of_it_stays_text(
        write: Callable[[str], str], content: str, expected: dict[str, Entry]) -> None:
    file = parse(write(content))
    assert list(file.entries.items()) == list(expected.items())
    assert file == VocabularyFile(expected)


@pytest.mark.parametrize(('content', 'templates', 'background'), [
    ('template: "the {label}"', ('the {label}',), ()),
    ('templates: "the {label}"', ('the {label}',), ()),
    ('template:\n- "{label}"\n- a  {label}. {description}',
     ('{label}', 'a {label}. {description}'), ()),
    ('background: an  empty table', (), ('an empty table',)),
    ('background: [an empty table, no]', (), ('an empty table', 'no')),
    ('background:', (), ()),
    ('background: []\ntemplates: ["{label}"]', ('{label}',), ())])
def test_templates_and_background_are_read(
        write: Callable[[str], str], content: str, templates: tuple[str, ...],
        background: tuple[str, ...]) -> None:
    expected = VocabularyFile(check_labels(['cup']), templates, background)
    assert parse(write(f'labels: [cup]\n{content}')) == expected
    assert parse(write(f'{content}\nlabels: [cup]')) == expected


def test_yml_is_yaml_too(write: Callable[[str, str], str]) -> None:
    assert parse(write('labels: [cup]', 'short.yml')) == plain('cup')
    assert parse(write('labels: [cup]', 'LONG.YAML')) == plain('cup')


KEYS = 'expected one of labels, template, templates, background, examples, got'


@pytest.mark.parametrize(('content', 'message'), [
    # Labels
    ('labels:\n- cup\n\n# more\n- ""\n- dog', 'line 5: expected a name, got a blank'),
    ('labels:\n- cup\n- dog\n- Cup', "line 4: 'Cup' repeats 'cup'"),
    ('labels:\n  coffee cup: a\n  " Coffee  Cup": b\n', "line 3: 'Coffee Cup' repeats"),
    ('labels:\n  cup: a\n  dog: b\n  cup: c\n', "line 4: 'cup' repeats 'cup'"),
    ('labels:\n- cup\n- [dog]', 'line 3: expected a text, got a list; put the text in quotes'),
    ('labels:\n- cup\n- dog: big', 'line 3: expected a text, got a mapping; put the text in'),
    ('labels:\n  [cup]: a', 'line 2: expected a text, got a list'),
    ('labels:\n  ? {cup: a}\n  : b', 'line 2: expected a text, got a mapping'),
    ('labels:\n- "two\\nlines"', 'line 2: expected one line without control characters'),
    # Descriptions and synonyms
    ('labels:\n  cup: a\n  dog: "b\\nc"\n', 'line 3, description 1: expected one line'),
    (f'labels:\n  cup: a\n  dog: {"b" * 2001}\n', 'line 3, description 1: expected at most 2000'),
    ('labels:\n  cup: a\n  dog: [a, " "]', 'line 3, description 2: expected a sentence, got a bl'),
    ('labels:\n  cup:\n  - [a]\n', 'line 3: expected a text, got a list'),
    ('labels:\n  cup:\n  - It: is hot.\n', 'line 3: expected a text, got a mapping; put the text'),
    ('labels:\n  cup:\n    dog: c\n', "line 3: expected one of descriptions, synonyms, got 'dog'"),
    ('labels:\n  cup:\n    synonyms: {a: b}\n', 'line 3: expected a text, got a mapping'),
    ('labels:\n  cup:\n    synonyms: a\n    synonyms: b\n',
     'line 4: expected each key once, got synonyms twice'),
    ('labels:\n  cup:\n    synonyms: [mug, Mug]',
     "line 2, synonym 2: expected different texts, got 'Mug' twice"),
    ('labels:\n  cup:\n    synonyms: mug\n  mug:', "line 2: the synonym 'mug' is a label too"),
    ('labels: &all\n  cup: *all\n', "line 2: expected one of descriptions, synonyms, got 'cup'"),
    # The rest
    ('labels: [cup]\nlabel: [dog]', f"line 2: {KEYS} 'label'"),
    ('# ROS parameters\n/**:\n  ros__parameters: {}', rf"line 2: {KEYS} '/\*\*'"),
    ('labels: [cup]\nlabels: [dog]', 'line 2: expected each key once, got labels twice'),
    ('template: "{label}"\nlabels: [cup]\ntemplates: "{label}"', 'line 3: .* template or templat'),
    ('labels: [cup]\ntemplates: a photo', 'line 2, template 1: expected the place {label} .* got'),
    ('labels: [cup]\ntemplates:', 'line 2, template: expected at least one, got none'),
    ('labels: [cup]\ntemplates: {label: a}', 'line 2: expected a text, got a mapping'),
    ('labels: [cup]\ntemplates:\n- {label}', 'line 3: expected a text, got a mapping; put the te'),
    ('labels: [cup]\nbackground: [table, TABLE]',
     "line 2, background prompt 2: expected different texts, got 'TABLE' twice"),
    ('labels: [cup]\nbackground: [""]', 'line 2, background prompt 1: expected a sentence, got a'),
    ('', 'expected `labels:` .*, got an empty file'),
    ('# nothing\n', 'expected `labels:` .*, got an empty file'),
    ('- cup', 'line 1: expected `labels:` .*, got a list'),
    ('\ncup', "line 2: expected `labels:` .*, got the text 'cup'"),
    ('cup: It is hot.', f"line 1: {KEYS} 'cup'"),
    ('background: a table', 'line 1: expected `labels:` .*, got a mapping'),
    ('labels: cup', "line 1: expected `labels:` with a list .*, got the text 'cup'"),
    ('\nlabels:', 'line 2: expected `labels:` with a list .*, got nothing'),
    # Not YAML
    ('labels:\n\t- cup', 'line 2: not YAML: found character .*; indent with spaces, not tabs'),
    ('labels:\n  cup: a\n\tdog: b', 'line 3: not YAML: .*; indent with spaces, not tabs'),
    ('labels: [cup', 'line [12]: not YAML: .*expected'),
    ('labels:\n  cup: It is: hot.', 'line 2: not YAML: mapping values are not allowed'),
    ('labels:\n  cup: "It is hot.\n', 'line [23]: not YAML: found unexpected end of stream'),
    ('labels: [cup]\n---\nlabels: [dog]', 'line 2: not YAML: but found another document'),
    ('labels: [cup, *mug]', 'line 1: not YAML: found undefined alias'),
    ('labels:\n- Löffel\n- cup\x1b', r"line 3: not YAML: it holds the control character '\\x1b'"),
    ('labels:\n- cup\0', r"line 2: not YAML: it holds the control character '\\x00'"),
    ('labels: ' + '[\n' * 200_000, 'line 4: expected a nesting of at most 4 levels')])
def test_bad_yaml_is_refused_with_file_and_line(
        write: Callable[[str], str], content: str, message: str) -> None:
    path = write(content)
    with pytest.raises(ValueError, match=message) as raised:
        parse(path)
    assert str(raised.value).startswith(f'vocabulary {path}: ')
    assert '\n' not in str(raised.value)


def test_20000_labels_are_refused_by_the_stated_limit(tmp_path: Path) -> None:
    path = tmp_path / 'many.yaml'
    path.write_text('labels:\n' + ''.join(f'- label {number}\n' for number in range(20_000)))
    with pytest.raises(ValueError, match=f'many.yaml: line {MAX_LABELS + 2}: expected at most '
                                         f'{MAX_LABELS} labels, got 20000; split the list'):
        parse(str(path))


def test_yaml_in_another_encoding_is_refused(tmp_path: Path, parser: str) -> None:
    (tmp_path / 'latin.yaml').write_bytes('labels:\n- cup\n- Löffel'.encode('latin-1'))
    with pytest.raises(ValueError, match=r'latin\.yaml: line 3: expected UTF-8, got invalid'):
        parse(str(tmp_path / 'latin.yaml'))


@pytest.mark.parametrize('content', ['labels:\n- mug', '{labels: [mug]}'])
def test_a_byte_order_mark_is_no_part_of_a_file(write: Callable[[str], str], parser: str,
                                                content: str) -> None:
    assert parse(write('\ufeff' + content)) == plain('mug')


def test_missing_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf'found none at {tmp_path}/none\.yaml'):
        parse(str(tmp_path / 'none.yaml'))
    with pytest.raises(ValueError, match='found none at'):
        (tmp_path / 'folder.yaml').mkdir()
        parse(str(tmp_path / 'folder.yaml'))


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'mine.yaml').write_text('labels: [cup]')
    assert parse('~/mine.yaml') == plain('cup')


# Writing

@pytest.mark.parametrize(('file', 'expected'), [
    (plain('cup', 'yes'), "labels:\n- cup\n- 'yes'\n"),
    (VocabularyFile({'cup': HOT, 'dog': Entry()}), "labels:\n  cup: It is hot.\n  dog: ''\n"),
    (VocabularyFile({'Löffel': Entry(('a', 'b'))}, ('the {label}',), ('a table',)),
     'labels:\n  Löffel:\n  - a\n  - b\ntemplates:\n- the {label}\nbackground:\n- a table\n'),
    (VocabularyFile({'cup': Entry(synonyms=('mug',))}),
     'labels:\n  cup:\n    descriptions: []\n    synonyms:\n    - mug\n')])
def test_what_is_written_can_be_read_by_people(file: VocabularyFile, expected: str) -> None:
    assert dump(file) == expected


HARD = [*PLAIN, '', '=', '<<', '- a', '? b', 'a: b', 'a #b', '#a', '[a', '{a}', '&a', '*a', '!a',
        '|', '>', '%a', '@a', '`a', '"a"', "'a'", 'a\\nb', '👩‍🚒', '\u200bx', '\ufeffx', 'x\ufeff',
        '\U0001f600' * 40, 'e\u0301', 'a' * 200, 'word ' * 30 + 'end', '---',
        '...', '--- a', ':', '~']


@pytest.mark.usefixtures('parser')
def test_whatever_is_written_is_read_as_the_same_value(write: Callable[[str], str]) -> None:
    rng = random.Random(0)

    def texts(longest: int, most: int) -> tuple[str, ...]:
        found = {}
        for _ in range(rng.randint(0, most)):
            text = rng.choice(HARD)[:longest] if rng.random() < 0.5 else ''.join(
                chr(rng.choice((rng.randint(0x20, 0x7e), rng.randint(0xa0, 0xffff),
                                rng.randint(0x10000, 0x10ffff)))) for _ in range(9))
            try:
                [text] = check_texts([text], 'text', 'a name')
            except ValueError:
                continue
            found[text.casefold()] = text
        return tuple(found.values())

    seen = 0
    for _ in range(60):
        labels = texts(200, 12)
        names = {label.casefold() for label in labels}
        entries = {label: Entry(texts(2000, rng.choice((0, 1, 3))), tuple(
            synonym for synonym in texts(200, rng.choice((0, 0, 2)))
            if synonym.casefold() not in names)) for label in labels}
        templates = tuple(f'{text} {{label}}' for text in texts(99, 2) if not {*text} & {*'{}'})
        file = VocabularyFile(check_entries(tuple(entries.items())),
                              templates, texts(2000, 2))
        read = parse(write(dump(file)))
        assert read == file and list(read.entries) == list(file.entries)
        seen += len(labels)
    assert seen > 200


def test_10000_labels_are_written_and_read(write: Callable[[str], str], parser: str) -> None:
    if parser == 'Python':
        pytest.skip('takes long, and is the same code')
    file = VocabularyFile({f'label {number}': Entry((f'It is number {number}.',))
                           for number in range(MAX_LABELS)})
    assert parse(write(dump(file))) == file
