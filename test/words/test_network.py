"""Proxies and certificates that cannot be right: one line that names the variable."""
from collections.abc import Iterator
from pathlib import Path
import re
import socket
import sys

import pytest
from support.chat_server import chat_server, ChatServer, MODEL
from support.hub_server import HubServer
from support.offline_student import IDENTITY
from support.tiny_models import python
from training import enrich, fetch_ycb
from training.teachers.http_teacher import HttpTeacher
from vl2v_ros.words import open_clip_models
from vl2v_ros.words.language_model import describe, LanguageModel
from vl2v_ros.words.network import CERTIFICATES, doubts, explained, PROXIES

VARIABLES = [*PROXIES, *(name.upper() for name in PROXIES), *CERTIFICATES, 'SSL_CERT_DIR',
             'no_proxy', 'NO_PROXY']


@pytest.fixture(autouse=True)
def clear_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope='module')
def server() -> Iterator[ChatServer]:
    with chat_server() as server:
        yield server


@pytest.fixture
def junk(tmp_path: Path) -> Path:
    (tmp_path / 'junk.pem').write_text('no certificate')
    return tmp_path / 'junk.pem'


SOCKS = ('ALL_PROXY', 'socks5://me:word@127.0.0.1:1', 'ALL_PROXY names a proxy of the kind socks5')
WRONG = [
    SOCKS,
    ('ALL_PROXY', 'socks5://', 'ALL_PROXY names no proxy'),
    ('http_proxy', 'http://host:port', 'http_proxy names no proxy'),
    ('HTTPS_PROXY', 'ftp://host', 'HTTPS_PROXY names no proxy'),
    ('SSL_CERT_FILE', '/no/such.pem', 'SSL_CERT_FILE names /no/such.pem, which cannot be used'),
    ('SSL_CERT_FILE', '{junk}', 'junk.pem, which cannot be used (it holds no certificates)'),
    ('SSL_CERT_FILE', '/tmp', 'SSL_CERT_FILE names /tmp, which is a folder'),
]


@pytest.mark.parametrize(('name', 'value', 'reason'), [
    *WRONG, ('https_proxy', 'http:/host', 'https_proxy names no proxy'),
    ('SSL_CERT_DIR', '/no/such', 'SSL_CERT_DIR names /no/such, which is no folder')])
def test_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch, junk: Path, name: str,
                                value: str, reason: str) -> None:
    assert doubts() == ''
    monkeypatch.setenv(name, value.format(junk=junk))
    assert reason in doubts() and 'word' not in doubts()


@pytest.mark.parametrize(('name', 'value'), [
    ('HTTP_PROXY', 'http://me:word@host:3128'), ('https_proxy', 'host:3128'), ('ALL_PROXY', ''),
    ('SSL_CERT_FILE', ''), ('SSL_CERT_DIR', '/no/such:/tmp')])
def test_what_may_be_right_is_not_doubted(monkeypatch: pytest.MonkeyPatch, name: str, value: str
                                          ) -> None:
    monkeypatch.setenv(name, value)
    assert doubts() == ''


def test_passwords_of_proxies_are_not_shown() -> None:
    assert explained(ValueError('bad proxy http://me:word@host\nhere')) == (
        'bad proxy http://***@host here (ValueError)')


@pytest.mark.parametrize(('name', 'value', 'reason'), WRONG)
def test_the_language_model_is_not_asked(
        monkeypatch: pytest.MonkeyPatch, server: ChatServer, tmp_path: Path, junk: Path, name: str,
        value: str, reason: str) -> None:
    monkeypatch.setenv(name, value.format(junk=junk))
    with pytest.raises(ValueError, match='the language model cannot be asked: ') as raised:
        describe(['mug'], LanguageModel(server.url, MODEL), tmp_path)
    assert reason in str(raised.value)
    assert 'word' not in str(raised.value) and '\n' not in str(raised.value)


def test_enrich_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch, server: ChatServer,
                                    tmp_path: Path) -> None:
    monkeypatch.setenv(*SOCKS[:2])
    (tmp_path / 'labels.txt').write_text('mug\n')
    monkeypatch.setattr(sys, 'argv', [
        'enrich.py', '--labels', f'{tmp_path}/labels.txt', '--out', f'{tmp_path}/out.yaml',
        '--endpoint', server.url, '--model', MODEL, '--cache-dir', str(tmp_path)])
    with pytest.raises(SystemExit, match='enrich: the language model cannot .*kind socks5'):
        enrich.main()
    assert not (tmp_path / 'out.yaml').exists()


@pytest.mark.parametrize(('name', 'value', 'reason'), [
    ('http_proxy', 'socks5://me:word@127.0.0.1:1', 'http_proxy names a proxy of the kind socks5'),
    ('http_proxy', 'http://host:port', 'http_proxy names no proxy'),
    ('http_proxy', 'http:/host', 'http_proxy names no proxy')])
def test_a_teacher_and_a_download_do_not_try_again(
        monkeypatch: pytest.MonkeyPatch, server: ChatServer, tmp_path: Path, name: str, value: str,
        reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConnectionError) as raised:  # a retry would wait for an hour
        HttpTeacher(server.url, retries=1, pause=3600)
    monkeypatch.setattr(sys, 'argv', ['fetch_ycb.py', '--out', str(tmp_path), '--objects',
                                      '011_banana', '--url', server.url, '--wait', '3600'])
    assert fetch_ycb.main() == 1
    for said in str(raised.value), capsys.readouterr().err:
        assert reason in said and 'word' not in said


@pytest.mark.parametrize(('name', 'value', 'reason'), [
    ('ALL_PROXY', 'socks5://127.0.0.1:{port}', 'could not be fetched.*kind socks5'),
    ('http_proxy', 'http://host:port', 'there is no network .http_proxy names no proxy'),
    ('SSL_CERT_FILE', '/no/such.pem', 'could not be fetched.*SSL_CERT_FILE names /no/such.pem')])
def test_a_text_tower_is_not_fetched(tmp_path: Path, name: str, value: str, reason: str) -> None:
    model = open_clip_models.find(*IDENTITY.split('/'))
    with HubServer({}).running() as hub, socket.create_server(('127.0.0.1', 0)) as proxy:
        said = python(
            'from vl2v_ros.words import hub\n'
            'from vl2v_ros.words.open_clip_models import OpenClipModel\n'
            f'try:\n    hub.find({model})\n'
            'except hub.NotAtHand as error:\n    print(error)', HF_ENDPOINT=hub.url,
            HF_HOME=str(tmp_path), **{name: value.format(port=proxy.getsockname()[1])})
    line, = said.splitlines()
    assert re.search(reason, line), line
