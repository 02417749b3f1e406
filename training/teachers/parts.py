"""
Parts of a recording, made by many workers at once, and the one recording that they make up.

Part K of N has a share of the images. It is cut between the batches of a single worker, so that
the teacher is asked for the same batches. The first part also has the prompts. Each part says of
which whole it is, by a digest of the names of all images and of all prompts: `merge` refuses what
does not belong together, and what it writes is, byte by byte, the recording of a single worker.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
import glob
import hashlib
import json
from pathlib import Path
import re

import numpy as np
from training.teachers.queries import NAMED
from vl2v_ros.words import recording
from vl2v_ros.words.recording import Recording


@dataclass(frozen=True)
class Part:
    """Which part, from 1, of how many."""

    number: int = 1
    count: int = 1

    def __str__(self) -> str:
        return f'{self.number}/{self.count}'

    def file(self, out: Path) -> Path:
        """Return the file of this part of the recording `out`."""
        return out if self.count == 1 else out.with_name(
            f'{out.stem}.{self.number}of{self.count}{out.suffix}')

    @property
    def cache(self) -> str:
        """Its folder of embeddings in the cache; its own, as one process writes at a time."""
        return 'embeddings' if self.count == 1 else f'embeddings_{self.number}of{self.count}'

    def share(self, files: Sequence[str], batch: int) -> Sequence[str]:
        """Return its part of the images, whole batches but for the last."""
        batches = -(-len(files) // batch)
        first, end = (batches * number // self.count * batch
                      for number in (self.number - 1, self.number))
        return files[first:end]

    def of(self, files: Sequence[str], said: Mapping[str, str]) -> str:
        """Return what its recording says: which part it is, and of which images and prompts."""
        if self.count == 1:
            return ''
        whole = json.dumps([*files, dict(said)]).encode('utf-8', 'surrogatepass')
        return f'{self} of {hashlib.sha256(whole).hexdigest()}'


def parse(text: str) -> Part:
    """Return the part that 'K/N' names; raises ValueError."""
    found = re.fullmatch(r'(\d+)/(\d+)', text)
    part = Part(*map(int, found.groups())) if found else None
    if part is None or not 1 <= part.number <= part.count:
        raise ValueError(f'--part: expected K/N, part K of N, such as 3/8, got {text!r}')
    return part


def find(out: Path) -> list[Path]:
    """Return the files of all parts beside `out`; raises ValueError if one is missing."""
    name = re.compile(rf'{re.escape(out.stem)}\.(\d+)of(\d+){re.escape(out.suffix)}')
    there = [name.fullmatch(path.name) for path in sorted(out.parent.glob(
        f'{glob.escape(out.stem)}.*of*{glob.escape(out.suffix)}'))]
    parts = {Part(*map(int, match.groups())) for match in there if match}
    if not parts:
        raise ValueError(f'{out}: expected its parts beside it, such as '
                         f'{Part(1, 8).file(out).name}, found none; recordings.py record --part '
                         'K/N writes them')
    counts = sorted({part.count for part in parts})
    if len(counts) > 1:
        raise ValueError(f'{out}: expected the parts of one recording beside it, found some of '
                         f'{" and ".join(map(str, counts))}; remove those of the other one')
    whole = [Part(number, counts[0]) for number in range(1, counts[0] + 1)]
    if missing := [str(part) for part in whole if part not in parts]:
        more = ', ...' if len(missing) > NAMED else ''
        raise ValueError(f'{out}: expected {counts[0]} parts beside it, {len(missing)} are '
                         f'missing: {", ".join(missing[:NAMED])}{more}; run recordings.py record '
                         f'--part {missing[0]}, or copy them here')
    return [part.file(out) for part in whole]


def merge(paths: Sequence[Path]) -> Recording:
    """
    Return the recording that parts make up.

    :raises ValueError: for a part that is damaged, or of another recording; it is named.
    """
    found = [recording.read(path) for path in paths]
    first = found[0]
    for number, (path, part) in enumerate(zip(paths, found, strict=True), 1):
        whole = first.part.partition(' of ')[2]
        for what, expected, got in (
                ('part', f'{number}/{len(paths)} of {whole}', part.part),
                ('teacher', first.identity, part.identity), ('width', first.width, part.width),
                ('licence', first.licence, part.licence)):
            if expected != got:
                raise ValueError(f'{path}: expected {what} {expected!r}, as {paths[0].name} has '
                                 f'it, got {got!r}; record this part again, of the same images '
                                 'and prompts and with the same teacher')
    return replace(
        first, part='', image_size=max(part.image_size for part in found),
        image_digests=np.concatenate([part.image_digests for part in found]),
        image_rows=np.concatenate([part.image_rows for part in found]))
