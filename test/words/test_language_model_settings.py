"""The settings of the language model, and its key."""
from pathlib import Path

import pytest
from support.chat_server import Answer, chat_server, ChatServer, KEY, MODEL, settings
from vl2v_ros.words.language_model import describe, LanguageModel


def test_the_key_comes_from_the_variable_that_is_named(server: ChatServer, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('OTHER_KEY', 'other')
    for label, variable in (('a', 'OTHER_KEY'), ('b', 'NOT_SET'), ('c', '')):
        describe([label], settings(server, key_variable=variable), tmp_path)
    sent = [headers['authorization'] for headers, _ in server.seen]
    assert sent == ['Bearer other', 'Bearer none', 'Bearer none']


def test_the_key_is_not_taken_elsewhere(server: ChatServer, tmp_path: Path) -> None:
    with chat_server() as other:
        server.queue = [Answer(307, '', {'Location': f'{other.url}/chat/completions'})]
        assert describe(['mug'], settings(server), tmp_path).descriptions
        assert server.seen[0][0]['authorization'] == f'Bearer {KEY}'
        assert 'authorization' not in other.seen[0][0]


@pytest.mark.parametrize('key', ['two\nlines', 'schlüssel'])
def test_a_key_of_no_use_is_refused_unseen(server: ChatServer, tmp_path: Path, key: str,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('OPENAI_API_KEY', key)
    with pytest.raises(ValueError, match='environment variable OPENAI_API_KEY') as raised:
        describe(['mug'], settings(server), tmp_path)
    assert key not in str(raised.value)
    assert server.seen == []


@pytest.mark.parametrize(('fields', 'reason'), [
    ({'endpoint': 'file:///etc/passwd'}, 'expected an address like'),
    ({'endpoint': 'localhost:11434/v1'}, 'expected an address like'),
    ({'endpoint': 'ftp://host/v1'}, 'expected an address like'),
    ({'endpoint': 'http://me:word@host/v1'}, 'expected an address like'),
    ({'endpoint': 'http://host/v1?key=word'}, 'expected an address like'),
    ({'endpoint': 'http://host:port/v1'}, 'expected an address like'),
    ({'endpoint': 'http://'}, 'expected an address like'),
    ({'endpoint': ''}, 'expected an address like'),
    ({'model': ' '}, 'name of a model'),
    ({'question': 'What is {label}?'}, r'expected \{cls\}'),
    ({'key_variable': 'sk-word'}, 'name of an environment variable'),
    ({'timeout': 0.0}, 'timeout above 0'), ({'timeout': float('nan')}, 'timeout above 0'),
    ({'retries': -1}, 'retries of at least 0'), ({'concurrency': 0}, 'concurrency of at least 1'),
])
def test_settings_that_cannot_work_are_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as raised:
        LanguageModel(**{'endpoint': 'http://host/v1', 'model': MODEL, **fields})
    assert 'word' not in str(raised.value).replace('password', '')
