"""
The file that keeps examples, bound to the text tower and the student by their identities.

It is a safetensors file. Its header has, as JSON under 'vl2v_examples', `version`, `space`,
`student` and `labels`: a list of label, number of its examples, and weight of its text. Its one
tensor `rows` holds the embeddings, (N, D) float32, label by label.
"""
from collections.abc import Mapping
from contextlib import suppress
import glob
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open, SafetensorError
from safetensors.numpy import save
from vl2v_ros.files import brief, one_line
from vl2v_ros.words.labels import check_text, folded
from vl2v_ros.words.vectors.examples import check_weight, Examples, MOST_EXAMPLES
from vl2v_ros.words.vectors.origin import Origin, unit_rows

FORMAT = 'vl2v_examples'
VERSION = 1
ENDING = '.examples.safetensors'


def to_bytes(examples: Mapping[str, Examples], origin: Origin) -> bytes:
    """Return the content of a file; the same for the same examples."""
    header = {'version': VERSION, 'space': origin.space, 'student': origin.student,
              'labels': [[label, len(one.rows), one.text_weight]
                         for label, one in examples.items()]}
    rows = np.concatenate([one.rows for one in examples.values()])
    return save({'rows': rows}, {FORMAT: json.dumps(header)})


def name_for(vocabulary: Path, content: bytes) -> Path:
    """Return the path of a file beside a vocabulary file; its name has the content's digest."""
    digest = hashlib.sha256(content).hexdigest()[:16]
    return vocabulary.with_name(f'{vocabulary.stem}.{digest}{ENDING}')


def clear(vocabulary: Path, origin: Origin, kept: Path | None) -> None:
    """Remove the files of a vocabulary that are of this origin, but one."""
    pattern = f'{glob.escape(vocabulary.stem)}.{"[0-9a-f]" * 16}{ENDING}'
    for path in vocabulary.parent.glob(pattern):
        if path != kept:
            with suppress(OSError, ValueError):  # of another student, or gone
                read(path, origin)
                path.unlink()


def read(path: Path, origin: Origin) -> dict[str, Examples]:
    """
    Read examples by label.

    :param origin: what they have to come from.
    :raises ValueError: for a file that is missing, damaged, of another kind or of another origin.
    """
    try:
        with safe_open(path, 'np') as file:
            header = (file.metadata() or {}).get(FORMAT)
            if header is None or 'rows' not in file.keys():
                raise ValueError(f'expected what a vocabulary was taught by ({FORMAT!r} in a '
                                 f'safetensors header), found the entries '
                                 f'{sorted(file.metadata() or {})}')
            return _parsed(json.loads(header), file.get_tensor('rows'), origin)
    except ValueError as error:
        raise ValueError(f'examples {path}: {one_line(error)}') from error
    except (SafetensorError, OSError, TypeError, KeyError, AttributeError,
            RecursionError) as error:
        raise ValueError(f'examples {path}: expected a whole file of {FORMAT}, got '
                         f'{one_line(repr(error))}; teach again') from error


def _parsed(header: Any, rows: np.ndarray, origin: Origin) -> dict[str, Examples]:
    if header['version'] != VERSION:
        raise ValueError(f'expected format version {VERSION}, got {brief(header["version"])}; '
                         'update vl2v_ros, or teach again')
    rows = unit_rows(rows, Origin(str(header['space']), str(header['student'])), origin,
                     'teach again with this student')
    counts = [count for _, count, _ in header['labels']]
    if not all(type(count) is int and count > 0 for count in counts) or sum(counts) != len(rows):
        raise ValueError(f'expected {len(rows)} examples of labels, got {brief(counts)}')
    if len(rows) > MOST_EXAMPLES:
        raise ValueError(f'expected at most {MOST_EXAMPLES} examples, got {len(rows)}')
    ends, found = np.cumsum(counts), {}
    for number, (label, count, weight) in enumerate(header['labels']):
        label = check_text(label, f'label {number + 1}', 'a name')
        found[label] = Examples(rows[ends[number] - count:ends[number]], check_weight(weight))
    if len({folded(label) for label in found}) != len(counts):
        raise ValueError('expected different labels')
    return found
