"""A hub of models on this machine: a real HTTP server, which fails as it is told to."""
from collections.abc import Iterator
from contextlib import contextmanager
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
import threading

COMMIT = '0' * 40


class HubServer:
    """
    Offers files under any repository's name.

    files: contents by file name.
    cut: byte at which every download breaks off; None: never.
    piece: bytes after which each download breaks off; None: never.
    status: what a download is answered with instead of the file; None: the file.
    other: whether a download is other bytes than the hub names.
    asked: what was asked for, as 'METHOD name'.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.asked = files, list[str]()
        self.cut: int | None = None
        self.piece: int | None = None
        self.status: int | None = None
        self.other = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def do_HEAD(self) -> None:
                self._answer(body=False)

            def do_GET(self) -> None:
                self._answer(body=True)

            def _answer(self, body: bool) -> None:
                name = Path(self.path).name
                hub.asked.append(f'{self.command} {name}')
                content = hub.files.get(name)
                if content is None or body and hub.status:
                    self.send_response(404 if content is None else hub.status)
                    self.send_header('X-Error-Code', 'EntryNotFound' if content is None else '')
                    self.send_header('X-Repo-Commit', COMMIT)
                    self.send_header('Content-Length', '0')
                    self.end_headers()
                    return
                start = int(self.headers.get('Range', 'bytes=0-')[6:].split('-')[0]) if body else 0
                self.send_response(206 if start else 200)
                self.send_header('ETag', f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header('X-Repo-Commit', COMMIT)
                self.send_header('Content-Length', str(len(content) - start))
                if start:
                    self.send_header('Content-Range',
                                     f'bytes {start}-{len(content) - 1}/{len(content)}')
                self.end_headers()
                if body:
                    content = bytes(len(content)) if hub.other else content
                    self.wfile.write(content[start:hub.cut][:hub.piece])
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self._server.server_port}'

    @contextmanager
    def running(self) -> Iterator['HubServer']:
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
