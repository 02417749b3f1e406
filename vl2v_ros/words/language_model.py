"""Ask a language model at an OpenAI-compatible endpoint for descriptions of labels."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
import logging
import math
import os
from pathlib import Path
import queue
import re
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from vl2v_ros.sqlite_table import SqliteTable
from vl2v_ros.words.answers import clean, CONTROL, read_answer
from vl2v_ros.words.network import doubts, explained

# Hosted services, Ollama, vLLM and llama.cpp share the protocol of the `openai` client. It is
# imported only when a label is asked for, because that takes a second.

logger = logging.getLogger(__name__)
# The question of paper B (Li, Fang et al., ICCV 2023).
QUESTION = ('Use a single sentence to describe the appearance and shape of {cls}. '
            'Only describe the shape and appearance.')
KEY_VARIABLE = 'OPENAI_API_KEY'
MAX_ANSWER_BYTES = 1 << 18
MAX_PAUSE = 30.0  # between two attempts [s]
GIVE_UP_AFTER = 5  # failed labels in a row; the others would fail too


@dataclass(frozen=True)
class LanguageModel:
    """The language model to ask, and how."""

    endpoint: str
    """Base URL, such as https://api.openai.com/v1 or http://localhost:11434/v1."""
    model: str  # Name of the model at the endpoint.
    question: str = QUESTION  # Question to ask; {cls} is replaced by the label.
    key_variable: str = KEY_VARIABLE
    """Name of the environment variable that holds the key; no key is sent if it is not set."""
    timeout: float = 30.0  # Time limit of one attempt [s].
    retries: int = 3  # Further attempts after 408, 409, 429, 5xx and broken connections.
    concurrency: int = 4  # Number of labels that are asked for at the same time.

    def __post_init__(self) -> None:
        """Raise ValueError for settings that cannot work."""
        check_endpoint(self.endpoint)
        check_question(self.question)
        check_key_variable(self.key_variable)
        if not self.model.strip():
            raise ValueError('language model: expected the name of a model, got a blank')
        if not (math.isfinite(self.timeout) and self.timeout > 0):
            raise ValueError(f'language model: expected a timeout above 0 s, got {self.timeout}')
        if self.retries < 0 or self.concurrency < 1:
            raise ValueError('language model: expected retries of at least 0 and a concurrency of '
                             f'at least 1, got {self.retries} and {self.concurrency}')


def check_endpoint(endpoint: str) -> None:
    """Raise ValueError for an invalid base URL; the error leaves it out, as it may hold a key."""
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in {'http', 'https'} and parts.hostname and parts.port != 0
    except ValueError:  # a port or a host that is none
        usable = False
    if not usable or '@' in parts.netloc or parts.query or parts.fragment:
        raise ValueError('endpoint of the language model: expected an address like '
                         'http://localhost:11434/v1 or https://host/v1, without user, password '
                         'and query; a key comes from an environment variable')


def check_question(question: str) -> None:
    """Raise ValueError for a question without {cls}."""
    if '{cls}' not in question:
        raise ValueError('question to the language model: expected {cls} in the place of the '
                         f'label, got {question!r:.80}')


def check_key_variable(name: str) -> None:
    """Raise ValueError for an invalid variable name; the error leaves it out: it may be a key."""
    if name and not re.fullmatch('[A-Za-z_][A-Za-z0-9_]*', name):
        raise ValueError('key variable of the language model: expected the name of an environment '
                         f'variable such as {KEY_VARIABLE}, not a key')


@dataclass(frozen=True)
class Answers:
    """
    The descriptions that were found, and the failures.

    descriptions: label -> one line of text, at most answers.MAX_LENGTH characters.
    failures: label -> why it has no description.
    """

    descriptions: dict[str, str]
    failures: dict[str, str]


def describe(labels: Sequence[str], model: LanguageModel, cache_dir: Path,
             on_answer: Callable[[str], object] | None = None,
             stop: threading.Event | None = None) -> Answers:
    """
    Ask for a description of each label that the cache has none for.

    An answer is cached at once, by label, model and question, so that no question is paid for
    twice; one without a sentence is a failure and not cached. After GIVE_UP_AFTER failures in a
    row the other labels are not asked for.

    :param cache_dir: folder of the cache, made at the first write.
    :param on_answer: receives each label when it was answered or has failed.
    :param stop: once set, this returns within 0.1 s, with the answers so far.
    :raises ValueError: for a key that is no plain text, and for proxies or certificates in the
        environment with which nothing can be asked. A failed label raises nothing.
    """
    key = _key(model.key_variable)
    stop, told = stop or threading.Event(), on_answer or (lambda label: None)
    cache = SqliteTable(cache_dir / 'answers.sqlite', 'cache of answers', 'answers',
                        ('label TEXT', 'model TEXT', 'question TEXT'), ('answer TEXT',))
    answers = Answers(_cached(cache, labels, model), {})
    for label in answers.descriptions:
        told(label)
    missing = [label for label in dict.fromkeys(labels) if label not in answers.descriptions]
    ended = threading.Event()
    results = _start(missing, model, key, cache, ended)
    try:
        for _ in missing:
            if not (result := _next(results, stop, ended)):
                break
            label, sentence, problem = result
            if sentence:
                answers.descriptions[label] = sentence
            else:
                answers.failures[label] = reason = problem
            told(label)
    finally:
        ended.set()  # running requests are not waited for: their threads end by themselves
    for label in missing:
        if label not in answers.descriptions:
            answers.failures.setdefault(label, 'stopped' if stop.is_set() else
                                        f'not asked after {GIVE_UP_AFTER} failures: {reason}')
    return answers


