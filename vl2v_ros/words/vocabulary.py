"""Vocabulary: labels, their descriptions and prototypes, as one frozen value."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
import re
from types import MappingProxyType

import numpy as np
from vl2v_ros.words.cached_text import NoTower
from vl2v_ros.words.encoder import TextEncoder
from vl2v_ros.words.labels import check_templates, Entries, without_article
from vl2v_ros.words.offline import fall_back, PLAIN, Wording
from vl2v_ros.words.vectors.examples import Examples, mixed

MAX_PROMPTS = 50_000  # for all labels together
# Papers A and B: "a photo of a {label}." and "a photo of a {label}. {one sentence}".
TEMPLATE = 'a photo of a {label}. {description}'
NO_PRESENCE = 'no text tower is there for the prompts of presence, which is told by the maps'


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """
    The labels that frames are compared with; replaced as a whole, never changed.

    labels: C names, distinct also when case and spaces are ignored.
    descriptions: the sentences of each label.
    prototypes: (C, D) float32 unit rows; those of labels with examples may be shorter.
    version: number of the vocabulary in its node, from 1.
    truncated: labels and background prompts with a prompt longer than the text tower reads.
    prompts: P prompts: those of the labels, each once per label, then the background.
    prompt_rows: (P, D) float32 unit rows.
    prompt_labels: (P,) int64, the number of each prompt's label, ascending; C and more for the
    background.
    background: K prompts for things that are no label, such as 'an empty table'.
    background_rows: (K, D) float32 unit rows.
    note: which prompts are used because no text tower was available for others; or ''.
    presence: (2, C, D) float32 unit rows of prompts that a label is in an image, and that it is
    not; None for a student without such prompts, or where no text tower is there to read them.
    examples: (N, D) float32 unit rows of each label that was taught by showing.
    """

    labels: tuple[str, ...]
    descriptions: tuple[tuple[str, ...], ...]
    prototypes: np.ndarray
    version: int
    truncated: tuple[str, ...]
    prompts: tuple[str, ...]
    prompt_rows: np.ndarray
    prompt_labels: np.ndarray
    background: tuple[str, ...]
    background_rows: np.ndarray
    note: str = ''
    presence: np.ndarray | None = None
    examples: Mapping[str, np.ndarray] = field(default_factory=dict)


def build(entries: Entries, encoder: TextEncoder, version: int,
          templates: Sequence[str] = (TEMPLATE,), background: Sequence[str] = (),
          presence: Sequence[str] = (),
          examples: Mapping[str, Examples] = MappingProxyType({}), scale: float = 1.0
          ) -> Vocabulary:
    """
    Encode labels with their descriptions into a vocabulary.

    A wording of a label is one of its names with one of its descriptions. The embeddings of a
    wording are averaged over the templates and normalised, as in open_clip; the mean of a label's
    wordings, normalised, is its prototype. If the recording beside the checkpoint has a wording
    for some of the templates, only these are used: the others would need the text tower.

    :param entries: as `check_entries` returns them.
    :param templates: see `prompt`.
    :param background: background prompts, encoded as they are.
    :param presence: see StudentSpec.
    :param examples: of labels among the entries; such a label needs no prompt that is known.
    :param scale: of the examples, see `scale_of`.
    :raises ValueError: for no label, too many prompts, a template without {label}, labels without
        a known prompt while no text tower is available, or if the tower cannot be loaded or
        answers with what is no number.
    """
    if not entries:
        raise ValueError('expected at least one label, got none')
    templates = check_templates(templates)
    wordings = [Wording(number, name, tuple(prompt(template, name, description)
                                            for template in templates))
                for number, (label, entry) in enumerate(entries.items())
                for name, description in product((label, *entry.synonyms),
                                                 entry.descriptions or ('',))]
    if len(wordings) * len(templates) > MAX_PROMPTS:
        raise ValueError(f'expected at most {MAX_PROMPTS} prompts, got {len(templates)} templates '
                         f'for {len(wordings)} wordings of {len(entries)} labels; leave some out')
    wordings, note = _recorded(wordings, encoder), ''
    try:
        prompts, numbers, uses = _lay_out(wordings, background, len(entries))
        embeddings = encoder.encode(prompts)
    except NoTower as error:
        def plain(name: str) -> list[str]:
            return [prompt(template, name) for template in (*templates, *PLAIN)]
        wordings, note = fall_back(wordings, tuple(entries), background, plain, error, examples)
        prompts, numbers, uses = _lay_out(wordings, background, len(entries))
        embeddings = encoder.encode(prompts)
    rows, labels = _unit(embeddings.rows), np.array(numbers, np.int64)  # (P, D), (P,)
    prototypes = mixed(_of_labels(wordings, rows[uses], len(entries)), entries, examples, scale)
    if not np.isfinite(prototypes).all() or not np.isfinite(rows).all():
        bad = prompts[int(np.argmin(np.isfinite(rows).all(1)))]
        raise ValueError(f'expected a text tower that answers in numbers, got none for {bad!r:.80}'
                         '; its weights are damaged: take others')
    for array in (rows, labels, prototypes):
        array.flags.writeable = False
    pairs = _presence(entries, encoder, presence)
    note = '; '.join(filter(None, [note, NO_PRESENCE if presence and pairs is None else '']))
    names = (*entries, *background)
    return Vocabulary(
        tuple(entries), tuple(entry.descriptions for entry in entries.values()), prototypes,
        version, tuple(dict.fromkeys(names[number] for number in labels[embeddings.truncated])),
        prompts, rows, labels, tuple(background), rows[len(rows) - len(background):], note, pairs,
        {label: one.rows for label, one in examples.items()})


def _presence(entries: Entries, encoder: TextEncoder, templates: Sequence[str]
              ) -> np.ndarray | None:
    """Return the prototypes of all labels by one template and by another, if there are two."""
    if not templates:
        return None
    try:
        pair = [build(entries, encoder, 0, (template,)) for template in templates]
    except ValueError:  # the labels are known, but neither these prompts nor a tower for them
        return None
    # In other words than its own, what is present and what is absent would be the same.
    return None if any(one.note for one in pair) else np.stack([one.prototypes for one in pair])


def _recorded(wordings: Sequence[Wording], encoder: TextEncoder) -> list[Wording]:
    """Reduce each wording to its recorded prompts, if it has any: they need no text tower."""
    recorded = getattr(encoder, 'recorded', None)  # CachedText has it, and training's
    if recorded is None:
        return list(wordings)
    known = recorded([text for wording in wordings for text in wording.prompts])
    return [wording._replace(prompts=tuple(text for text in wording.prompts if text in known)
                             or wording.prompts) for wording in wordings]


def _lay_out(wordings: Sequence[Wording], background: Sequence[str], labels: int
             ) -> tuple[tuple[str, ...], tuple[int, ...], list[int]]:
    """Return all prompts, their labels' numbers, and the place of each prompt of each wording."""
    # Several wordings may share a prompt, as a template need not contain the description.
    places: dict[tuple[int, str], int] = {}  # (number of the label, prompt) -> place
    uses = [places.setdefault((wording.label, text), len(places))
            for wording in wordings for text in wording.prompts]
    numbers = [number for number, _ in places] + [
        labels + place for place in range(len(background))]
    prompts = [text for _, text in places] + list(background)
    return tuple(prompts), tuple(numbers), uses


