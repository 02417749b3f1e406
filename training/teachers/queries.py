"""
Queries: what a run asked of its teacher, how much of it was in the caches, and what was missing.

What is missing is asked of the live teacher; if that cannot be had, the error names it.
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
    """Of different images or prompts: how many were asked for, and how many of them not cached."""

    asked: int = 0
    missing: int = 0


@dataclass
class Queries:
    """
    The queries of one run.

    images: without those that are asked in each step and not cached (of shards).
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
    """A teacher's text side, which no prompt is asked of twice, and whose queries are counted."""

    def __init__(self, teacher: Teacher, cache_dir: Path, queries: Queries,
                 done: Callable[[int], object] = lambda count: None,
                 recording: Path | None = None) -> None:
        """
        Do nothing yet but remember.

        :param cache_dir: folder of the cache of prompts.
        :param recording: file of what the teacher has answered.
        :param done: is told how many prompts the teacher has just answered.
        """
        self.width = teacher.width
        self._teacher, self._queries = teacher, queries
        self._asked = _Asked(teacher, done)
        self._cached = CachedText(teacher.identity, teacher.width, lambda: self._asked, cache_dir,
                                  recording)

    def encode(self, prompts: Sequence[str]) -> TextEmbeddings:
        """
        Embed N prompts, from the cache where they are in it.

        :raises ValueError: if the teacher is needed and cannot be loaded, naming prompts.
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
        """Return those of the prompts that the recording has."""
        return self._cached.recorded(prompts)


class _Asked:
    """Asks a teacher, and counts what it was asked."""

    def __init__(self, teacher: Teacher, done: Callable[[int], object]) -> None:
        self.width, self._teacher, self._done, self.count = teacher.width, teacher, done, 0

    def encode(self, prompts: Sequence[str]) -> TextEmbeddings:
        found = self._teacher.encode(prompts)
        self.count += len(prompts)
        self._done(len(prompts))
        return found


def missing_answers(identity: str, count: int, what: str, names: Sequence[str], why: Exception
                    ) -> str:
    """Say which answers of a teacher are missing, the first by name, and what to do."""
    more = ', ...' if len(names) > NAMED else ''
    return (f'{count} {what} have no recorded answer of {identity} ({", ".join(names[:NAMED])}'
            f'{more}), and it cannot be asked; connect once to a network, import a recording '
            f'that has them (training/recordings.py), or leave them out. {why}')
