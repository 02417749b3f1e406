"""Vocabulary files: YAML with labels, descriptions, synonyms, templates and background prompts."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
import os
from pathlib import Path
import re
from typing import Any

from vl2v_ros.files import replacing
from vl2v_ros.words.labels import (
    check_entries,
    check_labels,
    check_templates,
    check_texts,
    Entries,
    Entry,
)
from vl2v_ros.words.vectors import examples_file
from vl2v_ros.words.vectors.examples import Examples
from vl2v_ros.words.vectors.origin import Origin
import yaml

KEYS = ('labels', 'template', 'templates', 'background', 'examples')
ENTRY_KEYS = ('descriptions', 'synonyms')
# What is listed between commas may be meant as something else.
LIKE_A_PATH = re.compile(r'[/\\]|^~|\S\.([a-z][a-z0-9]{1,11}|[A-Z][A-Z0-9]{1,11})$')
LIKE_A_LIST = re.compile(r'[;|\n\t\uff0c\u3001\uff1b\u061b\u060c]|^[\[{]|[\]}]$|^(["\']).*\1$')
DEPTH = 4  # {labels: {label: {descriptions: []}}}
# Most builds of PyYAML have loaders in C: 0.1 s instead of 10 s for 10,000 labels.
LOADER = getattr(yaml, 'CBaseLoader', yaml.BaseLoader)
DUMPER = getattr(yaml, 'CSafeDumper', yaml.SafeDumper)


@dataclass(frozen=True)
class VocabularyFile:
    """
    The content of a vocabulary file.

    entries: the labels of words.
    templates: empty for those of the student, see spec.StudentSpec.
    examples_path: the file of the examples, which `read_examples` reads.
    examples: what labels were taught by; a label that is not among the entries has only these.
    """

    entries: Entries
    templates: tuple[str, ...] = ()
    background: tuple[str, ...] = ()
    examples_path: Path | None = None
    examples: Mapping[str, Examples] = field(default_factory=dict)

    @property
    def all_entries(self) -> Entries:
        """All labels: those of words, then those that only examples made."""
        more = {label: Entry() for label in self.examples if label not in self.entries}
        return {**self.entries, **more}

    def read_examples(self, origin: Origin) -> 'VocabularyFile':
        """
        Return this content with the examples in its file, if it names one.

        :param origin: where they have to come from.
        :raises ValueError: for a file that is missing, damaged or of another origin.
        """
        if self.examples_path is None:
            return self
        return replace(self, examples=examples_file.read(self.examples_path, origin))


def parse(text: str) -> VocabularyFile:
    """
    Read a vocabulary: the path of a YAML file, or labels separated by commas.

    A YAML file has `labels`: a list of labels, or a mapping of each label to a sentence, a list
    of sentences, or a mapping with `descriptions` and `synonyms`. It may have `template` (or
    `templates`), `background`, and `examples`, the name of a file in its folder, which is not read
    here. One text is accepted as a list of one. All values are texts, so that `yes`, `no` and `12`
    can be labels. What is listed between commas must not look like a path, or like a list of
    another kind: one label made of it would make everything unknown.

    :raises ValueError: with file and line, if the line is known.
    """
    text = text.strip()
    if not text.lower().endswith(('.yaml', '.yml')):
        return VocabularyFile(check_labels(_listed(text)))
    path = Path(text).expanduser()
    if not path.is_file():
        raise ValueError(f'vocabulary: expected a file, found none at {path}; correct the path')
    try:
        return _read(_compose(path.read_bytes()), path.parent)
    except (OSError, ValueError) as error:
        raise ValueError(f'vocabulary {path}: {error}') from error


def _listed(text: str) -> list[str]:
    """Split labels at commas; raises ValueError for a path, or for a list of another kind."""
    labels = [label for label in map(str.strip, text.split(',')) if label]
    for label in labels:
        if os.path.isfile(text):
            why = 'is a file here, but no *.yaml'
        elif LIKE_A_PATH.search(label):
            why = 'is named like a file or a folder'
        elif LIKE_A_LIST.search(label):
            why = 'holds a separator, quotes or brackets'
        else:
            continue
        raise ValueError("vocabulary: expected labels separated by commas ('mug, banana'), or the "
                         f'path of a *.yaml file, got {label!r:.80}, which {why}; a label that is '
                         'spelled like this can stand in a *.yaml file')
    return labels


def save(file: VocabularyFile, path: Path, origin: Origin) -> None:
    """
    Write a vocabulary file, and what it was taught by beside it.

    The examples have a file with a name of its own for each content. It is there before the new
    YAML names it, and goes when no YAML does: so both fit together whenever a process is killed.

    :param origin: where the examples come from.
    :raises OSError: if a file cannot be written; the vocabulary file is then unchanged.
    """
    vectors = None
    if file.examples:
        content = examples_file.to_bytes(file.examples, origin)
        vectors = examples_file.name_for(path, content)
        if not vectors.is_file():
            with replacing(vectors) as temporary:
                temporary.write_bytes(content)
    with replacing(path) as temporary:
        temporary.write_text(dump(replace(file, examples_path=vectors)), encoding='utf-8')
    examples_file.clear(path, origin, vectors)


def forget(path: Path, origin: Origin) -> None:
    """Remove what `save` wrote; raises OSError."""
    path.unlink(missing_ok=True)
    examples_file.clear(path, origin, None)


def dump(file: VocabularyFile) -> str:
    """Return YAML from which `parse` reads the same value, without the examples."""
    content: dict[str, Any] = {'labels': list(file.entries)}
    if any(entry != Entry() for entry in file.entries.values()):
        content['labels'] = {label: _shortest(entry) for label, entry in file.entries.items()}
    if file.templates:
        content['templates'] = list(file.templates)
    if file.background:
        content['background'] = list(file.background)
    if file.examples_path:
        content['examples'] = file.examples_path.name
    return yaml.dump(content, Dumper=DUMPER, allow_unicode=True, sort_keys=False, width=99)


def _shortest(entry: Entry) -> str | list[str] | dict[str, list[str]]:
    if entry.synonyms:
        return {key: list(getattr(entry, key)) for key in ENTRY_KEYS}
    return ''.join(entry.descriptions) if len(entry.descriptions) < 2 else list(entry.descriptions)


def _compose(content: bytes) -> yaml.Node | None:
    """Return the root node; raises ValueError with the line."""
    try:
        text = content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        line = content[:error.start].count(b'\n') + 1
        raise ValueError(f'line {line}: expected UTF-8, got {error.reason}') from error
    if found := yaml.reader.Reader.NON_PRINTABLE.search(text):
        line = text[:found.start()].count('\n') + 1
        raise ValueError(f'line {line}: not YAML: it holds the control character {found[0]!a}')
    try:
        _check_depth(text)
        return yaml.compose(text, Loader=LOADER)
    except yaml.MarkedYAMLError as error:
        assert error.problem_mark, error
        line = error.problem_mark.line
        tab = any('\t' in row for row in text.split('\n')[line:line + 1])
        hint = '; indent with spaces, not tabs' if tab else ''
        raise ValueError(f'line {line + 1}: not YAML: {error.problem}{hint}') from error


def _check_depth(text: str) -> None:
    """Raise ValueError for a nesting that is too deep for `yaml.compose`, which is recursive."""
    depth = 0
    for event in yaml.parse(text, Loader=LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH:
            assert event.start_mark, event
            raise ValueError(f'line {event.start_mark.line + 1}: expected a nesting of at most '
                             f'{DEPTH} levels, got a deeper one')


def _read(root: yaml.Node | None, folder: Path) -> VocabularyFile:
    nodes = _fields(root, KEYS) if isinstance(root, yaml.MappingNode) else {}
    if 'labels' not in nodes:
        raise ValueError(f'{_at(root) + ": " if root else ""}expected `labels:` with a list of '
                         'labels or a mapping of label to description, got '
                         f'{_kind(root) if root else "an empty file"}')
    if 'template' in nodes and 'templates' in nodes:
        raise ValueError(f'{_at(nodes["templates"])}: expected template or templates, got both')
    options: dict[str, Any] = {}
    if templates := nodes.get('template') or nodes.get('templates'):
        options['templates'] = check_templates(_texts(templates), f'{_at(templates)}, template')
    if background := nodes.get('background'):
        options['background'] = check_texts(
            _texts(background), f'{_at(background)}, background prompt', 'a sentence')
    if examples := nodes.get('examples'):
        name = _text(examples)
        if not name or Path(name).name != name:
            raise ValueError(f'{_at(examples)}: expected examples to name a file in the same '
                             f'folder, got {name!r:.80}')
        options['examples_path'] = folder / name
    return VocabularyFile(_entries(nodes['labels']), **options)


def _entries(node: yaml.Node) -> Entries:
    if isinstance(node, yaml.ScalarNode):
        raise ValueError(f'{_at(node)}: expected `labels:` with a list of labels or a mapping of '
                         f'label to description, got {_kind(node)}')
    described = isinstance(node, yaml.MappingNode)
    names = [item[0] if described else item for item in node.value]
    return check_entries(
        [(_text(name), _entry(item[1]) if described else Entry())
         for name, item in zip(names, node.value, strict=True)],
        lambda number: _at(names[number - 1]))


def _entry(node: yaml.Node) -> Entry:
    if isinstance(node, yaml.MappingNode):
        return Entry(**{key: _texts(value) for key, value in _fields(node, ENTRY_KEYS).items()})
    return Entry(_texts(node))


def _fields(node: yaml.MappingNode, known: Sequence[str]) -> dict[str, yaml.Node]:
    found: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name = _text(key)
        if name not in known:
            raise ValueError(f'{_at(key)}: expected one of {", ".join(known)}, got {name!r:.80}')
        if name in found:
            raise ValueError(f'{_at(key)}: expected each key once, got {name} twice')
        found[name] = value
    return found


def _texts(node: yaml.Node) -> tuple[str, ...]:
    """Return one text, none for a blank one, or a list of them."""
    if isinstance(node, yaml.SequenceNode):
        return tuple(_text(item) for item in node.value)
    return tuple(text for text in [_text(node)] if text.strip(' '))


def _text(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError(f'{_at(node)}: expected a text, got {_kind(node)}; put the text in '
                         'quotes if it holds a colon, a comma or brackets')
    return node.value.rstrip('\n')  # of a text that is folded over several lines


def _at(node: yaml.Node) -> str:
    return f'line {node.start_mark.line + 1}'


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return f'the text {node.value!r:.80}' if node.value else 'nothing'
    return 'a list' if isinstance(node, yaml.SequenceNode) else 'a mapping'
