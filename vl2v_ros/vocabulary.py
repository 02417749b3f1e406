"""Vocabulary: the labels in force, their descriptions and prototypes, as one frozen value."""
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
import re
import unicodedata

import numpy as np
from vl2v_ros.text import TextEncoder
import yaml

MAX_LABELS = 10_000
MAX_LABEL_LENGTH = 200  # characters; CLIP reads 77 tokens
MAX_DESCRIPTION_LENGTH = 2_000
# Papers A and B: "a photo of a {label}." and "a photo of a {label}. {one sentence}".
TEMPLATE = 'a photo of a {label}. {description}'

_CONTROL = re.compile(r'[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')  # and what no text has


@dataclass(frozen=True)
class Vocabulary:
    """
    What frames are compared with; replaced as a whole, never changed.

    labels: C names, distinct also when case and spaces are ignored.
    descriptions: C sentences, '' where there is none.
    prototypes: (C, D) float32 unit rows.
    version: counts the vocabularies of one node from 1.
    truncated: labels whose prompt was longer than the text tower reads.
    """

    labels: tuple[str, ...]
    descriptions: tuple[str, ...]
    prototypes: np.ndarray
    version: int
    truncated: tuple[str, ...] = ()


def build(entries: Mapping[str, str], encoder: TextEncoder, version: int,
          templates: Sequence[str] = (TEMPLATE,)) -> Vocabulary:
    """
    Encode labels with their descriptions into a vocabulary.

    Several templates are averaged and normalised again, as open_clip does.

    :param entries: label -> description, as `check` returns them.
    :raises ValueError: if there is no label, or the text tower cannot be loaded.
    """
    if not entries:
        raise ValueError('expected at least one label, got none')
    prompts = [prompt(template, label, description)
               for template in templates for label, description in entries.items()]
    embeddings = encoder.encode(prompts)
    rows = embeddings.rows.reshape(len(templates), len(entries), -1).mean(0)  # (C, D)
    prototypes = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    prototypes.flags.writeable = False
    cut = embeddings.truncated.reshape(len(templates), len(entries)).any(0)
    return Vocabulary(
        tuple(entries), tuple(entries.values()), prototypes, version,
        tuple(label for label, was_cut in zip(entries, cut) if was_cut))


def prompt(template: str, label: str, description: str = '') -> str:
    """Return what the text tower is given for a label, of a template such as TEMPLATE."""
    words = {'{label}': label, '{description}': description}
    # In one pass, so that braces inside a label or a description stay what they are.
    return re.sub(r'\{(label|description)\}', lambda found: words[found[0]], template).strip()


def check(labels: Sequence[str], descriptions: Sequence[str] = (),
          where: Callable[[int], str] = 'label {}'.format) -> dict[str, str]:
    """
    Validate labels and descriptions from a user.

    :param descriptions: none at all, or one per label ('' for none).
    :param where: names the place of label number 1, 2, ... in an error.
    :return: label -> description, in order, runs of spaces folded to one.
    :raises ValueError: for blank, repeated, too long or too many labels, control characters such
        as newlines, or another number of descriptions than labels.
    """
    if len(labels) > MAX_LABELS:
        raise ValueError(f'expected at most {MAX_LABELS} labels, got {len(labels)}; '
                         'split the list')
    if descriptions and len(descriptions) != len(labels):
        raise ValueError(f'expected no descriptions or one per label ({len(labels)}), got '
                         f"{len(descriptions)}; use '' where a label has none")
    entries: dict[str, str] = {}
    seen: dict[str, str] = {}
    for number, label in enumerate(labels, 1):
        label = _check_text(label, where(number), MAX_LABEL_LENGTH)
        if not any(unicodedata.category(letter)[0] in 'LNPS' for letter in label):
            raise ValueError(f'{where(number)}: expected a name, got a blank')
        if label.casefold() in seen:
            raise ValueError(f'{where(number)}: {label!r} repeats {seen[label.casefold()]!r}; '
                             'labels must differ in more than case and spaces')
        seen[label.casefold()] = label
        description = descriptions[number - 1] if descriptions else ''
        entries[label] = _check_text(description, f'{where(number)}, description',
                                     MAX_DESCRIPTION_LENGTH)
    return entries


def _check_text(text: str, what: str, longest: int) -> str:
    if _CONTROL.search(text):
        raise ValueError(f'{what}: expected one line without control characters, got {text!r:.80}')
    if len(text) > longest:
        raise ValueError(f'{what}: expected at most {longest} characters, got {len(text)}')
    return _one_spelling(text)


def _one_spelling(text: str) -> str:
    """Return a text in Unicode's composed form, runs of spaces folded to one."""
    return ' '.join(unicodedata.normalize('NFC', text).split())


def add(entries: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """
    Return the entries with more of them, as `check` returned both.

    A label that is there already keeps its place and takes the new description, if there is one.

    :raises ValueError: if they become too many.
    """
    result, present = dict(entries), _by_folded(entries)
    for label, description in more.items():
        label = present.get(label.casefold(), label)
        result[label] = description or result.get(label, '')
    return check(tuple(result), tuple(result.values()))


def remove(entries: Mapping[str, str], labels: Sequence[str]) -> dict[str, str]:
    """
    Return the entries without some.

    :raises ValueError: for a label that is not there, or if none would be left.
    """
    result, present = dict(entries), _by_folded(entries)
    for label in labels:
        folded = _one_spelling(label).casefold()
        if folded not in present:
            raise ValueError(f'expected a label of the vocabulary in force, got {label!r}; '
                             'nothing was removed')
        result.pop(present[folded], None)
    if not result:
        raise ValueError('expected at least one label to stay; use REPLACE to exchange all')
    return result


def _by_folded(entries: Mapping[str, str]) -> dict[str, str]:
    return {label.casefold(): label for label in entries}


def parse(text: str) -> dict[str, str]:
    """
    Read what a user names as vocabulary: a YAML file, or labels separated by commas.

    A YAML file has `labels`: a list of labels, or a mapping of label to description. Everything
    in it stays text, so that `yes`, `no` and `12` can be labels.

    :return: label -> description.
    :raises ValueError: with file and line where it can be told.
    """
    if not text.lower().endswith(('.yaml', '.yml')):
        return check([label for label in text.split(',') if label.strip()])
    path = Path(text).expanduser()
    if not path.is_file():
        raise ValueError(f'vocabulary: expected a file, found none at {path}')
    try:
        root = yaml.compose(path.read_text(encoding='utf-8'), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f'vocabulary {path}: not a YAML file: {error}') from error
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    found = next((value for key, value in pairs if key.value == 'labels'), None)
    if not isinstance(found, (yaml.MappingNode, yaml.SequenceNode)):
        raise ValueError(f'vocabulary {path}: expected `labels:` with a list of labels or a '
                         'mapping of label to description')
    described = isinstance(found, yaml.MappingNode)
    rows = [item if described else (item,) for item in found.value]
    lines = [row[0].start_mark.line + 1 for row in rows]
    for row, line in zip(rows, lines):
        if not all(isinstance(node, yaml.ScalarNode) for node in row):
            raise ValueError(f'vocabulary {path}, line {line}: expected a label, or a label and '
                             'one description')
    return check([row[0].value for row in rows],
                 [row[1].value.strip() for row in rows if described],
                 lambda number: f'vocabulary {path}, line {lines[number - 1]}')
