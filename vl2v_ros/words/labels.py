"""Labels with their descriptions and synonyms: check, add and remove them before encoding."""
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import re
import unicodedata

MAX_LABELS = 10_000
MAX_LABEL_LENGTH = 200  # characters of a label or a synonym; CLIP reads 77 tokens
MAX_DESCRIPTION_LENGTH = 2_000  # characters of a description, template or background prompt
MAX_TEXTS = 100  # number of descriptions or synonyms of a label, templates, background prompts
_LONGEST = {'a name': MAX_LABEL_LENGTH, 'a sentence': MAX_DESCRIPTION_LENGTH}
_JOINERS = '\u200c\u200d'  # no letters, but Persian, Hindi and emoji are spelled with them
_FILLERS = re.compile('[\u115f\u1160\u2800\u3164\uffa0]')  # letters to Unicode, blanks to people
_CONTROL = re.compile(r'[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')  # and what no text has


@dataclass(frozen=True)
class Entry:
    """
    Descriptions and synonyms of one label.

    descriptions: sentences; each makes prompts of its own.
    synonyms: other names of the same thing; each makes prompts like the label.
    """

    descriptions: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()


Entries = Mapping[str, Entry]  # by label, in order


def check_labels(labels: Sequence[str], descriptions: Sequence[str] = ()) -> dict[str, Entry]:
    """
    Validate labels and descriptions from a user.

    :param descriptions: empty, or one text per label: a sentence, several separated by newlines,
        or ''.
    :return: label -> entry, in order; runs of spaces are replaced by one.
    :raises ValueError: as `check_entries` does, or for a wrong number of descriptions.
    """
    if descriptions and len(descriptions) != len(labels):
        raise ValueError(f'expected no descriptions or one per label ({len(labels)}), got '
                         f"{len(descriptions)}; use '' where a label has none")
    lines = [text.split('\n') for text in descriptions] or [[]] * len(labels)
    return check_entries([(label, Entry(tuple(line for line in said if line.strip(' '))))
                          for label, said in zip(labels, lines, strict=True)])


def check_entries(entries: Sequence[tuple[str, Entry]],
                  where: Callable[[int], str] = 'label {}'.format) -> dict[str, Entry]:
    """
    Validate labels with their descriptions and synonyms.

    :param where: returns the place of label number 1, 2, ... for an error.
    :return: label -> entry, in order; runs of spaces are replaced by one, without what has no
        width.
    :raises ValueError: for texts that are blank, repeated, too long, too many or of more than one
        line, and for a synonym that is a label too.
    """
    if len(entries) > MAX_LABELS:
        raise ValueError(f'{where(MAX_LABELS + 1)}: expected at most {MAX_LABELS} labels, got '
                         f'{len(entries)}; split the list')
    checked: dict[str, Entry] = {}
    seen: dict[str, str] = {}
    for number, (label, entry) in enumerate(entries, 1):
        label = check_text(label, where(number), 'a name')
        if folded(label) in seen:
            raise ValueError(f'{where(number)}: {label!r} repeats {seen[folded(label)]!r}; '
                             'labels must differ by more than case and spaces')
        seen[folded(label)] = label
        checked[label] = Entry(
            check_texts(entry.descriptions, f'{where(number)}, description', 'a sentence'),
            check_texts(entry.synonyms, f'{where(number)}, synonym', 'a name'))
    for number, entry in enumerate(checked.values(), 1):
        for synonym in entry.synonyms:
            if folded(synonym) in seen:
                raise ValueError(f'{where(number)}: the synonym {synonym!r} is a label too; leave '
                                 'one of them out')
    return checked


def check_templates(templates: Sequence[str], what: str = 'template') -> tuple[str, ...]:
    """
    Validate templates, see `build`.

    :raises ValueError: as `check_texts` does, for no template, for one without {label}, or with
        a place other than {label}, {description} and {a}.
    """
    if not templates:
        raise ValueError(f'{what}: expected at least one, got none')
    checked = check_texts(templates, what, 'a sentence')
    for number, template in enumerate(checked, 1):
        places = set(re.findall(r'\{\w*\}', template))
        always = re.sub(r'\[.*?\]', '', template)  # the part used without a description, too
        if '{label}' not in always or places - {'{label}', '{description}', '{a}'}:
            raise ValueError(f'{what} {number}: expected the place {{label}} and, if wanted, '
                             f'{{description}} and {{a}}, the first outside of [...], got '
                             f'{template!r:.80}')
    return checked


