"""Vocabulary: the labels in force, their descriptions and prototypes, as one frozen value."""
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
import re

import numpy as np
from vl2v_ros.words.cached_text import NoTower
from vl2v_ros.words.encoder import TextEncoder
from vl2v_ros.words.labels import check_templates, Entries
from vl2v_ros.words.offline import fall_back, PLAIN, Wording

MAX_PROMPTS = 50_000  # of all labels together
# Papers A and B: "a photo of a {label}." and "a photo of a {label}. {one sentence}".
TEMPLATE = 'a photo of a {label}. {description}'


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """
    What frames are compared with; replaced as a whole, never changed.

    labels: C names, distinct also when case and spaces are ignored.
    descriptions: the sentences of each label.
    prototypes: (C, D) float32 unit rows.
    version: counts the vocabularies of one node from 1.
    truncated: labels with a prompt longer than the text tower reads, and such background prompts.
    prompts: P of them: those of the labels, none twice for one label, then the background.
    prompt_rows: (P, D) float32 unit rows.
    prompt_labels: (P,) int64, the number of each prompt's label, ascending; from C on, of the
    background.
    background: K prompts of what is no label, such as 'an empty table'.
    background_rows: (K, D) float32 unit rows.
    note: which prompts are in use instead of others that no text tower was at hand for; or ''.
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


def build(entries: Entries, encoder: TextEncoder, version: int,
          templates: Sequence[str] = (TEMPLATE,), background: Sequence[str] = ()) -> Vocabulary:
    """
    Encode labels with their descriptions into a vocabulary.

    A wording of a label is one of its names with one of its descriptions. Each is averaged over
    the templates and normalised again, as open_clip does; the mean of a label's wordings,
    normalised again, is its prototype. Where a recording beside the checkpoint knows a wording by
    some of the templates, these alone are used: the others would need the text tower.

    :param entries: as `check` returns them.
    :param templates: as `prompt` takes them.
    :param background: prompts, given to the text tower as they are.
    :raises ValueError: for no label, too many prompts, a template without {label}, for labels of
        which no prompt is known while no text tower is at hand, or if that cannot be loaded.
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
        wordings, note = fall_back(wordings, tuple(entries), background, plain, error)
        prompts, numbers, uses = _lay_out(wordings, background, len(entries))
        embeddings = encoder.encode(prompts)
    rows, labels = _unit(embeddings.rows), np.array(numbers, np.int64)  # (P, D), (P,)
    starts = np.cumsum([0, *(len(wording.prompts) for wording in wordings)])[:-1]
    of_wordings = _unit(np.add.reduceat(rows[uses], starts))  # the mean's direction
    first = np.unique([wording.label for wording in wordings], return_index=True)[1]
    prototypes = _unit(np.add.reduceat(of_wordings, first))  # (C, D)
    for array in (rows, labels, prototypes):
        array.flags.writeable = False
    names = (*entries, *background)
    return Vocabulary(
        tuple(entries), tuple(entry.descriptions for entry in entries.values()), prototypes,
        version, tuple(dict.fromkeys(names[number] for number in labels[embeddings.truncated])),
        prompts, rows, labels, tuple(background), rows[len(rows) - len(background):], note)


def _recorded(wordings: Sequence[Wording], encoder: TextEncoder) -> list[Wording]:
    """Keep of a wording those prompts that are recorded, if any is: they need no tower."""
    recorded = getattr(encoder, 'recorded', None)  # CachedText has it, and training's
    if recorded is None:
        return list(wordings)
    known = recorded([text for wording in wordings for text in wording.prompts])
    return [wording._replace(prompts=tuple(text for text in wording.prompts if text in known)
                             or wording.prompts) for wording in wordings]


def _lay_out(wordings: Sequence[Wording], background: Sequence[str], labels: int
             ) -> tuple[tuple[str, ...], tuple[int, ...], list[int]]:
    """Return all prompts, their labels' numbers, and the place of each prompt of each wording."""
    # One prompt may serve several wordings, as a template need not have a place for descriptions.
    places: dict[tuple[int, str], int] = {}
    uses = [places.setdefault((wording.label, text), len(places))
            for wording in wordings for text in wording.prompts]
    numbers, prompts = zip(*places, *enumerate(background, labels), strict=True)
    return prompts, numbers, uses


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def prompt(template: str, label: str, description: str = '') -> str:
    """
    Return what the text tower is given for a label.

    :param template: with the place {label}, {description} where it is wanted, and {a} for 'a' or
        'an'; a part in [brackets] is there only where there is a description.
    """
    words = {'{label}': label, '{description}': description,
             '{a}': 'an' if label[:1].casefold() in set('aeiou') else 'a'}
    template = re.sub(r'\[(.*?)\]', r'\1' if description else '', template)
    # In one pass, so that braces inside a label or a description stay what they are.
    return re.sub(r'\{(label|description|a)\}', lambda found: words[found[0]], template).strip()
