"""Storage of objects over HTTP on this machine, one that can also break."""
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
import re
import threading
from urllib.parse import unquote


class StorageServer(ThreadingHTTPServer):
    """
    Serves the files of a folder, in ranges if asked.

    faults: file -> the first answers that its GET requests have: 'cut' (half of it comes), or a
    status; the last one of 'always' is for all others.
    requests: 'METHOD file' of each request.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(('127.0.0.1', 0), Handler)
        self.folder, self.requests = folder, list[str]()
        self.faults: dict[str, list[str]] = {}
        self.always: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.server_port}/data'

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet: clients go away here."""


class Handler(BaseHTTPRequestHandler):
    server: StorageServer

    def do_HEAD(self) -> None:  # noqa: N802
        """Answer without a body."""
        self._answer('')

    def do_GET(self) -> None:  # noqa: N802
        """Answer as object storage does, but for the faults."""
        name = self._name()
        faults = self.server.faults.get(name)
        self._answer(faults.pop(0) if faults else self.server.always.get(name, ''))

    def _name(self) -> str:
        return unquote(self.path).removeprefix('/data/')

    def _answer(self, fault: str) -> None:
        name = self._name()
        self.server.requests.append(f'{self.command} {name}')
        path = self.server.folder / name
        status = int(fault) if fault.isdigit() else 200 if path.is_file() else 404
        if status != 200:
            self.send_response(status)
            self.send_header('Content-Length', '0')
            self.end_headers()
            return
        data = path.read_bytes()
        asked = re.fullmatch(r'bytes=(\d+)-(\d*)', self.headers.get('Range', ''))
        start, end = (int(asked[1]), int(asked[2] or len(data) - 1) + 1) if asked else (
            0, len(data))
        part = data[start:end]
        self.send_response(206 if asked else 200)
        self.send_header('Accept-Ranges', 'bytes')
        self.send_header('Content-Length', str(len(part)))
        if asked:
            self.send_header('Content-Range', f'bytes {start}-{start + len(part) - 1}/{len(data)}')
        self.end_headers()
        if self.command == 'GET':
            self.wfile.write(part[:len(part) // 2] if fault == 'cut' else part)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def serving(folder: Path) -> Iterator[StorageServer]:
    """Serve a folder while the block runs."""
    server = StorageServer(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
