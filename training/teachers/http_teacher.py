"""
A teacher over HTTP: a service that answers three requests.

GET {url}/teacher   -> {"identity": "a name", "width": 512, "image_size": 224}
POST {url}/images   {"images": ["<base64 of a PNG>", ...]} -> {"embeddings": [[0.1, ...], ...]}
POST {url}/texts    {"prompts": ["a photo of a cup.", ...]} -> {"embeddings": [[0.1, ...], ...],
                    "truncated": [false, ...]}

All bodies are JSON. Images are 8 bit RGB, image_size px wide and high; the service normalises
them by its own mean and std. Up to 8 requests of up to 16 images come at a time. `embeddings` has
a row for each image or prompt, in their order, of `width` numbers each; they need not be unit
rows. `truncated`, which may be left out, says which prompts were longer than the service reads.
The service changes `identity` whenever its embeddings change. 429 and 5xx mean "try again", after
`Retry-After` seconds if that is sent.
"""
import base64
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from email.message import Message
import http.client
import json
import logging
import os
import threading
from typing import Any
import urllib.error
import urllib.parse
import urllib.request

import cv2
import numpy as np
from training.teachers.teacher import CallableTeacher, unit_rows
from vl2v_ros.words.encoder import TextEmbeddings
from vl2v_ros.words.network import doubts, will_not_pass

