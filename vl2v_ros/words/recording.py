"""
Recordings: answers of a teacher in one file, so that no answer is paid for twice.

A recording is a safetensors file. Its header has, as JSON under 'vl2v_recording', `version`,
`identity`, `image_size`, `licence`, `prompts` and `names`, of a part `part` too; its tensors are

    prompt_rows   (P, D) float16 unit rows, one per prompt
    image_digests (N, 32) uint8, SHA-256 of each image file
    image_rows    (N, D) float16 unit rows, one per digest

A recording may have prompts alone, such as the one beside the shipped student: with it, a robot
knows these prompts without a network and without a text tower.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
import json
from pathlib import Path
import re

import numpy as np
from safetensors import safe_open, SafetensorError
from safetensors.numpy import save
from vl2v_ros.files import one_line, replacing

FORMAT = 'vl2v_recording'
VERSION = 1
DIGEST = 32  # bytes of SHA-256
SAME = 1e-3  # largest difference allowed between two rows of one prompt


@dataclass(frozen=True, eq=False)
class Recording:
    """
    The answers of a teacher.

    identity: identity of the teacher; caches store its answers under it.
    image_size: side of the images that the teacher embedded [px]; 0 without images.
    licence: licence of the answers, and who made them.
    prompts: P texts, exactly as the teacher received them.
    names: P plain names of the things that the prompts are about, such as 'alarm clock'; '' for a
    prompt about no single thing.
    prompt_rows: (P, D) float16 unit rows.
    image_digests: (N, 32) uint8, SHA-256 of the image files.
    image_rows: (N, D) float16 unit rows.
    part: of a part, which one it is and of what, see training/teachers/parts.py; else ''.
    """

    identity: str
    image_size: int
    licence: str
    prompts: tuple[str, ...]
    names: tuple[str, ...]
    prompt_rows: np.ndarray
    image_digests: np.ndarray
    image_rows: np.ndarray
    part: str = ''

    def __post_init__(self) -> None:
        """Check that all parts fit together; raises ValueError that names the wrong part."""
        for what in ('prompt_rows', 'image_rows', 'image_digests'):
            if getattr(self, what).ndim != 2:
                raise ValueError(f'{what}: expected a table of rows, got '
                                 f'{getattr(self, what).shape}')
        count, width = self.prompt_rows.shape
        for what, good, expected, got in (
            ('identity', self.identity.strip(), 'a name', repr(self.identity)),
            ('prompts', len(self.prompts) == count, f'{count}, one per row', len(self.prompts)),
            ('prompts', all(isinstance(prompt, str) for prompt in self.prompts), 'texts',
             self.prompts[:3]),
            ('names', len(self.names) == count, f'{count}, one per prompt', len(self.names)),
            ('image_rows', self.image_rows.shape[1:] == (width,), f'rows of width {width}, which '
             'prompts have', self.image_rows.shape),
            ('image_digests', self.image_digests.shape == (len(self.image_rows), DIGEST),
             (len(self.image_rows), DIGEST), self.image_digests.shape),
            ('image_digests', self.image_digests.dtype == np.uint8, 'bytes (uint8)',
             self.image_digests.dtype),
            ('part', isinstance(self.part, str), 'a text', self.part),
            ('image_size', self.image_size >= bool(len(self.image_rows)), 'at least 1 [px]',
             self.image_size),
        ):
            if not good:
                raise ValueError(f'{what}: expected {expected}, got {got}')
        for what, rows in (('prompt_rows', self.prompt_rows), ('image_rows', self.image_rows)):
            lengths = np.linalg.norm(rows.astype(np.float32), axis=1)
            bad = np.flatnonzero(~(np.abs(lengths - 1) < 0.01))  # NaN is not
            if len(bad):
                raise ValueError(f'{what}: expected unit rows, got row {bad[0]} of length '
                                 f'{lengths[bad[0]]:g}')
        self._check_repeated('prompt', self.prompts, self.prompt_rows)
        self._check_repeated('image digest', [row.tobytes().hex() for row in self.image_digests],
                             self.image_rows)

    @staticmethod
    def _check_repeated(what: str, keys: Sequence[str], rows: np.ndarray) -> None:
        first: dict[str, int] = {}
        for number, key in enumerate(keys):
            before = first.setdefault(key, number)
            if before != number and np.abs(rows[before] - rows[number]).max() > SAME:
                raise ValueError(f'{what} {key!r:.80} has two different embeddings (rows {before} '
                                 f'and {number}); remove the wrong one')

    @property
    def width(self) -> int:
        """D."""
        return self.prompt_rows.shape[1]

    @cached_property
    def _places(self) -> dict[str, int]:
        """Prompt, or its canonical form -> number of its row; the exact prompt is preferred."""
        places = {prompt: number for number, prompt in enumerate(self.prompts)}
        for number, prompt in enumerate(self.prompts):
            places.setdefault(canonical(prompt), number)
        return places

    def find(self, prompt: str) -> np.ndarray | None:
        """
        Return the (D,) float16 row of a prompt, None if it is not known.

        The exact prompt is preferred; else one with the same canonical form, see `canonical`.
        """
        number = self._places.get(prompt)
        if number is None:
            number = self._places.get(canonical(prompt))
        return None if number is None else self.prompt_rows[number]


def canonical(prompt: str) -> str:
    """
    Return a prompt without details that hardly change its meaning.

    These are case, underscores, 'an' for 'a', runs of spaces and a full stop at the end. With and
    without them, embeddings of CLIP have a cosine of about 0.96 to 0.99.
    """
    words = re.sub(r'\ban\b', 'a', prompt.casefold().replace('_', ' ').rstrip(' .'))
    return ' '.join(words.split())


def write(recording: Recording, path: Path) -> None:
    """Write a recording atomically; raises OSError."""
    header = {'version': VERSION, **{name: getattr(recording, name) for name in (
        'identity', 'image_size', 'licence', 'prompts', 'names')}}
    if recording.part:
        header['part'] = recording.part
    content = save({'prompt_rows': recording.prompt_rows.astype(np.float16),
                    'image_digests': recording.image_digests,
                    'image_rows': recording.image_rows.astype(np.float16)},
                   {FORMAT: json.dumps(header, ensure_ascii=False)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def read(path: Path) -> Recording:
    """
    Read a recording.

    :raises ValueError: for a file that is missing, damaged, cut off or of another format, and for
        content that does not fit together, such as NaN or a prompt with two embeddings.
    """
    if not path.is_file():
        raise ValueError(f'recording: expected a file, found none at {path}; correct the path')
    try:
        with safe_open(path, 'np') as file:
            metadata = file.metadata() or {}
            if FORMAT not in metadata:
                raise ValueError(f'expected a recording ({FORMAT!r} in the safetensors header), '
                                 f'found the entries {sorted(metadata)}')
            header = json.loads(metadata[FORMAT])
            version = header.pop('version')
            if version != VERSION:
                raise ValueError(f'expected format version {VERSION}, got {version!r}; update '
                                 'vl2v_ros or record again')
            tensors = {name: file.get_tensor(name)
                       for name in ('prompt_rows', 'image_digests', 'image_rows')}
        for name in ('prompts', 'names'):
            header[name] = tuple(header[name])
        return Recording(**header, **tensors)
    except (SafetensorError, OSError) as error:
        raise ValueError(f'recording {path}: expected a safetensors file, but it is damaged, cut '
                         f'off or of another format ({one_line(error)}); copy or record it '
                         'again') from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f'recording {path}: {one_line(error)}') from error
