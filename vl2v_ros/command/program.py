"""What the commands for recordings have in common: how they end."""
from collections.abc import Iterator
from contextlib import contextmanager
import io
import signal
import sys


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
    except (ValueError, OSError) as error:
        sys.exit(f'{name}: {error}')
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
