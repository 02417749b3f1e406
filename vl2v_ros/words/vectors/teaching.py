"""
Teaching: how a vocabulary's content changes by examples, and what stays when labels change.

A vocabulary has the labels of its words, and those that only examples made. A label that is
removed loses its examples, and so does one that a replaced list lacks.
"""
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from vl2v_ros.words.labels import (
    check_entries,
    check_text,
    Entries,
    folded,
    one_spelling,
    remove,
)
from vl2v_ros.words.vectors.examples import check_weight, Examples, MOST_EXAMPLES
from vl2v_ros.words.vocabulary_file import VocabularyFile


def taught(file: VocabularyFile, label: str, rows: np.ndarray, text_weight: float,
           replace_all: bool = False) -> tuple[VocabularyFile, str]:
    """
    Add examples of a label; one that the vocabulary lacks is added.

    :param rows: (N, D) float32 unit rows, the embeddings of what shows it.
    :param text_weight: in [0, 1], see `Examples`; counts for the earlier examples, too.
    :param replace_all: forget the earlier examples.
    :return: the new content, and the label as it is spelled there.
    :raises ValueError: for an invalid label or weight, no examples, or too many.
    """
    wanted = check_text(label, 'label', 'a name')
    if not len(rows):
        raise ValueError(f'expected at least one example of {wanted!r}, got none')
    spelled = {folded(known): known for known in file.all_entries}
    label = spelled.get(folded(wanted), wanted)
    before = file.examples.get(label)
    if before and not replace_all:
        rows = np.concatenate([before.rows, rows])
    examples = {**file.examples, label: Examples(rows, check_weight(text_weight))}
    total = sum(len(one.rows) for one in examples.values())
    if total > MOST_EXAMPLES:
        raise ValueError(f'expected at most {MOST_EXAMPLES} examples in all, got {total}; forget '
                         'some')
    file = replace(file, examples=examples)
    check_entries(tuple(file.all_entries.items()))  # it may be a synonym, or one too many
    return file, label


def forgotten(file: VocabularyFile, labels: Sequence[str]) -> VocabularyFile:
    """
    Remove the examples of some labels, of all if none are named.

    :raises ValueError: for a label without examples, or if no label would stay.
    """
    known = {folded(label): label for label in file.examples}
    names = {folded(one_spelling(label)): label for label in labels}
    if unknown := names.keys() - known.keys():
        raise ValueError(f'expected labels that were taught, got {names[unknown.pop()]!r:.80}; '
                         'nothing was forgotten')
    gone = {known[name] for name in names} if labels else {*file.examples}
    if not gone:
        raise ValueError('nothing was taught, so there is nothing to forget')
    file = replace(file, examples={label: one for label, one in file.examples.items()
                                   if label not in gone})
    if not file.all_entries:
        raise ValueError('expected at least one label to stay; set other labels first')
    return file


def with_entries(file: VocabularyFile, entries: Entries, listed_only: bool = False
                 ) -> VocabularyFile:
    """
    Replace the labels of words.

    A label that examples made becomes one of words if it is among the entries.

    :param listed_only: drop the examples of labels that are not among the entries.
    """
    spelled = {folded(label): label for label in entries}
    examples = {spelled.get(folded(label), label): one for label, one in file.examples.items()
                if not listed_only or folded(label) in spelled}
    return replace(file, entries=entries, examples=examples)


def without(file: VocabularyFile, labels: Sequence[str]) -> VocabularyFile:
    """Remove labels and their examples; raises ValueError as `remove` does."""
    left = remove(file.all_entries, labels)
    return replace(file, entries={label: entry for label, entry in file.entries.items()
                                  if label in left},
                   examples={label: one for label, one in file.examples.items() if label in left})
