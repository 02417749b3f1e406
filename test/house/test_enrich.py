"""The script that asks a language model, against a real server."""
from collections.abc import Iterator
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from support.chat_server import Answer, chat_server, ChatServer, completion, MODEL, SAID
from training import enrich
from vl2v_ros.words.labels import Entry
from vl2v_ros.words.vectors.examples import Examples
from vl2v_ros.words.vectors.origin import Origin
from vl2v_ros.words.vocabulary_file import parse, save, VocabularyFile

KEY = 'top-secret-key'


class Command:
    """The script with a folder of its own: labels.txt, out.yaml and the cache."""

    def __init__(self, server: ChatServer, folder: Path, monkeypatch: pytest.MonkeyPatch,
                 capsys: pytest.CaptureFixture[str]) -> None:
        self.server, self.folder = server, folder
        self.labels, self.out = folder / 'labels.txt', folder / 'out.yaml'
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def line(self, labels: Path | None = None, *arguments: str) -> list[str]:
        return ['enrich.py', '--labels', str(labels or self.labels), '--out', str(self.out),
                '--endpoint', self.server.url, '--model', MODEL,
                '--cache-dir', str(self.folder / 'cache'), *arguments]

    def run(self, labels: Path | None = None, *arguments: str) -> tuple[bool, str]:
        """Return whether it ended well, and what it said."""
        self._monkeypatch.setattr(sys, 'argv', self.line(labels, *arguments))
        reason: object = None
        try:
            enrich.main()
        except SystemExit as error:
            reason = error.code
        said = ''.join(self._capsys.readouterr()) + str(reason or '')
        assert KEY not in said
        return not reason, ' '.join(said.split())


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
            ) -> Iterator[Command]:
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setenv('OPENAI_API_KEY', KEY)
    with chat_server() as server:
        yield Command(server, tmp_path, monkeypatch, capsys)


def test_what_was_taught_is_copied_along(command: Command) -> None:
    words, origin = command.folder / 'other/kept.yaml', Origin('tower', 'student')
    words.parent.mkdir()
    taught = {'mug': Examples(np.eye(1, 4, dtype=np.float32))}
    save(VocabularyFile({'mug': Entry(), 'cup': Entry()}, examples=taught), words, origin)
    done, said = command.run(words)
    assert done, said
    shutil.rmtree(words.parent)
    found = parse(str(command.out)).read_examples(origin)
    assert np.array_equal(found.examples['mug'].rows, taught['mug'].rows)


def test_a_list_of_labels_becomes_a_vocabulary_file(command: Command) -> None:
    command.labels.write_text('mug\n\n  red   apple \nno\n12\nコップ\n', encoding='utf-8')
    done, said = command.run()
    assert done, said
    labels = ['mug', 'red apple', 'no', '12', 'コップ']
    assert parse(str(command.out)).entries == {
        label: Entry((SAID.format(label),)) for label in labels}
    assert '5/5' in said  # the progress bar
    assert '5 descriptions found' in said


def test_of_a_vocabulary_file_only_what_is_missing_is_asked_for(command: Command) -> None:
    command.out.write_text('labels:\n  mug: {descriptions: [It has a handle.], synonyms: [cup]}\n'
                           '  bowl: {synonyms: [dish]}\ntemplate: "a {label}. {description}"\n'
                           'background: [an empty table]\n')
    done, said = command.run(command.out)
    assert done, said
    assert len(command.server.asked) == 1
    assert parse(str(command.out)) == VocabularyFile(
        {'mug': Entry(('It has a handle.',), ('cup',)),
         'bowl': Entry((SAID.format('bowl'),), ('dish',))},
        ('a {label}. {description}',), ('an empty table',))
    before = command.out.read_bytes()
    assert command.run(command.out)[0]
    assert command.out.read_bytes() == before
    assert len(command.server.asked) == 1


def test_what_failed_is_named_and_the_rest_is_written(command: Command) -> None:
    command.labels.write_text('mug\ncup\nbowl')
    command.server.queue = [Answer(200, completion('<think>A mug')),
                            Answer(400, f'unknown key {KEY}')]
    done, said = command.run(None, '--concurrency', '1')
    assert not done
    assert 'failed: mug: expected a sentence, got thoughts without an end' in said
    assert 'failed: cup: 400 unknown key ***' in said
    assert '2 labels have no description' in said
    entries = parse(str(command.out)).entries
    assert entries == {'mug': Entry(), 'cup': Entry(), 'bowl': Entry((SAID.format('bowl'),))}
    assert command.run()[0]
    assert all(entry.descriptions for entry in parse(str(command.out)).entries.values())


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGKILL])
def test_interrupted_it_goes_on_where_it_was(command: Command, number: int) -> None:
    labels = [f'thing {number}' for number in range(100)]
    command.labels.write_text('\n'.join(labels))
    command.out.write_text('labels: [older]\n')
    process = subprocess.Popen(
        [sys.executable, Path(enrich.__file__), *command.line()[1:]], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))
    while len(command.server.seen) < 60:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    command.server.open.clear()
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert 'Traceback' not in said
    if number == signal.SIGINT:
        assert 'interrupted; the answers so far are cached' in said
    assert parse(str(command.out)).entries == {'older': Entry()}
    asked = len(set(command.server.asked))
    command.server.reset()
    assert command.run()[0]
    assert len(command.server.seen) <= 100 - asked + 4  # so many were being asked for
    assert list(parse(str(command.out)).entries) == labels


@pytest.mark.parametrize(('content', 'arguments', 'reason'), [
    (b'', [], 'expected a label per line, found none'),
    (b'mug\n\nMug\n', [], "labels.txt, line 3: 'Mug' repeats 'mug'"),
    (b'mug\na\tb\n', [], 'labels.txt, line 2: expected one line without control'),
    (b'\xff\xfe', [], 'expected a text file'),
    (None, [], 'expected a text file'),
    (b'mug', ['--out', 'out.txt'], 'expected a *.yaml file to write'),
    (b'mug', ['--endpoint', 'ftp://host/v1'], 'expected an address like'),
    (b'mug', ['--timeout', '-1'], 'timeout above 0'),
])
def test_what_cannot_work_is_said(command: Command, content: bytes | None, arguments: list[str],
                                  reason: str) -> None:
    if content is not None:
        command.labels.write_bytes(content)
    done, said = command.run(None, *arguments)
    assert not done
    assert reason in said
    assert command.server.seen == []
    assert not command.out.exists()