def check_texts(texts: Sequence[str], what: str, kind: str) -> tuple[str, ...]:
    """
    Validate a list of texts: descriptions, synonyms, templates or background prompts.

    :param what: name of the texts in an error, such as 'background prompt'.
    :param kind: 'a name' or 'a sentence', which may be longer.
    :return: the texts; runs of spaces are replaced by one.
    :raises ValueError: for texts that are blank, repeated, too long, too many or of more than one
        line.
    """
    if len(texts) > MAX_TEXTS:
        raise ValueError(f'{what} {MAX_TEXTS + 1}: expected at most {MAX_TEXTS}, got {len(texts)}')
    checked: dict[str, str] = {}
    for number, text in enumerate(texts, 1):
        text = check_text(text, f'{what} {number}', kind)
        if folded(text) in checked:
            raise ValueError(f'{what} {number}: expected different texts, got {text!r:.80} twice')
        checked[folded(text)] = text
    return tuple(checked.values())


def check_text(text: str, what: str, kind: str) -> str:
    """Validate one text, as `check_texts` does; return it with runs of spaces replaced by one."""
    if _CONTROL.search(text):
        raise ValueError(f'{what}: expected one line without control characters, got {text!r:.80}')
    if len(text) > _LONGEST[kind]:
        raise ValueError(f'{what}: expected at most {_LONGEST[kind]} characters, got {len(text)}')
    text = one_spelling(text)
    if not any(unicodedata.category(letter)[0] in 'LNPS' for letter in text):
        raise ValueError(f'{what}: expected {kind}, got a blank')
    return text


def one_spelling(text: str) -> str:
    """
    Return a text in Unicode's composed form, runs of spaces folded to one.

    What has no width, such as the byte order mark of a file, goes; joiners stay between letters.
    """
    seen = ''.join(letter for letter in _FILLERS.sub(' ', text)
                   if letter in _JOINERS or unicodedata.category(letter) != 'Cf')
    words = (word.strip(_JOINERS) for word in unicodedata.normalize('NFC', seen).split())
    return ' '.join(word for word in words if word)


def folded(text: str) -> str:
    """Return what two texts have in common that look the same but for their case."""
    return re.sub(f'[{_JOINERS}]', '', text.casefold())


def without_article(name: str) -> str:
    """Return the name of a thing without its article."""
    return re.sub(r'^(?:an?|the) (?=.)', '', name.strip())


def add(entries: Entries, more: Entries) -> dict[str, Entry]:
    """
    Add entries to others; both as `check_entries` returns them.

    A label that exists already keeps its place and gets the new descriptions and synonyms, if
    there are any.

    :raises ValueError: for too many labels, or if a synonym would be a label too.
    """
    result, present = dict(entries), _by_folded(entries)
    for label, entry in more.items():
        label = present.get(folded(label), label)
        known = result.get(label, Entry())
        result[label] = Entry(entry.descriptions or known.descriptions,
                              entry.synonyms or known.synonyms)
    return check_entries(tuple(result.items()))


def remove(entries: Entries, labels: Sequence[str]) -> dict[str, Entry]:
    """
    Remove labels.

    :raises ValueError: for a label that does not exist, or if no label would be left.
    """
    result, present = dict(entries), _by_folded(entries)
    for label in labels:
        known = present.get(folded(one_spelling(label)))
        if known is None:
            raise ValueError(f'expected a label of the current vocabulary, got {label!r:.80}; '
                             'nothing was removed')
        result.pop(known, None)
    if not result:
        raise ValueError('expected at least one label to stay, got a request to remove all; use '
                         'REPLACE to exchange all labels')
    return result


def _by_folded(entries: Entries) -> dict[str, str]:
    return {folded(label): label for label in entries}
