"""Damage files at random, the same way for the same seed: bytes, texts, JSON and safetensors."""
from collections.abc import Callable
from copy import deepcopy
import json
from random import Random
import re
from typing import Any

WORDS = (b'\0', b'\xff', b'\x7f', b'\x80', b'\0\0\0\0', b'\xff\xff\xff\xff', b'\x7f\xff\xff\xff',
         b'\xff\xff\xff\x7f', b'\0\0\0\x80', b'\x80\0\0\0', b'\xff' * 8, b'\xff' * 7 + b'\x7f',
         b'\0\0\1\0', b'\0\0\0\1', b'\1\0\0\0')
# Small in a file, but of a thousand million items where aliases are followed.
BOMB = '[&a0 [x, x], ' + ', '.join(f'&a{level + 1} [{", ".join([f"*a{level}"] * 8)}]'
                                   for level in range(10)) + ']'
# What stands for something else in YAML, JSON, CSV or OBJ, or is large, deep or not to be shown.
TOKENS = (
    '', ' ', '\t', '0', '-1', '1e999', '-1e-999', 'nan', '.inf', 'NaN', 'Infinity', 'null', '~',
    'yes', '[]', '{}', '[[]]', '""', "'", '"', ':', ': ', '- ', '? ', '#', '|', '>', '%', '@', '`',
    '*a', '&a', '&a [*a]', '<<: 1', '!!python/object:os.system x', '!!binary x', '!!int x',
    '!!float x', '!!timestamp x', '!!set {a}', '0x', '0b2', '1_000', '2020-99-99', '12:34:56:78',
    '9' * 30, '9' * 5000, '[' * 3000, '{"a":' * 3000, '- ' * 3000, 'x' * 100_000, '\ufeff', '\0',
    '\x1b[31m', '\x7f', '\u2028', '\u202e', '\ud800', '\U0001f34c', '..', '../../x', '/',
    '/dev/null', '/1//', '-1/-1/-1', '999999999', BOMB)
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2 ** 31, 2 ** 63, 2 ** 64, 10 ** 400, 0.5, -0.5, 1e308, float('nan'),
    float('inf'), '', ' ', 'x', '\n', '\0', '\ud800', 'x' * 10_000, '/', '../..', '{', [], {},
    [[]], [None], [0], [0, 0], ['x'], {'': ''}, {'x': 1}, [[[[]]]], [1e308] * 4,
    [float('nan')] * 4)
MOST = 1 << 20  # a file that has grown beyond it is cut [bytes]


def place(size: int, rng: Random) -> int:
    """Draw a place in a file; its head and its end, where formats keep their sizes, more often."""
    where = rng.random()
    if where < 0.4:
        return rng.randrange(min(size, 256) + 1)
    return size - rng.randrange(min(size, 64) + 1) if where < 0.5 else rng.randrange(size + 1)


def mutate_bytes(data: bytes, rng: Random, others: list[bytes]) -> bytes:
    """Damage bytes in one to four places."""
    for _ in range(rng.randrange(1, 5)):
        data = rng.choice(BYTES)(data, place(len(data), rng), rng, others)[:MOST]
    return data


def _length(data: bytes, rng: Random) -> int:
    return min(len(data), int(2 ** rng.uniform(0, 14)))


def _flip(data: bytes, at: int, rng: Random, others: list[bytes]) -> bytes:
    return data[:at] + bytes(byte ^ 1 << rng.randrange(8) for byte in data[at:at + 1]
                             ) + data[at + 1:]


def _overwrite(data: bytes, at: int, rng: Random, others: list[bytes]) -> bytes:
    word = rng.choice(WORDS) if rng.random() < 0.7 else rng.randbytes(rng.randrange(1, 9))
    return data[:at] + word + data[at + len(word):]


def _insert(data: bytes, at: int, rng: Random, others: list[bytes]) -> bytes:
    return data[:at] + rng.randbytes(_length(data, rng)) + data[at:]


def _delete(data: bytes, at: int, rng: Random, others: list[bytes]) -> bytes:
    return data[:at] + data[at + _length(data, rng):]


def _repeat(data: bytes, at: int, rng: Random, others: list[bytes]) -> bytes:
    return data[:at] + data[at:at + _length(data, rng)] * rng.choice((2, 3, 100)) + data[at:]


def _clear(data: bytes, at: int, rng: Random, others: list[bytes]) -> bytes:
    length = _length(data, rng)
    return data[:at] + bytes(length) + data[at + length:]


def _cut(data: bytes, at: int, rng: Random, others: list[bytes]) -> bytes:
    return data[:at]


def _splice(data: bytes, at: int, rng: Random, others: list[bytes]) -> bytes:
    other = rng.choice(others)
    return data[:at] + other[place(len(other), rng):]


BYTES: tuple[Callable[[bytes, int, Random, list[bytes]], bytes], ...] = (
    _flip, _flip, _overwrite, _overwrite, _overwrite, _insert, _delete, _repeat, _clear, _cut,
    _splice)


def mutate_text(data: bytes, rng: Random, others: list[bytes]) -> bytes:
    """Exchange words and lines of a text, or damage its bytes."""
    if rng.random() < 0.2:
        return mutate_bytes(data, rng, others)
    text = data.decode('utf-8', 'surrogateescape')
    for _ in range(rng.randrange(1, 4)):
        parts = re.split(r'(\n)' if rng.random() < 0.4 else r'([^\w.-]+)', text)
        at = rng.randrange(len(parts))
        parts[at:at + rng.choice((0, 1, 1, 2))] = rng.choice((
            [rng.choice(TOKENS)], [rng.choice(TOKENS)], [rng.choice(TOKENS), parts[at]],
            [parts[at], *parts[at:at + 2]], [], [rng.choice(parts)]))
        text = ''.join(parts)[:MOST]
    return text.encode('utf-8', 'surrogatepass' if '\ud800' in text else 'surrogateescape')


def mutate_json(data: bytes, rng: Random, others: list[bytes]) -> bytes:
    """Exchange or remove values of JSON, or damage its text."""
    if rng.random() < 0.4:
        return mutate_text(data, rng, others)
    content = json.loads(data)
    for _ in range(rng.randrange(1, 4)):
        content = _exchange(content, rng)
    return json.dumps(content).encode()


def _exchange(value: Any, rng: Random) -> Any:
    """Change one value somewhere in it; a text that holds JSON may be changed inside."""
    if isinstance(value, (list, dict)) and value and rng.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        how = rng.random()
        if how < 0.1:
            del value[key]
        elif how < 0.15 and isinstance(value, dict):
            value[str(rng.choice(VALUES))] = value.pop(key)
        elif how < 0.2:
            value[key] = deepcopy(value[rng.choice(keys)])
        else:
            value[key] = _exchange(value[key], rng)
        return value
    if isinstance(value, str) and value.startswith('{') and rng.random() < 0.9:
        try:
            return json.dumps(_exchange(json.loads(value), rng))
        except ValueError:  # damaged before
            pass
    return deepcopy(rng.choice(VALUES))


def mutate_safetensors(data: bytes, rng: Random, others: list[bytes]) -> bytes:
    """Change the JSON in the header, whose length then is right again, or damage the bytes."""
    if rng.random() < 0.4:
        return mutate_bytes(data, rng, others)
    size = int.from_bytes(data[:8], 'little')
    header = mutate_json(data[8:8 + size], rng, [other[8:] for other in others])
    return len(header).to_bytes(8, 'little') + header + data[8 + size:]
