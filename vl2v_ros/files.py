"""Write files completely or not at all; find the files that come with this package."""
from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """
    Yield a temporary path; what the block writes there replaces `path` if the block succeeds.

    It has the same name, in a hidden folder beside `path`, and may become a file or a folder.

    :raises OSError: if it cannot be written; `path` is then unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f'.{path.name}.', dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        for file in temporary.rglob('*') if temporary.is_dir() else [temporary]:
            with open(file, 'rb') as written:
                os.fsync(written.fileno())
        os.replace(temporary, path)


def shown(path: Path | PurePath | str) -> str:
    """Return a path as text that can be written anywhere; bytes that are no UTF-8 are spelled."""
    return os.fsencode(path).decode('utf-8', 'backslashreplace')


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
