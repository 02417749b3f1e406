"""Examples: prototypes of what was shown, the file that keeps it, what a change leaves of it."""
from dataclasses import replace
import os
from pathlib import Path
import signal
import time

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.processes import wait_until
from support.tiny_models import GivenText
from vl2v_ros.words import hub, vocabulary
from vl2v_ros.words.cached_text import CachedText
from vl2v_ros.words.explain import reasons
from vl2v_ros.words.labels import Entry
from vl2v_ros.words.vectors import examples_file
from vl2v_ros.words.vectors.examples import Examples, MOST_EXAMPLES, scale_of
from vl2v_ros.words.vectors.origin import Origin
from vl2v_ros.words.vectors.teaching import forgotten, taught, with_entries, without
from vl2v_ros.words.vocabulary_file import forget, parse, save, VocabularyFile

HERE = Origin('tower', 'student')
E = np.eye(4, dtype=np.float32)
FILE = VocabularyFile({'cup': Entry(), 'dog': Entry(synonyms=('hound',))})


def shown(file: VocabularyFile = FILE, label: str = 'oat milk', rows: np.ndarray = E[:2],
          weight: float = 0.5) -> VocabularyFile:
    return taught(file, label, rows, weight)[0]


def test_a_prototype_is_made_of_the_text_and_the_mean_of_examples() -> None:
    file = shown(shown(), 'cup', E[2:3], 0.25)
    words = vocabulary.build(file.all_entries, GivenText({'cup': E[0], 'dog': E[1], 'hound': E[1],
                                                          'oat milk': E[3]}), 1, ('{label}',),
                             examples=file.examples, scale=0.4)
    assert words.labels == ('cup', 'dog', 'oat milk')
    assert words.prototypes == pytest.approx(np.stack([
        0.25 * E[0] + 0.75 * 0.4 * E[2], E[1],
        0.5 * E[3] + 0.5 * 0.4 * (E[0] + E[1]) / np.sqrt(2)]), abs=1e-6)
    assert {label: len(rows) for label, rows in words.examples.items()} == {
        'oat milk': 2, 'cup': 1}
    assert [(one.prompt, round(one.similarity, 3)) for one in reasons(E[1], words, ['oat milk'])
            ] == [('example 2', 1), ('oat milk', 0), ('example 1', 0)]


def test_a_label_that_no_tower_can_read_has_examples_alone(tmp_path: Path) -> None:
    def no_tower() -> GivenText:
        raise hub.NotAtHand('tower', 'there is no network', 'connect once')
    encoder = CachedText('tower', 4, no_tower, tmp_path)
    file = shown(VocabularyFile({}))
    words = vocabulary.build(file.all_entries, encoder, 1, examples=file.examples, scale=0.4)
    assert words.prototypes == pytest.approx(0.4 * (E[:1] + E[1:2]) / np.sqrt(2))
    assert 'there is no network' in words.note
    with pytest.raises(ValueError, match="cannot encode label 'cup'"):
        vocabulary.build({'cup': Entry(), **file.all_entries}, encoder, 1, examples=file.examples)


def test_the_scale_follows_the_student() -> None:
    assert scale_of(0.2) == pytest.approx(0.275)
    assert scale_of(0.0) == scale_of(-0.1) == scale_of(0.9) == 1


def test_teaching_again_adds_and_spelling_is_that_of_the_vocabulary() -> None:
    file, label = taught(shown(FILE, 'Cup'), ' CUP ', E[2:], 1.0)
    assert label == 'cup' and file.entries == FILE.entries
    assert np.array_equal(file.examples['cup'].rows, E) and file.examples['cup'].text_weight == 1
    again, _ = taught(file, 'cup', E[:1], 0.5, replace_all=True)
    assert np.array_equal(again.examples['cup'].rows, E[:1])


@pytest.mark.parametrize('label, rows, weight, said', [
    (' ', E, 0.5, 'label: expected a name, got a blank'),
    ('hound', E, 0.5, "the synonym 'hound' is a label too"),
    ('cup', E[:0], 0.5, "expected at least one example of 'cup', got none"),
    ('cup', np.repeat(E[:1], MOST_EXAMPLES + 1, 0), 0.5, 'in all, got 10001; forget some'),
    ('cup', E, 1.5, r'text_weight: expected 0.0 to 1.0, got 1.5'),
    ('cup', E, float('nan'), 'text_weight: expected 0.0 to 1.0, got nan')])
def test_what_cannot_be_taught_is_refused(label: str, rows: np.ndarray, weight: float, said: str
                                          ) -> None:
    with pytest.raises(ValueError, match=said):
        taught(FILE, label, rows, weight)


