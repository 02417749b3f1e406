"""Write files whole or not at all, read JSON and YAML, find the files of this package."""
from collections.abc import Iterator
from contextlib import contextmanager, suppress
import glob
import hashlib
import json
import os
from pathlib import Path, PurePath
import reprlib
import shutil
from tempfile import TemporaryDirectory
import time
from typing import Any

LEFT = 86_400  # age of a hidden folder that nobody writes into any more [s]
MOST_SAID = 500  # characters of a library's error, or of a file, in an error of ours


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """
    Yield a temporary path; what the block writes there replaces `path` if the block succeeds.

    It has the same name, in a hidden folder beside `path`, and may become a file or a folder. A
    process that is killed leaves its folder; it is removed a day later.

    :raises OSError: if it cannot be written; `path` is then unchanged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f'.{glob.escape(path.name)}.????????'):
            with suppress(OSError):  # another process removes it
                if time.time() - left.stat().st_mtime > LEFT:
                    shutil.rmtree(left)
        beside = TemporaryDirectory(prefix=f'.{path.name}.', dir=path.parent)
    except OSError as error:  # it would name the hidden folder
        raise OSError(error.errno, error.strerror, str(path)) from error
    with beside as folder:
        temporary = Path(folder) / path.name
        yield temporary
        for file in temporary.rglob('*') if temporary.is_dir() else [temporary]:
            with open(file, 'rb') as written:
                os.fsync(written.fileno())
        os.replace(temporary, path)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    found = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()


def shown(path: Path | PurePath | str) -> str:
    """Return a path as text that can be written anywhere; bytes that are no UTF-8 are spelled."""
    return os.fsencode(path).decode('utf-8', 'backslashreplace')


def one_line(said: object) -> str:
    """Return what a library said, or what stands in a file, as one line for an error message."""
    text = ''.join(letter if letter.isprintable() else repr(letter)[1:-1]
                   for letter in ' '.join(str(said).split())[:MOST_SAID + 1])
    return text if len(text) <= MOST_SAID else f'{text[:MOST_SAID]}...'


def brief(value: object) -> str:
    """Return the `repr` of what a file holds, shortened: at most 80 characters, of any depth."""
    return f'{reprlib.repr(value):.80}'


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; raises ValueError that says why, but not which file."""
    try:
        return parse_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f'expected a JSON file: {one_line(error)}') from error


def parse_json(content: bytes) -> Any:
    """Return what a JSON file says; raises ValueError as `read_json` does."""
    try:
        return json.loads(content.decode('utf-8-sig'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'expected a JSON file: {one_line(error)}') from error


def write_json(path: Path, value: object) -> None:
    """Write a value as a JSON file, complete or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1))


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file; raises ValueError that says why, but not which file."""
    import yaml
    try:
        return yaml.safe_load(path.read_text(encoding='utf-8-sig'))
    # Values with a wrong tag, such as `!!timestamp x`, lead the library into errors of any kind.
    except (OSError, yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError,
            ArithmeticError, RecursionError) as error:
        raise ValueError(f'expected a YAML file: {one_line(error)}') from error


def share() -> Path:
    """
    Return the folder of the package's files: the checkout, or share/vl2v_ros of an installation.

    :raises ValueError: if there is no such folder.
    """
    package = Path(__file__).resolve().parent
    folders = [package.parent, *(above / 'share' / package.name for above in package.parents)]
    for folder in folders:
        if (folder / 'config' / 'vocabularies').is_dir():
            return folder
    raise ValueError(f'expected config/vocabularies beside {package} or in a share/{package.name} '
                     'above it, found none; install the package again, with pip or colcon')
