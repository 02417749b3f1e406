"""
Queries: how many answers of the teacher a run needed, and how many of them were cached or missing.

The live teacher is asked for missing answers; if it is not available, the error names them.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from training.teachers.teacher import CannotLoad, Teacher
from vl2v_ros.words.cached_text import CachedText
from vl2v_ros.words.encoder import TextEmbeddings

NAMED = 5  # of the missing ones in an error


@dataclass
class Count:
    """The number of different images or prompts that were needed, and that were not cached."""

    asked: int = 0
    missing: int = 0


@dataclass
class Queries:
    """
    The queries of one run.

    images: without those of shards, which are asked in each step and not cached.
    """

    images: Count = field(default_factory=Count)
    prompts: Count = field(default_factory=Count)

    def add(self, kind: str, asked: int, missing: int) -> None:
        """Count some; kind: images or prompts."""
        count = getattr(self, kind)
        count.asked += asked
        count.missing += missing

    def plain(self) -> dict[str, dict[str, int]]:
        """Return the counts as JSON can hold them."""
        return {kind: {'asked': count.asked, 'from cache': count.asked - count.missing,
                       'missing': count.missing} for kind, count in vars(self).items()}

    def __str__(self) -> str:
        return '; '.join(f'{kind} ' + ', '.join(f'{number} {what}' for what, number in row.items())
                         for kind, row in self.plain().items())


class CountedText:
    """A teacher's text encoder with a cache, so that no prompt is asked twice; counts queries."""

    def __init__(self, teacher: Teacher, cache_dir: Path, queries: Queries,
                 done: Callable[[int], object] = lambda count: None,
                 recording: Path | None = None) -> None:
        """
        Store the places of cache and recording; nothing is read yet.

        :param cache_dir: folder of the cache of prompts.
        :param recording: recording of the teacher's answers.
        :param done: receives the number of prompts that the teacher has just answered.
        """
        self.width = teacher.width
        self._teacher, self._queries = teacher, queries
        self._asked = _Asked(teacher, done)
        self._cached = CachedText(teacher.identity, teacher.width, lambda: self._asked, cache_dir,
                                  recording)

    def encode(self, prompts: Sequence[str]) -> TextEmbeddings:
        """
        Embed N prompts; cached ones are looked up.

        :raises ValueError: if the teacher is needed and cannot be loaded; it names prompts.
        """
        before = self._asked.count
        try:
            found = self._cached.encode(prompts)
        except CannotLoad as error:
            known = self._cached.kept(prompts)
            missing = [repr(prompt) for prompt in dict.fromkeys(prompts) if prompt not in known]
            raise ValueError(missing_answers(self._teacher.identity, len(missing), 'prompts',
                                             missing, error)) from error
        self._queries.add('prompts', len(set(prompts)), self._asked.count - before)
        return found

    def recorded(self, prompts: Sequence[str]) -> set[str]:
        """Return the prompts that are recorded."""
        return self._cached.recorded(prompts)


class _Asked:
    """Asks a teacher, and counts the queries."""

    def __init__(self, teacher: Teacher, done: Callable[[int], object]) -> None:
        self.width, self._teacher, self._done, self.count = teacher.width, teacher, done, 0

    def encode(self, prompts: Sequence[str]) -> TextEmbeddings:
        found = self._teacher.encode(prompts)
        self.count += len(prompts)
        self._done(len(prompts))
        return found


def missing_answers(identity: str, count: int, what: str, names: Sequence[str], why: Exception
                    ) -> str:
    """Return an error text: which answers of a teacher are missing, and what to do."""
    more = ', ...' if len(names) > NAMED else ''
    return (f'{count} {what} have no recorded answer of {identity} ({", ".join(names[:NAMED])}'
            f'{more}), and it cannot be asked; connect once to a network, import a recording '
            f'that has them (training/recordings.py), or leave them out. {why}')