def test_a_change_of_labels_keeps_the_examples_of_those_that_stay() -> None:
    file = shown(shown(), 'cup')
    replaced = with_entries(file, {'Cup': Entry(), 'mug': Entry()}, listed_only=True)
    assert list(replaced.all_entries) == ['Cup', 'mug'] and list(replaced.examples) == ['Cup']
    added = with_entries(file, {**FILE.entries, 'Oat milk': Entry(('White.',))})
    assert list(added.all_entries) == ['cup', 'dog', 'Oat milk']
    assert added.examples.keys() == {'Oat milk', 'cup'}
    removed = without(file, ['OAT MILK', 'dog'])
    assert list(removed.all_entries) == list(removed.examples) == ['cup']
    with pytest.raises(ValueError, match='at least one label to stay'):
        without(removed, ['cup'])


def test_forgetting_removes_the_labels_that_only_examples_made() -> None:
    file = shown(shown(), 'cup')
    assert list(forgotten(file, ['Oat  milk']).all_entries) == ['cup', 'dog']
    assert list(forgotten(file, ['cup']).all_entries) == ['cup', 'dog', 'oat milk']
    assert forgotten(file, []).examples == {}
    for labels, said in ((['dog'], "expected labels that were taught, got 'dog'"),
                         (['cup', 'cat'], "got 'cat'; nothing was forgotten")):
        with pytest.raises(ValueError, match=said):
            forgotten(file, labels)
    with pytest.raises(ValueError, match='there is nothing to forget'):
        forgotten(FILE, [])
    with pytest.raises(ValueError, match='at least one label to stay'):
        forgotten(shown(VocabularyFile({})), [])


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith('.'))


def test_what_was_taught_is_kept_beside_the_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / 'kept.yaml'
    save(shown(shown(), 'cup', E[2:3], 0.25), path, HERE)
    first = kept(tmp_path)
    assert len(first) == 2 and parse(str(path)).entries == FILE.entries
    found = parse(str(path)).read_examples(HERE)
    assert [(label, one.rows.tolist(), one.text_weight) for label, one in found.examples.items()
            ] == [('oat milk', E[:2].tolist(), 0.5), ('cup', E[2:3].tolist(), 0.25)]
    assert list(found.all_entries) == ['cup', 'dog', 'oat milk']
    save(without(found, ['oat milk']), path, HERE)
    assert len(kept(tmp_path)) == 2 and kept(tmp_path) != first
    save(FILE, path, HERE)
    assert kept(tmp_path) == ['kept.yaml'] and parse(str(path)) == FILE
    save(shown(), path, HERE)
    save(shown(), path, Origin('tower', 'another student'))  # what that one was taught stays
    assert len(kept(tmp_path)) == 3
    forget(path, HERE)
    assert len(kept(tmp_path)) == 1


def test_files_of_others_and_damaged_ones_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / 'kept.yaml'
    save(shown(), path, HERE)
    file = parse(str(path))
    vectors = file.examples_path
    assert vectors is not None
    whole = vectors.read_bytes()

    def refused(origin: Origin, said: str) -> None:
        with pytest.raises(ValueError, match=said) as raised:
            file.read_examples(origin)
        assert str(raised.value).startswith(f'examples {vectors}: ')
        assert '\n' not in str(raised.value)
    refused(Origin('tower', 'other'), "expected vectors of the student 'other', got those of 'stu")
    refused(Origin('other', 'student'), "expected vectors of the space 'other', got those of 'tow")
    for content in (b'', whole[:-1], whole.replace(b'student', b'stu ent'),
                    whole.replace(b'"version', b'"versiom'),
                    whole.replace(b'\\"oat milk\\", 2', b'\\"oat milk\\", 3'),
                    whole[:-8] + np.full(2, np.nan, np.float32).tobytes()):
        assert content != whole
        vectors.write_bytes(content)
        refused(HERE, 'expected')
    save_file({'rows': E}, vectors)
    refused(HERE, 'expected what a vocabulary was taught by')
    vectors.unlink()
    refused(HERE, 'No such file')
    for name in ('../x.safetensors', '/etc/passwd', ''):
        path.write_text(f'labels: [cup]\nexamples: "{name}"\n')
        with pytest.raises(ValueError, match='line 2: expected examples to name a file'):
            parse(str(path))


@pytest.mark.long
def test_a_kill_leaves_a_vocabulary_and_vectors_that_fit_together(tmp_path: Path) -> None:
    path = tmp_path / 'kept.yaml'
    files = [replace(shown(), examples={f'{name} {number}': Examples(np.repeat(E[row:row + 1],
             row + 1, 0)) for number in range(50)}) for row, name in enumerate(('old', 'new'))]
    save(files[0], path, HERE)
    rng = np.random.default_rng(0)
    for _ in range(20):
        before = path.read_text()
        child = os.fork()
        if not child:
            while True:
                for file in files[::-1]:
                    save(file, path, HERE)
        wait_until(lambda before=before: path.read_text() != before, 'a change', step=0.001)
        time.sleep(rng.uniform(0, 0.01))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = parse(str(path)).read_examples(HERE).examples
        name = next(iter(found)).split()[0]
        assert all(len(one.rows) == 1 + (name == 'new') for one in found.values())
        save(files[0], path, HERE)
    save(files[0], path, HERE)
    assert len(kept(tmp_path)) == 2 and examples_file.ENDING in kept(tmp_path)[0]
