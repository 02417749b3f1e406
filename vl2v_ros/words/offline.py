"""Without a text tower: which prompts of a vocabulary can be used, and which names are known."""
from collections.abc import Callable, Container, Sequence
from difflib import SequenceMatcher
import re
from typing import NamedTuple

from vl2v_ros.words.cached_text import NoTower

# Templates that are tried for a name if those of the vocabulary are not recorded or cached.
PLAIN = ('a photo of {a} {label}', '{a} {label}')
NEAREST = 3  # number of names that are suggested for an unknown one
SUGGESTED_FOR = 20  # number of unknown names with suggestions
SHOWN = 5  # number of prompts in a message
LIKENESS = 0.6  # smallest likeness of a near name


class Wording(NamedTuple):
    """
    One of a label's names with one of its descriptions.

    label: number of the label.
    prompts: one per template.
    """

    label: int
    name: str
    prompts: tuple[str, ...]


def fall_back(wordings: Sequence[Wording], labels: Sequence[str], background: Sequence[str],
              plain: Callable[[str], Sequence[str]], error: NoTower, shown: Container[str] = ()
              ) -> tuple[list[Wording], str]:
    """
    Reduce a vocabulary to the prompts that are recorded or cached.

    A wording keeps those of its prompts that are recorded or cached; if there are none, it gets
    the first plain prompt of its name that is. A label needs at least one wording.

    :param plain: returns other prompts for a name.
    :param error: why there is no text tower, and the encoder that knows what is cached.
    :param shown: labels that need no wording, as they have examples.
    :return: the wordings, and a sentence that says what was done.
    :raises ValueError: for labels and background prompts that cannot be encoded; it names all of
        them, and the nearest known names.
    """
    prompts = [prompt for wording in wordings for prompt in wording.prompts]
    names = dict.fromkeys(wording.name for wording in wordings)
    kept = error.encoder.kept(list(dict.fromkeys(
        [*prompts, *background, *(prompt for name in names for prompt in plain(name))])))
    used: dict[Wording, None] = {}  # each once, as several descriptions may give one prompt
    for wording in wordings:
        found = tuple(prompt for prompt in wording.prompts if prompt in kept) or tuple(
            [prompt for prompt in plain(wording.name) if prompt in kept][:1])
        if found:
            used[wording._replace(prompts=found)] = None
    there = {wording.label for wording in used}
    missing = [label for number, label in enumerate(labels)
               if number not in there and label not in shown]
    unsaid = [prompt for prompt in background if prompt not in kept]
    if missing or unsaid:
        raise ValueError(_refusal(missing, unsaid, error))
    affected = {wording.label for wording in wordings} & {
        wording.label for wording in set(wordings) ^ set(used)}
    instead = list(dict.fromkeys(prompt for wording in used if wording.label in affected
                                 for prompt in wording.prompts))
    return list(used), (f'{len(affected)} of {len(labels)} labels lack a part of their prompts, '
                        f'because {error.reason}; these prompts are used: '
                        f'{_few(instead) or "none, but examples"}')


def _few(texts: Sequence[str]) -> str:
    rest = f' and {len(texts) - SHOWN} more' if len(texts) > SHOWN else ''
    return ', '.join(map(repr, texts[:SHOWN])) + rest


def _refusal(missing: Sequence[str], background: Sequence[str], error: NoTower) -> str:
    names = error.encoder.names
    said = []
    for number, (what, text) in enumerate([*(('label', label) for label in missing),
                                           *(('background prompt', text) for text in background)]):
        near = nearest(text, names)[:NEAREST] if number < SUGGESTED_FOR else []
        said.append(f'{what} {text!r}' + (f' (known: {", ".join(near)})' if near else ''))
    known = ', or use names that `vl2v_classify --known` lists' if names else ''
    return (f'cannot encode {", ".join(said)}; {error.reason}; '
            f'{error.advice}{known}')


def nearest(word: str, names: Sequence[str]) -> list[str]:
    """
    Return the names that are near a word, the nearest first.

    A name is near if it shares a word (singular or plural), shares the start or the end of a
    word, as 'bookshelf' and 'shelf', or has a similar spelling.
    """
    wanted = _words(word)
    if not wanted:
        return []
    spelled = ' '.join(wanted)
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(spelled)
    likenesses = {}
    for name in names:
        words = _words(name)
        likeness = _shared(wanted, words)
        matcher.set_seq1(' '.join(words))
        if matcher.real_quick_ratio() > LIKENESS and matcher.quick_ratio() > LIKENESS:
            likeness = max(likeness, matcher.ratio())
        if likeness >= LIKENESS:
            likenesses[name] = likeness
    return sorted(likenesses, key=lambda name: (-likenesses[name], len(name), name.casefold()))


def _words(text: str) -> list[str]:
    """Return the words of a text in the singular, roughly; those in brackets are notes."""
    text = re.sub(r'\(.*?\)', ' ', text.casefold())
    return [_singular(word) for word in re.findall(r'[^\W_]+', text)]


def _singular(word: str) -> str:
    for ending, instead in (('ies', 'y'), ('ves', 'f'), ('ches', 'ch'), ('shes', 'sh'),
                            ('sses', 'ss'), ('xes', 'x'), ('oes', 'o'), ('ss', 'ss'), ('s', '')):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            return word.removesuffix(ending) + instead
    return word


def _shared(wanted: Sequence[str], words: Sequence[str]) -> float:
    """Return how much two names have in common, in [0, 1]; their last words count most."""
    if not words:
        return 0.0
    if list(wanted) == list(words):
        return 1.0
    common = len(set(wanted) & set(words)) / max(len(wanted), len(words))
    if wanted[-1] == words[-1]:  # what it is: a coffee mug is a mug
        return 0.75 + 0.2 * common
    if common:
        return 0.6 + 0.2 * common
    long, short = sorted((wanted[-1], words[-1]), key=len, reverse=True)
    return 0.7 if len(short) > 3 and (long.endswith(short) or long.startswith(short)) else 0.0
