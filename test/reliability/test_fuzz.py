"""A short part of what `make fuzz` does, and that the fuzzing finds what is planted."""
import mmap
from pathlib import Path
from random import Random

import pytest
from reliability import fuzz_files, mutations, readers
from reliability.readers import Kind, KINDS, order, why_no_sentence

SHORT = ('image', 'bag', 'vocabulary', 'recipe', 'table', 'recording', 'coco', 'archive', 'video',
         'cache', 'shards')


@pytest.mark.parametrize('name', SHORT)
def test_damaged_files_are_read_or_refused_with_a_sentence(name: str, tmp_path: Path) -> None:
    folder = tmp_path / 'seeds' / name
    folder.mkdir(parents=True)
    KINDS[name].write(folder)
    files = readers.damaged(name, tmp_path / 'seeds', tmp_path / 'scratch', seed=7)
    outcomes = set()
    for number in range(60):
        answer = fuzz_files.attempt(name, files.folder, files.damage(number))
        assert answer['outcome'] in ('read', 'refused'), (number, answer)
        assert answer['seconds'] < 60 and answer['mebibytes'] < 1024
        outcomes.add(answer['outcome'])
    assert 'refused' in outcomes
    files.mend()
    fuzz_files.KINDS[name].read(files.folder, KINDS[name].targets(files.folder)[0])


@pytest.mark.parametrize(('error', 'outcome'), [
    (KeyError('width'), 'KeyError'), (UnicodeDecodeError('utf-8', b'x', 0, 1, 'bad'), 'says Uni'),
    (ValueError('two\nlines of text'), 'says more than a line'), (ValueError('no'), 'says less'),
    (ValueError('a ' * 1500), 'says 3000 characters'), (MemoryError(), 'MemoryError'),
    (ValueError('expected a mug'), 'refused')])
def test_what_is_no_sentence_is_a_finding(error: Exception, outcome: str, tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    def read(folder: Path, target: Path) -> None:
        raise error
    monkeypatch.setitem(KINDS, 'planted', Kind(lambda folder: None, read, 1))
    answer = fuzz_files.attempt('planted', tmp_path, tmp_path)
    assert answer['outcome'].startswith(outcome)


def test_memory_beyond_the_bound_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                              ) -> None:
    monkeypatch.setattr(fuzz_files, 'MEMORY', 10 << 20)

    def read(folder: Path, target: Path) -> None:
        with mmap.mmap(-1, 100 << 20) as memory:  # never what malloc has kept of earlier tests
            memory.write(bytes(len(memory)))
    monkeypatch.setitem(KINDS, 'planted', Kind(lambda folder: None, read, 1))
    assert fuzz_files.attempt('planted', tmp_path, tmp_path)['outcome'].startswith('memory')


def test_the_same_number_gives_the_same_damage_and_another_another() -> None:
    data = bytes(range(256)) * 4

    def damaged(seed: str) -> bytes:
        return mutations.mutate_bytes(data, Random(seed), [data])
    assert damaged('1') == damaged('1')
    assert len({damaged(str(seed)) for seed in range(50)} - {data}) > 40


def test_kinds_take_turns_by_their_parts() -> None:
    names = [name for name, _ in order(1000)]
    assert set(names) == set(KINDS)
    assert 250 < names.count('image') < 320
    assert list(order(3, 'coco')) == [('coco', 0), ('coco', 1), ('coco', 2)]


def test_sentences_are_told_from_what_is_none() -> None:
    assert why_no_sentence("expected a mug, got 'コップ'") == ''
    assert [bool(why_no_sentence(text)) for text in ('', 'one two', 'a\nb c d', 'a b c \x1b[2J')
            ] == [True] * 4