logger = logging.getLogger(__name__)
MAX_ANSWER = 1 << 28  # of an answer [bytes]
MAX_PAUSE = 60.0  # between two attempts [s]
PART = 16  # images of a request; more are sent as several requests
AT_ONCE = 8  # requests that are under way at a time
HERE = 'localhost', '127.0.0.1', '::1'  # hosts to which bytes cost less time than making them few
# Ten times as fast as OpenCV's default; older versions of it do not know filters.
STORED = [cv2.IMWRITE_PNG_COMPRESSION, 0, *(
    [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    if hasattr(cv2, 'IMWRITE_PNG_FILTER') else [])]


class HttpTeacher(CallableTeacher):
    """
    A black box over HTTP, in the protocol above.

    It counts queries and caches prompts as every CallableTeacher; a request that is sent again
    after a failure counts once.
    """

    def __init__(self, url: str, timeout: float = 60.0, retries: int = 5,
                 key_from_env: str | None = None, pause: float = 1.0) -> None:
        """
        Ask the service what it is.

        :param url: http(s)://host/path, without the last part.
        :param timeout: time limit without a byte from the service [s].
        :param retries: number of times that a request is sent again, after 429, 5xx and broken
            connections.
        :param key_from_env: environment variable with the service's key, sent as
            `Authorization: Bearer <key>`; it is shown nowhere.
        :param pause: pause before the first retry [s]; it doubles with each further one.
        :raises ValueError: for an invalid address or key, and for answers that do not follow the
            protocol above.
        :raises ConnectionError: if the service cannot be reached, or every retry fails.
        """
        parts = urllib.parse.urlsplit(url)
        _ = parts.port  # raises ValueError if it is none
        if parts.scheme not in {'http', 'https'} or not parts.hostname or '@' in parts.netloc \
                or parts.query or parts.fragment:
            raise ValueError('teacher: expected an address like https://host/path, without user, '
                             'password and query; a key comes from an environment variable')
        self._url, self._timeout = url.rstrip('/'), timeout
        self._retries, self._pause = retries, pause
        self._key = _key(key_from_env) if key_from_env else ''
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._given_up = threading.Event()
        self._png = STORED if parts.hostname in HERE else []
        about = self._ask('teacher', None, ['identity', 'width', 'image_size'])
        super().__init__(self._images, self._texts, about['identity'], about['width'],
                         about['image_size'])

    def _images(self, pixels: np.ndarray) -> np.ndarray:
        """Ask for (B, S, S, 3) RGB, PART by PART, AT_ONCE of them at a time."""
        parts = [pixels[start:start + PART] for start in range(0, len(pixels), PART)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            asked = [pool.submit(self._part, part) for part in parts]
            try:
                for part in wait(asked, return_when=FIRST_EXCEPTION).done:
                    part.result()
            except BaseException:
                self._given_up.set()  # so that no other part waits to be sent again
                pool.shutdown(cancel_futures=True)
                self._given_up.clear()
                raise
            return np.concatenate([part.result() for part in asked])

    def _part(self, pixels: np.ndarray) -> np.ndarray:
        pngs = [cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), self._png)[1]
                for image in pixels]
        # Written by hand: `json` would look for quotes in it, which takes longer than base64.
        body = b'{"images": ["%s"]}' % b'", "'.join(base64.b64encode(png.data) for png in pngs)
        return unit_rows(self._ask('images', body, ['embeddings'])['embeddings'], len(pixels),
                         self.width, f'teacher {self.identity}: images')

    def _texts(self, prompts: list[str]) -> object:
        answer = self._ask('texts', json.dumps({'prompts': prompts}).encode(), ['embeddings'])
        return TextEmbeddings(answer['embeddings'],
                              answer.get('truncated', np.zeros(len(prompts), bool)))

    def _ask(self, path: str, body: bytes | None, expected: Sequence[str]) -> dict[str, Any]:
        """Send one request, again where that may help; return the JSON object that came."""
        pause, url = self._pause, f'{self._url}/{path}'
        for attempt in range(self._retries + 1):
            again, why = 0.0, ''
            try:
                content = self._send(url, body)
                break
            except urllib.error.HTTPError as error:
                with error:
                    why = f'{error.code} {self._shown(_words(error))}'.strip()
                if error.code != 429 and error.code < 500:
                    raise ValueError(f'{url}: the service refused: {why}; correct the address'
                                     f', the key or what is sent') from None
                again = _seconds(error.headers)
            except (OSError, http.client.HTTPException, ValueError) as error:
                said = f'{type(error).__name__}: {self._shown(str(error))}'
                why = '; '.join(filter(None, (said, doubts())))
                if will_not_pass(error):
                    raise ConnectionError(f'{url}: {why}') from None
            if attempt < self._retries:
                rest = min(max(pause, again), MAX_PAUSE)
                logger.warning('%s: %s; again in %g s', url, why, rest)
                if self._given_up.wait(rest):
                    raise ConnectionError(f'{url}: {why}; given up, as another request failed')
                pause *= 2
        else:
            raise ConnectionError(f'{url}: no answer after {self._retries + 1} attempts, at last '
                                  f'{why}; what was embedded so far is kept, so start again '
                                  'later')
        return self._parse(content, url, expected)

    def _send(self, url: str, body: bytes | None) -> bytes:
        headers = {'Accept': 'application/json', 'Content-Type': 'application/json'}
        if self._key:
            headers['Authorization'] = f'Bearer {self._key}'
        request = urllib.request.Request(url, body, headers)
        with self._opener.open(request, timeout=self._timeout) as response:
            content = response.read(MAX_ANSWER + 1)
            if response.length and len(content) <= MAX_ANSWER:  # less came than was announced
                raise http.client.IncompleteRead(content, response.length)
            return content

    def _parse(self, content: bytes, url: str, expected: Sequence[str]) -> dict[str, Any]:
        try:
            if len(content) > MAX_ANSWER:
                raise ValueError(f'more than {MAX_ANSWER} bytes')
            answer = json.loads(content)
            if not isinstance(answer, dict):
                raise ValueError(f'a {type(answer).__name__}')
            missing = [name for name in expected if name not in answer]
            if missing:
                raise ValueError(f'without {", ".join(missing)}')
        except (ValueError, RecursionError) as error:
            start = self._shown(content[:4000].decode(errors='replace'))[:80]
            raise ValueError(f'{url}: expected a JSON object with {", ".join(expected)}, got '
                             f'{start!r} ({error}); correct the address or the service') from None
        return answer

    def _shown(self, text: str) -> str:
        """Return a text as one line without the key, for messages."""
        return ' '.join((text.replace(self._key, '***') if self._key else text).split())[:200]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """urllib would send the key wherever it is sent to."""

    def redirect_request(self, *_: object) -> None:
        return None


def _key(variable: str) -> str:
    key = os.environ.get(variable, '').strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ValueError(f'teacher: expected the key of the service in the environment variable '
                         f'{variable}, which is {"no plain text" if key else "not set"}; set it')
    return key


def _words(error: urllib.error.HTTPError) -> str:
    """Return what a service says of its error, as far as it can be read."""
    try:
        return error.read(4000).decode(errors='replace')
    except (OSError, http.client.HTTPException):
        return str(error.reason)


def _seconds(headers: Message) -> float:
    """Return what Retry-After says [s], 0 where it says nothing or a date."""
    value = headers.get('Retry-After', '')
    return float(value) if value.isascii() and value.isdigit() else 0.0