def _of_labels(wordings: Sequence[Wording], rows: np.ndarray, labels: int) -> np.ndarray:
    """Return (C, D) prototypes of the words; zeros for labels without a wording."""
    texts = np.zeros((labels, rows.shape[1]), np.float32)
    if wordings:
        starts = np.cumsum([0, *(len(wording.prompts) for wording in wordings)])[:-1]
        of_wordings = _unit(np.add.reduceat(rows, starts))  # the mean's direction
        there, first = np.unique([wording.label for wording in wordings], return_index=True)
        texts[there] = _unit(np.add.reduceat(of_wordings, first))
    return texts


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def prompt(template: str, label: str, description: str = '') -> str:
    """
    Return the prompt of a label, which may have an article: 'a red mug' is read as 'red mug' is.

    :param template: contains {label}, and may contain {description} and {a} for 'a' or 'an'; a
        part in [brackets] is left out if there is no description.
    """
    name = without_article(label)
    words = {'{label}': name, '{description}': description,
             '{a}': 'an' if name[:1].casefold() in set('aeiou') else 'a'}
    template = re.sub(r'\[(.*?)\]', r'\1' if description else '', template)
    # In one pass, so that braces inside a label or a description stay what they are.
    return re.sub(r'\{(label|description|a)\}', lambda found: words[found[0]], template).strip()
