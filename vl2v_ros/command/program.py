"""What the commands for recordings have in common: how they end."""
from collections.abc import Iterator
from contextlib import contextmanager
import io
import signal
import sys


@contextmanager
def ending(name: str) -> Iterator[None]:
    """
    Let a command end as one of Unix does.

    SIGTERM removes incomplete files, as Ctrl-C does; `| head` ends it quietly; what cannot be
    done is one line and the exit code 1.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a label may be of any script
        sys.stdout.reconfigure(errors='backslashreplace')
    try:
        yield
    except (ValueError, OSError) as error:
        sys.exit(f'{name}: {error}')
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
