"""What the commands for recordings have in common: files to write, and how they end."""
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
import io
from pathlib import Path
import signal
import sys

from vl2v_ros.files import shown


def check_output(path: Path | None, inputs: Iterable[Path | None]) -> None:
    """Raise ValueError for a file to write that is among the inputs, or is a folder."""
    if path is None or not path.exists():
        return
    if any(given and given.exists() and path.samefile(given) for given in inputs):
        raise ValueError(f'{path} is an input and would be replaced; choose another name')
    if path.is_dir():
        raise ValueError(f'{path}: expected the name of a new file, got a folder that exists; '
                         'choose another name')


@contextmanager
def ending(name: str) -> Iterator[None]:
    """
    Let a command end as one of Unix does; the process is afterwards as it was.

    SIGTERM removes incomplete files, as Ctrl-C does; `| head` ends it quietly; what cannot be
    done is one line and the exit code 1.
    """
    # Left behind, SIGPIPE would end a process that writes to a client that has hung up.
    before = {signal.SIGTERM: signal.signal(
                  signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)),
              signal.SIGPIPE: signal.signal(signal.SIGPIPE, signal.SIG_DFL)}
    if isinstance(sys.stdout, io.TextIOWrapper):  # a label may be of any script
        sys.stdout.reconfigure(errors='backslashreplace')
    try:
        yield
        sys.stdout.flush()
    except ValueError as error:
        sys.exit(f'{name}: {error}')
    except OSError as error:
        sys.exit(f'{name}: ' + (f'{shown(error.filename)} cannot be read or written '
                                f'({error.strerror}); correct the path, or make room'
                                if isinstance(error.filename, str) else str(error)))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
