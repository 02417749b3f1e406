"""Teachers over HTTP, against a real server that misbehaves as it is told."""
import base64
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import logging
from pathlib import Path
import threading

import cv2
import numpy as np
import pytest
import torch
from training.teachers.http_teacher import HttpTeacher, PART

ABOUT = {'identity': 'colours 1', 'width': 3, 'image_size': 4}
KEY = 'top-secret-key'


class Service(ThreadingHTTPServer):
    """
    Embeds an image as the colour of its first pixel, a prompt by its length.

    queue: what to answer first instead, as (status, headers, body); no status: hang up.
    seen: path, headers and body of each request.
    together: requests for images that wait for each other before they are answered.
    """

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), Handler)
        self.queue: list[tuple[int, dict[str, str], str]] = []
        self.seen: list[tuple[str, dict[str, str], dict]] = []
        self.together = threading.Barrier(1)
        self.url = f'http://127.0.0.1:{self.server_port}/v1'

    def handle_error(self, *_: object) -> None:
        """Say nothing of connections that the test made it break."""


class Handler(BaseHTTPRequestHandler):

    def do_GET(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        asked = json.loads(body) if body else {}
        self.server.seen.append((self.path, dict(self.headers), asked))
        status, headers, text = (
            self.server.queue.pop(0) if self.server.queue else (200, {}, self.answer(asked)))
        if not status:
            self.close_connection = True
            return
        content = text.encode()
        self.send_response(status)
        for name, value in {'Content-Length': str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def answer(self, asked: dict) -> str:
        if self.path == '/v1/images':
            self.server.together.wait(60)
            pngs = [np.frombuffer(base64.b64decode(image), np.uint8) for image in asked['images']]
            pixels = [cv2.imdecode(png, cv2.IMREAD_COLOR) for png in pngs]
            return json.dumps({'embeddings': [image[0, 0, ::-1].tolist() for image in pixels]})
        if self.path == '/v1/texts':
            prompts = asked['prompts']
            return json.dumps({'embeddings': [[len(prompt), 1, 0] for prompt in prompts],
                               'truncated': [len(prompt) > 4 for prompt in prompts]})
        return json.dumps(ABOUT)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def service(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setenv('TEACHER_KEY', KEY)
    with Service() as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.02,))
        thread.start()
        yield service
        service.shutdown()
        thread.join()


def connect(service: Service, retries: int = 2) -> HttpTeacher:
    return HttpTeacher(service.url, 10, retries, 'TEACHER_KEY', pause=0.01)


COLOURS = np.array([[10, 20, 30], [255, 0, 1], [7, 7, 7]], np.uint8)
IMAGES = torch.tensor(COLOURS).view(3, 3, 1, 1).expand(3, 3, 4, 4) / 255
UNIT = COLOURS / np.linalg.norm(COLOURS.astype(float), axis=1, keepdims=True)
OK = json.dumps({'embeddings': COLOURS.tolist()})


def test_images_and_prompts_are_embedded_counted_and_prompts_cached(service: Service) -> None:
    teacher = connect(service)
    assert (teacher.identity, teacher.width, teacher.image_size) == ('colours 1', 3, 4)
    assert teacher.queries == 0
    np.testing.assert_allclose(teacher.embed_images(IMAGES), UNIT, atol=1e-6)  # so RGB, exactly
    assert teacher.queries == 3
    found = teacher.encode(['bb', 'a dog', 'bb'])
    assert teacher.queries == 5
    assert found.truncated.tolist() == [False, True, False]
    np.testing.assert_allclose(found.rows[0], np.array([2, 1, 0]) / 5 ** 0.5, atol=1e-6)
    again = connect(service)
    assert again.encode(['a dog', 'bb']).truncated.tolist() == [True, False]
    assert again.queries == 0
    assert [path for path, _, _ in service.seen] == [
        '/v1/teacher', '/v1/images', '/v1/texts', '/v1/teacher']


def test_many_images_are_asked_in_parts_at_once_and_stay_in_order(service: Service) -> None:
    teacher = connect(service)
    colours = np.random.default_rng(0).integers(1, 256, (2 * PART + 3, 3), np.uint8)
    service.together = threading.Barrier(3)  # no request is answered before all three have come
    service.queue = [(503, {}, '')]  # one of them once more
    rows = teacher.embed_images(torch.tensor(colours).view(-1, 3, 1, 1).expand(-1, 3, 4, 4) / 255)
    np.testing.assert_allclose(
        rows, colours / np.linalg.norm(colours.astype(float), axis=1, keepdims=True), atol=1e-6)
    assert teacher.queries == len(colours)
    asked = [len(body['images']) for path, _, body in service.seen if path == '/v1/images']
    assert len(asked) == 4 and set(asked) == {PART, 3}

    service.together, service.queue = threading.Barrier(1), [
        (503, {'Retry-After': '30'}, ''), (403, {}, 'no more'), (503, {'Retry-After': '30'}, '')]
    with pytest.raises(ValueError, match='refused: 403 no more'):
        teacher.embed_images(torch.full((3 * PART, 3, 4, 4), 0.5))
    assert len(service.seen) <= 1 + 4 + 3  # none was sent again


@pytest.mark.parametrize('failure', [
    (429, {'Retry-After': '0'}, 'slow down'), (500, {}, 'oops'), (503, {}, ''), (0, {}, ''),
    (200, {'Content-Length': '5000'}, OK)],
    ids=['429', '500', '503', 'hung up', 'cut off'])
def test_what_may_pass_is_tried_again(
        service: Service, failure: tuple, caplog: pytest.LogCaptureFixture) -> None:
    teacher = connect(service)
    service.queue = [failure, failure]
    np.testing.assert_allclose(teacher.embed_images(IMAGES), UNIT, atol=1e-6)
    assert teacher.queries == 3
    bodies = [body for path, _, body in service.seen if path == '/v1/images']
    assert len(bodies) == 3 and bodies[0] == bodies[1] == bodies[2]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert 'again in' in caplog.text


def test_service_that_goes_on_failing_is_given_up(service: Service) -> None:
    teacher = connect(service)
    service.queue = [(500, {}, 'database down')] * 9
    with pytest.raises(ConnectionError, match='images: no answer after 3 attempts, at last 500 '
                                              'database down'):
        teacher.embed_images(IMAGES)
    assert len(service.queue) == 6


def test_missing_service_is_said(service: Service) -> None:
    service.shutdown()
    service.server_close()
    with pytest.raises(ConnectionError, match='v1/teacher: no answer after 2 attempts'):
        connect(service, retries=1)


def test_refusal_is_not_tried_again(service: Service) -> None:
    teacher = connect(service)
    service.queue = [(401, {}, 'unknown key'), (400, {}, 'x')]
    with pytest.raises(ValueError, match='images: the service refused: 401 unknown key'):
        teacher.embed_images(IMAGES)
    assert len(service.queue) == 1


@pytest.mark.parametrize(('body', 'message'), [
    ('<html>', "expected a JSON object with embeddings, got '<html>'"),
    ('[1]', 'a list'), ('{"rows": []}', 'without embeddings'),
    (json.dumps({'embeddings': [[1, 2]] * 3}), r'expected \(3, 3\) numbers.*got \(3, 2\)'),
    (json.dumps({'embeddings': [[1, 2, 3]] * 2}), r'got \(2, 3\)'),
    (json.dumps({'embeddings': 'many'}), 'got something else'),
    (json.dumps({'embeddings': [[1, 2, 3], [0, 0, 0], [1, 2, 3]]}), 'not zero, got row 1'),
    ('{"embeddings": [[1, 2, 3], [1, 2, 3], [1, NaN, 3]]}', 'finite rows.*got row 2')])
def test_answers_that_are_no_embeddings_are_refused(
        service: Service, body: str, message: str) -> None:
    teacher = connect(service)
    service.queue = [(200, {}, body)]
    with pytest.raises(ValueError, match=message):
        teacher.embed_images(IMAGES)


def test_bad_prompt_answers_are_not_cached(service: Service) -> None:
    teacher = connect(service)
    service.queue = [(200, {}, json.dumps({'embeddings': [[0, 0, 0]]}))]
    with pytest.raises(ValueError, match='not zero'):
        teacher.encode(['bb'])
    assert teacher.encode(['bb']).rows[0, 0] > 0.8
    assert teacher.queries == 2


@pytest.mark.parametrize(('about', 'message'), [
    ({'identity': 'x', 'width': 3}, 'without image_size'),
    ({**ABOUT, 'width': '3'}, "teacher.width: expected an integer of at least 1, got '3'"),
    ({**ABOUT, 'identity': ''}, 'teacher.identity: expected a name')])
def test_service_that_does_not_say_what_it_is_is_refused(
        service: Service, about: dict, message: str) -> None:
    service.queue = [(200, {}, json.dumps(about))]
    with pytest.raises(ValueError, match=message):
        connect(service)


def test_key_is_sent_and_never_shown(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    teacher = connect(service)
    said = []
    for answer in ((500, {}, f'bad: Bearer {KEY}'), (403, {}, f'{KEY} is unknown'),
                   (200, {}, f'{"x" * 70} {KEY}')):
        service.queue = [answer, (403, {}, '')] if answer[0] == 500 else [answer]
        with pytest.raises(ValueError) as raised:
            teacher.embed_images(IMAGES)
        said.append(str(raised.value))
    assert all(headers['Authorization'] == f'Bearer {KEY}' for _, headers, _ in service.seen)
    assert '***' in said[1] and '***' in caplog.text
    assert not any(KEY[:6] in text for text in [*said, caplog.text])


def test_key_is_not_taken_elsewhere(service: Service) -> None:
    service.queue = [(302, {'Location': f'{service.url}/elsewhere'}, '')]
    with pytest.raises(ValueError, match='refused: 302'):
        connect(service)
    assert [path for path, _, _ in service.seen] == ['/v1/teacher']


@pytest.mark.parametrize('key', ['', 'two\nlines', 'schlüssel'])
def test_key_of_no_use_is_refused_unseen(
        service: Service, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv('TEACHER_KEY', key)
    with pytest.raises(ValueError, match='environment variable TEACHER_KEY') as raised:
        connect(service)
    assert not key or key not in str(raised.value)
    assert service.seen == []


@pytest.mark.parametrize('url', ['file:///etc', 'host', 'http://me:word@host', 'http://host?key=1',
                                 'http://host:port', 'http://'])
def test_address_of_no_use_is_refused(url: str) -> None:
    with pytest.raises(ValueError) as raised:
        HttpTeacher(url)
    assert 'word' not in str(raised.value).replace('password', '')
