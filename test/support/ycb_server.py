"""A server of archives as those of the YCB set, one that can also break."""
from collections.abc import Mapping
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import io
import os
from pathlib import Path
import random
import re
import subprocess
import sys
import tarfile
import threading

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / 'training' / 'fetch_ycb.py'
BANANA, MUG = '011_banana', '025_mug'
HALF = 100_000  # about half of an archive [bytes]


class Server(ThreadingHTTPServer):
    """Serves archives by object; `faults` are the first answers that an object's requests get."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), Handler)
        self.archives: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
        self.tags: dict[str, str] = {}
        self.ranges = True
        self.requests: list[tuple[str, str | None, int]] = []  # object, Range, status
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.server_port}/google'

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet: clients are killed here."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:  # noqa: N802
        """Answer as S3 does, but for the faults."""
        name = re.fullmatch(r'/google/(.*)_google_16k\.tgz', self.path)[1]
        faults = self.server.faults.get(name) or ['']
        fault, data = faults.pop(0), self.server.archives.get(name)
        asked = self.headers['Range']
        tag = self.server.tags.get(name) or f'"{hashlib.md5(data or b"").hexdigest()}"'
        start = 0
        if asked and self.server.ranges and self.headers.get('If-Range', tag) == tag:
            start = int(re.fullmatch(r'bytes=(\d+)-', asked)[1])
        status = (int(fault) if fault.isdigit() else 404 if data is None else
                  416 if start >= len(data) else 206 if start else 200)
        self.server.requests.append((name, asked, status))
        self.send_response(status)
        if status >= 400:
            self.send_header('Content-Length', '0')
            if status == 416:
                self.send_header('Content-Range', f'bytes */{len(data)}')
            self.end_headers()
            return
        self.send_header('ETag', tag)
        self.send_header('Content-Length', str(len(data) - start))
        if start:
            self.send_header('Content-Range', f'bytes {start}-{len(data) - 1}/{len(data)}')
        self.end_headers()
        self.wfile.write(data[start:HALF] if fault else data[start:])
        if fault == 'hang':
            self.server.released.wait(30)

    def version_string(self) -> str:
        """Return the Server header."""
        return 'AmazonS3'

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def tgz(name: str, *extra: tarfile.TarInfo) -> bytes:
    """Return an archive as the set's, with 200 kB that cannot be compressed."""
    noise = random.Random(name)
    files = {'textured.obj': b'mtllib textured.mtl\nv 0 0 0\n', '._textured.obj': b'junk',
             'textured.mtl': b'newmtl m\nmap_Kd texture_map.png\n',
             'texture_map.png': noise.randbytes(2 * HALF)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w:gz') as tar:
        for file, data in files.items():
            info = tarfile.TarInfo(f'./{name}/google_16k/{file}')
            info.size, info.mode = len(data), 0
            tar.addfile(info, io.BytesIO(data))
        for info in extra:
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return buffer.getvalue()


def command(server: Server, out: Path, *objects: str) -> list[str]:
    return [sys.executable, str(SCRIPT), '--out', str(out), '--url', server.url, '--retries', '2',
            '--wait', '0.01', '--objects', *(objects or (BANANA, MUG))]


def environment() -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items()
            if not name.lower().endswith('_proxy')}


def fetch(server: Server, out: Path, *objects: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(server, out, *objects), env=environment(), capture_output=True,
                          text=True, timeout=60, check=False)


def tree(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes()
            for path in out.rglob('*') if path.is_file()}
