"""
Files of a dataset, on disk or in object storage, read as streams.

The address of a dataset is s3://bucket/prefix, gs://bucket/prefix or http(s)://host/prefix. Its
files are read through fsspec, range by range, and are not kept on disk. Nothing is executed:
webdataset itself would give `pipe:` and most addresses to a shell, so it opens nothing here.
"""
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
import time
from typing import Any, TypeVar

from training.recipe import address_of
from vl2v_ros.files import brief, one_line

LIBRARIES = {'s3': 's3fs', 'gs': 'gcsfs', 'http': 'aiohttp', 'https': 'aiohttp'}  # by scheme
BLOCK = 8 << 20  # that is read ahead [bytes]
PAUSES = (1.0, 4.0, 16.0)  # before what failed is asked for again [s]
PASSING = (408, 429)  # answers of HTTP below 500 that may be others later

T = TypeVar('T')


def place_of(root: Path, name: str) -> str:
    """
    Return the path or the address of a file of a dataset.

    :raises ValueError: for an address of another kind than those above.
    """
    address = address_of(root)
    if not address:
        return str(root / name)
    scheme, _, rest = address.partition('://')
    if scheme not in LIBRARIES or not rest:
        raise ValueError(f'{address}: expected a folder, or an address such as s3://bucket/prefix '
                         f'({", ".join(f"{known}://" for known in LIBRARIES)}), got '
                         f'{brief(scheme)}; nothing else is opened, and no command is run')
    if set('@?#') & set(rest):
        raise ValueError(f'{scheme}://...: expected an address without user, password and query; '
                         'credentials come from where the library of the storage looks for them')
    return f'{address.rstrip("/")}/{name}'


def read(place: str) -> bytes:
    """Return the content of a file; raises OSError, and ValueError without the library."""
    with opened(place) as file:
        return file.read()


@contextmanager
def opened(place: str) -> Iterator[Any]:
    """Yield a file that can be read from its start to its end; raises as `read` does."""
    if '://' not in place:
        with open(place, 'rb') as local:
            yield local
        return
    system = _file_system(place)
    file = _patiently(lambda: system.open(place, 'rb', block_size=BLOCK, cache_type='readahead'))
    try:
        yield _Stream(place, file)
    finally:
        file.close()


class _Stream:
    """A file in object storage; a range that does not come is asked for again."""

    def __init__(self, place: str, file: Any) -> None:
        self._place, self._file = place, file

    def read(self, size: int = -1) -> bytes:
        return _patiently(lambda: self._file.read(size))

    def __str__(self) -> str:
        return self._place


def _file_system(place: str) -> Any:
    scheme, version = place.partition('://')[0], ''
    try:
        import fsspec
        version = f'=={fsspec.__version__}' if scheme in ('s3', 'gs') else ''  # theirs, too
        # Of the environment: proxies, which this library alone does not look for by itself.
        settings = {'client_kwargs': {'trust_env': True}} if scheme.startswith('http') else {}
        return fsspec.filesystem(scheme, **settings)
    except ImportError as error:
        raise ValueError(f'expected the Python package {LIBRARIES[scheme]}, which reads '
                         f'{scheme}://, found none ({one_line(error)}); .venv/bin/pip install '
                         f'{LIBRARIES[scheme]}{version}') from error


def _patiently(do: Callable[[], T]) -> T:
    """Return what a storage answers, asked again where that may help; raises OSError."""
    for pause in (*PAUSES, 0.0):
        try:
            return do()
        except Exception as error:  # each library has errors of its own
            error = _meant(error)
            if not pause or _stays(error):
                raise OSError(_why(error)) from error
        time.sleep(pause)
    raise AssertionError('the last attempt returns or raises')


def _meant(error: Exception) -> Exception:
    """Return why fsspec takes a file on a server of HTTP for missing, be it any reason."""
    cause = error.__cause__
    http = isinstance(error, FileNotFoundError) and type(cause).__module__.startswith(
        ('aiohttp', 'asyncio', 'builtins'))
    return cause if http and isinstance(cause, Exception) else error


def _stays(error: Exception) -> bool:
    """Return whether an error would come again."""
    status = getattr(error, 'status', 0)  # of HTTP
    return (isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError, ValueError))
            or 'Credentials' in type(error).__name__
            or isinstance(status, int) and 400 <= status < 500 and status not in PASSING)


def _why(error: Exception) -> str:
    said = one_line(getattr(error, 'strerror', None) or error) or type(error).__name__
    if isinstance(error, FileNotFoundError) or getattr(error, 'status', 0) == 404:
        return f'expected a file, found none ({said}); correct the address, or write it there'
    if (isinstance(error, PermissionError) or 'Credentials' in type(error).__name__
            or getattr(error, 'status', 0) in (401, 403)):
        return (f'expected to be allowed to read it, was refused ({said}); give the credentials '
                'that docs/training_at_scale.md names')
    return f'{said} ({type(error).__name__})'
