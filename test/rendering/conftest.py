"""A server of YCB archives."""
from collections.abc import Iterator
from pathlib import Path
import threading

import pytest
from support.ycb_server import BANANA, fetch, MUG, Server, tgz, tree


@pytest.fixture
def server() -> Iterator[Server]:
    """Serve the archives of two objects."""
    with Server() as server:
        server.archives = {name: tgz(name) for name in (BANANA, MUG)}
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def expected(server: Server, tmp_path: Path) -> dict[str, bytes]:
    """Return what one run without faults writes."""
    done = fetch(server, tmp_path / 'expected')
    assert done.returncode == 0, done.stderr
    server.requests.clear()
    return tree(tmp_path / 'expected')