def _cached(cache: SqliteTable, labels: Sequence[str], model: LanguageModel) -> dict[str, str]:
    """Return the answers in the cache, without those that an older version had better refused."""
    found = {}
    for key, (answer,) in cache.read([(label, model.model, model.question)
                                      for label in labels]).items():
        try:
            found[str(key[0])] = clean(str(answer))
        except ValueError as error:
            logger.info('%s: asked again, as the cache has no sentence: %.200s', key[0], error)
    return found


def _start(labels: Sequence[str], model: LanguageModel, key: str, cache: SqliteTable,
           ended: threading.Event) -> 'queue.SimpleQueue[tuple[str, str, str]]':
    """
    Ask for labels in threads, which set `ended` after GIVE_UP_AFTER failures in a row.

    :return: the queue of (label, sentence or '', reason or '').
    """
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    results: queue.SimpleQueue[tuple[str, str, str]] = queue.SimpleQueue()
    counting, in_a_row = threading.Lock(), 0
    for label in labels:
        waiting.put(label)

    def ask_for_some(client: Any) -> None:
        nonlocal in_a_row
        while not ended.is_set():
            try:
                label = waiting.get_nowait()
            except queue.Empty:
                return
            sentence, reason = _ask(client, label, model, key, ended)
            if sentence:
                cache.write([(label, model.model, model.question, sentence)])
            results.put((label, sentence, reason))
            with counting:
                in_a_row = 0 if sentence else in_a_row + 1
                if in_a_row == GIVE_UP_AFTER:
                    ended.set()

    if labels:
        client = _client(model, key)
        for number in range(min(model.concurrency, len(labels))):
            # Daemons, so that the process does not wait for a server that does not answer.
            threading.Thread(target=ask_for_some, args=(client,), daemon=True,
                             name=f'language model {number}').start()
    return results


def _client(model: LanguageModel, key: str) -> Any:
    """Return the client of an endpoint; raises ValueError for an environment without a way."""
    import openai
    try:
        return openai.OpenAI(api_key=key or 'none', base_url=model.endpoint,
                             timeout=model.timeout, max_retries=0)
    except Exception as error:  # the client's HTTP library reads proxies and certificates here
        raise ValueError(f'the language model cannot be asked: {explained(error)}') from error


def _next(results: 'queue.SimpleQueue[tuple[str, str, str]]', stop: threading.Event,
          ended: threading.Event) -> tuple[str, str, str] | None:
    while not stop.is_set():
        last = ended.is_set()
        try:
            return results.get(timeout=0 if last else 0.1)
        except queue.Empty:
            if last:
                break
    return None


def _ask(client: Any, label: str, model: LanguageModel, key: str, ended: threading.Event
         ) -> tuple[str, str]:
    """Return a label's sentence and '', or '' and the reason why there is none."""
    import openai
    pause, reason = 0.5, ''
    for attempt in range(model.retries + 1):
        again = 0.0
        try:
            return read_answer(_send(client, label, model), key), ''
        except ValueError as error:  # an invalid answer; another one would be no better
            return '', _shown(str(error), key)
        except openai.APIStatusError as error:
            code = error.status_code
            if code in {401, 403}:  # the service's own words may hold a part of the key
                return '', (f'{code}: the service refused '
                            f'{"the key" if key else "to answer without a key"}; set the '
                            f'environment variable {model.key_variable or KEY_VARIABLE}')
            reason = _shown(f'{code} {error.body or ""}', key)
            if code == 404:
                reason += '; check the address (most end in /v1) and the name of the model'
            if code not in {408, 409, 429} and code < 500:
                return '', reason
            again = _seconds(error.response.headers.get('retry-after', ''))
        except Exception as error:  # noqa: BLE001 the client's, or its HTTP library's, of its kind
            reason = _shown(f'{error} {error.__cause__ or ""} ({type(error).__name__})', key)
            reason = '; '.join(filter(None, (reason, doubts())))
        if attempt < model.retries:
            logger.info('%s: %s; the language model is asked again', label, reason)
            if ended.wait(min(max(pause, again), MAX_PAUSE)):
                break
            pause *= 2
    return '', f'no answer in {attempt + 1} attempts, at last: {reason}'


def _send(client: Any, label: str, model: LanguageModel) -> bytes:
    """Return the body of one answer; raises ValueError if it is too long."""
    end = time.monotonic() + model.timeout
    content = b''
    with client.chat.completions.with_streaming_response.create(
            model=model.model, messages=[
                {'role': 'user', 'content': model.question.replace('{cls}', label)}]) as response:
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > MAX_ANSWER_BYTES:
                raise ValueError(f'expected one sentence, got more than {MAX_ANSWER_BYTES} bytes')
            if time.monotonic() > end:  # it comes byte by byte
                raise TimeoutError(f'not complete after {model.timeout:g} s')
    return content


def _shown(text: str, key: str) -> str:
    """Return a text as one short line without the key, for messages."""
    text = text.replace(key, '***') if key else text
    return ' '.join(CONTROL.sub(' ', text).split())[:200]


def _key(variable: str) -> str:
    key = os.environ.get(variable, '').strip() if variable else ''
    if not key.isascii() or (key and not key.isprintable()):
        raise ValueError(f'language model: expected plain text in the environment variable '
                         f'{variable}; set it to the key')
    return key


def _seconds(header: str) -> float:
    """Return the seconds of a Retry-After header, 0 if it is empty or a date."""
    return float(header) if re.fullmatch(r'\d{1,9}(\.\d+)?', header) else 0.0
