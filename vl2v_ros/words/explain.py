"""Explain a prediction: how similar an image is to each prompt, so which sentence decided."""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from vl2v_ros.words.vocabulary import Vocabulary


@dataclass(frozen=True)
class Reason:
    """
    One prompt and how well an image matches it.

    label: label of the prompt, '' for a background prompt.
    prompt: the text that was encoded, or 'example 1' and so on.
    similarity: cosine in [-1, 1].
    """

    label: str
    prompt: str
    similarity: float


def reasons(embedding: np.ndarray, vocabulary: Vocabulary, labels: Sequence[str]) -> list[Reason]:
    """
    Compare an image with each prompt of some labels, and with the background prompts.

    :param embedding: (D,) unit vector, from `Classifier.embed`.
    :param labels: labels of the vocabulary, such as those of a prediction.
    :return: the prompts and the examples of each label, in the given order, then the background
        prompts; in each group the most similar one comes first. Examples are much more similar
        than texts, see examples.py.
    :raises ValueError: for a label that the vocabulary lacks.
    """
    order = {label: number for number, label in enumerate(vocabulary.labels)}
    if missing := [label for label in labels if label not in order]:
        raise ValueError(f'expected labels of vocabulary {vocabulary.version}, got '
                         f'{", ".join(missing)}')
    groups = [(label, order[label], order[label] + 1) for label in labels]
    groups.append(('', len(order), len(order) + len(vocabulary.background)))
    similarities = vocabulary.prompt_rows @ embedding  # (P,)
    found = []
    for label, low, high in groups:
        members = np.arange(*np.searchsorted(vocabulary.prompt_labels, (low, high)))
        group = [Reason(label, vocabulary.prompts[number], float(similarities[number]))
                 for number in members]
        group += [Reason(label, f'example {number}', float(row @ embedding)) for number, row
                  in enumerate(vocabulary.examples.get(label, ()), 1)]
        found += sorted(group, key=lambda reason: -reason.similarity)
    return found
