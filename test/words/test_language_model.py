"""Descriptions from a language model, against a real server that misbehaves as it is told."""
import logging
from pathlib import Path
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from support.chat_server import (
    Answer,
    ChatServer,
    CLEAN,
    completion,
    INJECTED,
    KEY,
    MODEL,
    SAID,
    settings,
)
from support.tiny_models import python
from vl2v_ros.words import language_model
from vl2v_ros.words.labels import check_labels, Entry
from vl2v_ros.words.language_model import Answers, describe, LanguageModel
from vl2v_ros.words.vocabulary_file import dump, parse, VocabularyFile

LABELS = ['mug', 'red apple', 'コップ']


def test_each_label_is_asked_for_with_the_papers_question_and_only_once(
        server: ChatServer, tmp_path: Path) -> None:
    told = []
    found = describe(LABELS, settings(server), tmp_path, told.append)
    assert found == Answers({label: SAID.format(label) for label in LABELS}, {})
    assert sorted(told) == sorted(LABELS)
    assert sorted(server.asked) == sorted(
        f'Use a single sentence to describe the appearance and shape of {label}. '
        'Only describe the shape and appearance.' for label in LABELS)
    assert {body['model'] for _, body in server.seen} == {MODEL}
    server.seen.clear()
    again = describe([*LABELS[::-1], 'cup', 'cup'], settings(server), tmp_path, told.append)
    assert again.descriptions == found.descriptions | {'cup': SAID.format('cup')}
    assert len(server.seen) == 1
    assert len(told) == 7


def test_the_cache_tells_models_and_questions_apart(server: ChatServer, tmp_path: Path) -> None:
    for number, fields in enumerate([{}, {'model': 'other'}, {'question': 'What is {cls}?'}], 1):
        for _ in range(2):
            assert 'mug' in describe(['mug'], settings(server, **fields), tmp_path).descriptions
        assert len(server.seen) == number
    assert server.asked[-1] == 'What is mug?'


def test_braces_in_a_label_are_asked_for_as_they_are(server: ChatServer, tmp_path: Path) -> None:
    describe(['{cls} {0} {label}'], settings(server), tmp_path)
    assert server.asked == [language_model.QUESTION.replace('{cls}', '{cls} {0} {label}')]


@pytest.mark.parametrize('failure', [
    Answer(429, '{"error": {"message": "slow down"}}', {'Retry-After': '0'}),
    Answer(500, 'oops'), Answer(503, ''), Answer(0),
    Answer(200, completion('cut'), {'Content-Length': '5000', 'Connection': 'close'})],
    ids=['429', '500', '503', 'hung up', 'cut off'])
def test_what_may_pass_is_asked_again(server: ChatServer, tmp_path: Path, failure: Answer,
                                      caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server.queue = [failure]
    # The connection that was cut off waits for the rest: the server has to end it.
    found = describe(['mug'], settings(server, timeout=1 if failure.headers else 20), tmp_path)
    assert found.descriptions == {'mug': SAID.format('mug')}
    assert len(server.seen) == 2
    assert 'asked again' in caplog.text


@pytest.mark.parametrize(('answer', 'reason', 'attempts'), [
    (Answer(500, '{"error": {"message": "database down"}}'),
     'no answer in 2 attempts, at last: 500 .*database down', 2),
    (Answer(400, 'no such field'), '400', 1),
    (Answer(404, '{"error": "model not found"}'), '404.*most end in /v1', 1),
    (Answer(200, '<html>'), "expected the JSON of a chat completion.*<html>'", 1),
    (Answer(200, '{"choices": []}'), 'expected the JSON of a chat completion.*IndexError', 1),
    (Answer(200, '[' * 100_000), 'expected the JSON of a chat completion', 1),
    (Answer(200, ''), "expected the JSON of a chat completion.*''", 1),
    (Answer(200, completion('')), 'an empty answer', 1),
    (Answer(200, completion(' \n\u200b. ')), 'an empty answer', 1),
    (Answer(200, completion('<think>A mug is...</think>')), 'an empty answer', 1),
    (Answer(200, completion(None)), 'expected a text, got None', 1),
    (Answer(200, completion(['a'])), 'expected a text', 1),
    (Answer(200, completion('<think>A mug is')), 'thoughts without an end', 1),
    (Answer(200, completion("I'm sorry, but I can't.")), "a refusal: I'm sorry, but", 1),
    (Answer(200, completion('1. a body\n2. a handle')), 'got a list', 1),
    (Answer(200, completion('word ' * 400)), 'at most 1000 characters, got 1999', 1),
    (Answer(200, completion('word ' * 200_000)), 'more than 262144 bytes', 1),
])
def test_what_is_no_answer_is_a_failure_with_a_reason_and_not_kept(
        server: ChatServer, tmp_path: Path, answer: Answer, reason: str, attempts: int) -> None:
    server.queue = [answer] * attempts
    found = describe(['mug', 'cup'], settings(server, retries=1, concurrency=1), tmp_path)
    assert found.descriptions == {'cup': SAID.format('cup')}
    assert list(found.failures) == ['mug']
    assert len(found.failures['mug']) < 400
    assert re.search(reason, found.failures['mug']), found.failures['mug']
    assert len(server.seen) == attempts + 1
    assert describe(['mug'], settings(server), tmp_path).descriptions


def test_an_answer_that_never_ends_takes_little_memory(server: ChatServer, tmp_path: Path
                                                       ) -> None:
    server.queue = [Answer(200, completion('x' * 50_000_000))]
    grown = int(python(
        'import resource, sys\n'
        'from pathlib import Path\n'
        'from vl2v_ros.words.language_model import describe, LanguageModel\n'
        'import openai\n'
        'openai.OpenAI(api_key="x").chat\n'
        'before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n'
        'found = describe(["mug"], LanguageModel(sys.argv[1], "m"), Path(sys.argv[2]))\n'
        'assert "more than" in found.failures["mug"], found\n'
        'print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n',
        server.url, tmp_path))
    assert grown < 20_000  # [KiB]


@pytest.mark.parametrize('hang', ['silent', 'drip'])
def test_the_time_limit_holds(server: ChatServer, tmp_path: Path, hang: str) -> None:
    if hang == 'drip':
        server.always = Answer(200, completion('slow ' * 100), drip=300)  # 30 s
    else:
        server.open.clear()
    begun = time.monotonic()
    found = describe(['mug'], settings(server, timeout=0.5, retries=1), tmp_path)
    assert 'no answer in 2 attempts' in found.failures['mug']
    assert len(server.seen) == 2
    assert time.monotonic() - begun < 20  # the server would take 30 s for each of the two


def test_an_absent_server_is_said(tmp_path: Path) -> None:
    with socket.create_server(('127.0.0.1', 0)) as unused:
        port = unused.getsockname()[1]
    model = LanguageModel(f'http://127.0.0.1:{port}/v1', MODEL, retries=0)
    assert 'refused' in describe(['mug'], model, tmp_path).failures['mug']


def test_after_failures_in_a_row_the_others_are_not_asked_for(server: ChatServer, tmp_path: Path
                                                              ) -> None:
    labels = [f'thing {number}' for number in range(40)]
    server.always = Answer(401, f'{{"error": "unknown key {KEY}"}}')
    found = describe(labels, settings(server, concurrency=3), tmp_path)
    assert list(found.failures) == labels or set(found.failures) == set(labels)
    assert 5 <= len(server.seen) <= 5 + 3 - 1  # what the others have begun with meanwhile
    assert 'not asked after 5 failures: 401: the service refused the key; set the environment ' \
        'variable OPENAI_API_KEY' == found.failures[labels[-1]]


def test_no_more_requests_are_open_than_allowed(server: ChatServer, tmp_path: Path) -> None:
    server.open.clear()
    labels = [f'thing {number}' for number in range(7)]
    results = []
    asking = threading.Thread(target=lambda: results.append(
        describe(labels, settings(server, concurrency=3), tmp_path)))
    asking.start()
    while len(server.seen) < 3:
        time.sleep(0.01)
    time.sleep(0.2)  # a fourth one would come now
    assert len(server.seen) == 3
    server.open.set()
    asking.join()
    assert len(results[0].descriptions) == 7


def test_it_stops_at_once_and_asks_no_more(server: ChatServer, tmp_path: Path) -> None:
    server.queue = [Answer()]
    server.always = Answer(500, '')
    stop = threading.Event()
    found = describe(['mug', 'cup', 'bowl'], settings(server, concurrency=1, retries=100),
                     tmp_path, lambda label: stop.set(), stop)
    assert found.descriptions == {'mug': SAID.format('mug')}
    assert found.failures == {'cup': 'stopped', 'bowl': 'stopped'}
    asked = len(server.seen)
    time.sleep(1.5)  # it would be asked again after 0.5 s
    assert len(server.seen) <= asked + 1


def test_an_answer_is_one_line_of_data_whatever_it_says(server: ChatServer, tmp_path: Path
                                                        ) -> None:
    server.queue = [Answer(200, completion(INJECTED))]
    found = describe(['mug'], settings(server), tmp_path / 'cache')
    assert found.descriptions == {'mug': CLEAN}
    entries = check_labels(['mug'], [CLEAN])
    assert entries == {'mug': Entry((CLEAN,))}
    path = tmp_path / 'list.yaml'
    path.write_text(dump(VocabularyFile(entries)))
    assert parse(str(path)).entries == entries


@pytest.mark.parametrize('said', [
    '<think>\nWhat is a mug?\n</think>\n\nA cup.', '[THINK]A mug?[/THINK]A cup.',
    '<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>A cup.',
    '<|im_start|>assistant\nA cup.<|im_end|>', '```json\n{"description": "A cup."}\n```',
    'Sure! Here is a description:\n\n**A cup.**\n\nI hope this helps!'])
def test_the_sentence_is_taken_out_of_what_is_around_it(server: ChatServer, tmp_path: Path,
                                                        said: str) -> None:
    server.queue = [Answer(200, completion(said))]
    assert describe(['mug'], settings(server), tmp_path).descriptions == {'mug': 'A cup.'}


def test_an_answer_cut_by_length_counts_as_far_as_it_is_whole(server: ChatServer, tmp_path: Path
                                                              ) -> None:
    server.queue = [Answer(200, completion('A cup. It has a ha', 'length')),
                    Answer(200, completion('A cup with a ha', 'length'))]
    found = describe(['mug', 'cup'], settings(server, concurrency=1), tmp_path)
    assert found.descriptions == {'mug': 'A cup.'}
    assert 'one that is cut off: A cup with a ha' in found.failures['cup']


def test_a_cached_answer_without_a_sentence_is_asked_for_again(server: ChatServer, tmp_path: Path
                                                               ) -> None:
    describe(['mug', 'cup'], settings(server), tmp_path)
    with sqlite3.connect(tmp_path / 'answers.sqlite') as file:
        file.execute("UPDATE answers SET answer = '<think>A mug' WHERE label = 'mug'")
    server.seen.clear()
    for _ in range(2):
        found = describe(['mug', 'cup'], settings(server), tmp_path)
        assert found.descriptions == {label: SAID.format(label) for label in ('mug', 'cup')}
    assert len(server.seen) == 1


def test_the_key_is_sent_and_never_shown(server: ChatServer, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch,
                                         caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv('OPENAI_ADMIN_KEY', 'another-secret')
    server.queue = [Answer(500, f'bad: Bearer {KEY}'), Answer(400, f'{KEY} is unknown'),
                    Answer(200, completion(f'{KEY}\x00')), Answer(200, f'{"x" * 70} {KEY}'),
                    Answer(403, f'key {KEY[:6]}...')]
    found = describe(['a', 'b', 'c', 'd'], settings(server, concurrency=1), tmp_path)
    said = [*found.failures.values(), caplog.text, repr(settings(server))]
    assert list(found.failures) == ['a', 'b', 'c', 'd']
    assert '***' in found.failures['a']
    assert 'got one with the key in it' in found.failures['b']
    assert not any(KEY[:6] in text or 'another' in text for text in said), said
    assert {headers['authorization'] for headers, _ in server.seen} == {f'Bearer {KEY}'}
    assert 'another-secret' not in str(server.seen)


ASK = """
import sys
from pathlib import Path
from vl2v_ros.words.language_model import describe, LanguageModel
describe([f'thing {number}' for number in range(200)], LanguageModel(sys.argv[1], 'test-model'),
         Path(sys.argv[2]))
"""


def test_a_kill_loses_no_answer_that_came_before(server: ChatServer, tmp_path: Path) -> None:
    known = 0
    for _ in range(2):
        process = subprocess.Popen([sys.executable, '-c', ASK, server.url, str(tmp_path)])
        while len(server.seen) < known + 20:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with sqlite3.connect(tmp_path / 'answers.sqlite') as file:
            rows = file.execute('SELECT label, answer FROM answers').fetchall()
        assert all(answer == SAID.format(label) for label, answer in rows)
        assert len(rows) >= len(set(server.asked)) - 4  # so many were being asked for
        known = len(server.seen)


@pytest.mark.parametrize('damage', ['no database', 'a folder'])
def test_a_cache_of_no_use_is_said_and_gone_without(server: ChatServer, tmp_path: Path,
                                                    damage: str, caplog: pytest.LogCaptureFixture
                                                    ) -> None:
    path = tmp_path / 'answers.sqlite'
    path.mkdir() if damage == 'a folder' else path.write_text('no database ' * 100)
    assert describe(['mug'], settings(server), tmp_path).descriptions
    assert str(path) in caplog.text
    assert 'delete it' in caplog.text
