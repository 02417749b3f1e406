"""training/fetch_ycb.py against a real server on this machine: faults, bad archives, kills."""
from collections.abc import Iterator, Mapping
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import io
import json
import os
from pathlib import Path
import random
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time

import pytest

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


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = '') -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, 4 if kind == tarfile.REGTYPE else 0
    return info


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


@pytest.fixture
def expected(server: Server, tmp_path: Path) -> dict[str, bytes]:
    """Return what one run without faults writes."""
    done = fetch(server, tmp_path / 'expected')
    assert done.returncode == 0, done.stderr
    server.requests.clear()
    return tree(tmp_path / 'expected')


def test_a_whole_run_and_a_second_one(server: Server, tmp_path: Path) -> None:
    done = fetch(server, tmp_path)
    assert done.returncode == 0, done.stderr
    assert '2 downloaded, 0 failed' in done.stdout
    assert 'ETag match' in done.stdout
    files = tree(tmp_path)
    names = {f'{name}/google_16k/{file}' for name in (BANANA, MUG)
             for file in ('textured.obj', 'textured.mtl', 'texture_map.png')}
    assert files.keys() == names | {'checksums.json', 'credit.json'}  # and nothing left over
    sums = json.loads(files['checksums.json'])
    assert sums[MUG]['sha256'] == hashlib.sha256(server.archives[MUG]).hexdigest()
    assert all(hashlib.sha256(files[f'{MUG}/{file}']).hexdigest() == digest
               for file, digest in sums[MUG]['files'].items())
    assert (tmp_path / MUG / 'google_16k' / 'textured.obj').stat().st_mode & 0o400

    server.requests.clear()
    again = fetch(server, tmp_path)
    assert (again.returncode, server.requests) == (0, [])
    assert '2 already there, 0 failed' in again.stdout
    assert tree(tmp_path) == files


def test_the_renderer_finds_the_meshes_and_the_licence(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    code = ('import json, sys; from pathlib import Path; '
            'from training.rendering import dataset_files, meshes;'
            'folder = Path(sys.argv[1]); found = meshes.find_meshes(folder);'
            'print(json.dumps([[[m.name, m.path.name, m.texture.name] for m in found],'
            'dataset_files.credit_of(folder, ["x"])]))')
    done = subprocess.run([sys.executable, '-c', code, str(tmp_path)], cwd=ROOT,
                          capture_output=True, text=True, timeout=60, check=True)
    found, credit = json.loads(done.stdout)
    assert found == [[name, 'textured.obj', 'texture_map.png'] for name in (BANANA, MUG)]
    assert credit['licence'] == 'CC BY 4.0'
    assert 'YCB Object and Model Set' in credit['attribution']


def test_a_broken_connection_is_resumed(
        server: Server, expected: dict[str, bytes], tmp_path: Path) -> None:
    server.faults[BANANA] = ['break']
    assert fetch(server, tmp_path / 'out').returncode == 0
    assert server.requests[:2] == [(BANANA, None, 200), (BANANA, f'bytes={HALF}-', 206)]
    assert tree(tmp_path / 'out') == expected


def test_a_server_that_ignores_ranges(
        server: Server, expected: dict[str, bytes], tmp_path: Path) -> None:
    server.ranges, server.faults[BANANA] = False, ['break']
    assert fetch(server, tmp_path / 'out').returncode == 0
    assert server.requests[:2] == [(BANANA, None, 200), (BANANA, f'bytes={HALF}-', 200)]
    assert tree(tmp_path / 'out') == expected


def test_it_gives_up_on_a_connection_that_always_breaks(server: Server, tmp_path: Path) -> None:
    server.ranges, server.faults[BANANA] = False, ['break'] * 9
    done = fetch(server, tmp_path)
    assert done.returncode == 1
    assert f'failed: {BANANA}: ConnectionError: the connection ended after {HALF}' in done.stderr
    assert (tmp_path / MUG).is_dir()
    assert not (tmp_path / BANANA).exists()


def test_a_file_that_changed_meanwhile_is_not_mixed(
        server: Server, expected: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / 'out'
    (out / '.fetch').mkdir(parents=True)
    (out / '.fetch' / f'{MUG}.tgz').write_bytes(b'of an older archive')
    (out / '.fetch' / f'{MUG}.etag').write_text('"older"')
    assert fetch(server, out).returncode == 0
    assert server.requests[1] == (MUG, 'bytes=19-', 200)
    assert tree(out) == expected


def test_one_that_is_missing_does_not_stop_the_others(server: Server, tmp_path: Path) -> None:
    del server.archives[BANANA]
    done = fetch(server, tmp_path)
    assert done.returncode == 1
    assert f'failed: {BANANA}: 404 Not Found: {server.url}/{BANANA}_google_16k.tgz' in done.stderr
    assert '1 downloaded, 1 failed' in done.stdout
    assert [name for name, *_ in server.requests] == [BANANA, MUG]  # no retry
    assert (tmp_path / MUG / 'google_16k' / 'textured.obj').is_file()


def test_server_errors_are_tried_again(
        server: Server, expected: dict[str, bytes], tmp_path: Path) -> None:
    server.faults[BANANA] = ['500', '503']
    assert fetch(server, tmp_path / 'out').returncode == 0
    assert [status for *_, status in server.requests] == [500, 503, 200, 200]
    assert tree(tmp_path / 'out') == expected


@pytest.mark.parametrize('where', ['middle', 'end', 'cut', 'html'])
def test_a_damaged_archive_is_not_kept(server: Server, tmp_path: Path, where: str) -> None:
    good = server.archives[BANANA]
    server.archives[BANANA] = {
        'middle': good[:HALF] + bytes(8) + good[HALF + 8:],
        'end': good[:-8] + bytes(8), 'cut': good[:HALF], 'html': b'<html>log in</html>'}[where]
    done = fetch(server, tmp_path)
    assert done.returncode == 1
    assert f'failed: {BANANA}: damaged archive' in done.stderr
    assert not (tmp_path / BANANA).exists()
    assert not (tmp_path / '.fetch' / f'{BANANA}.tgz').exists()
    server.archives[BANANA] = good
    assert fetch(server, tmp_path).returncode == 0
    assert not (tmp_path / '.fetch').exists()


def test_a_wrong_etag_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.tags = {BANANA: f'"{"0" * 32}"', MUG: f'"{"0" * 32}-2"'}  # MUG's says nothing
    done = fetch(server, tmp_path)
    assert done.returncode == 1
    assert f'failed: {BANANA}: damaged: its MD5 is not the ETag' in done.stderr
    assert f'{MUG}: 0.2 MB, size and gzip checksum match' in done.stdout


@pytest.mark.parametrize('evil', [
    member('../evil'), member(f'{BANANA}/google_16k/../../../evil'), member('/tmp/ycb_evil'),
    member(f'{BANANA}/google_16k/a.png', tarfile.SYMTYPE, '/etc/passwd'),
    member(f'{BANANA}/google_16k/b.png', tarfile.LNKTYPE, '../../../evil'),
    member(f'{BANANA}/google_16k/c', tarfile.FIFOTYPE)], ids=lambda info: info.name)
def test_unsafe_archives_are_refused(
        server: Server, tmp_path: Path, evil: tarfile.TarInfo) -> None:
    server.archives[BANANA] = tgz(BANANA, evil)
    done = fetch(server, tmp_path / 'a' / 'out')
    assert done.returncode == 1
    assert f'failed: {BANANA}: unsafe archive: {evil.name!r}' in done.stderr
    assert not (tmp_path / 'a' / 'out' / BANANA).exists()
    assert not [*tmp_path.rglob('evil'), *Path('/tmp').glob('ycb_evil')]
    assert (tmp_path / 'a' / 'out' / MUG).is_dir()


def test_a_file_that_changed_on_disk_is_fetched_again(
        server: Server, expected: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / 'out'
    fetch(server, out)
    (out / MUG / 'google_16k' / 'textured.obj').write_text('spoilt')
    (out / MUG / 'google_16k' / 'textured.mtl').unlink()
    (out / MUG / 'mine.txt').write_text('a note of the user')
    server.requests.clear()
    done = fetch(server, out)
    assert done.returncode == 0, done.stderr
    assert f'{MUG}: google_16k/textured.mtl, google_16k/textured.obj is missing or' in done.stdout
    assert [name for name, *_ in server.requests] == [MUG]
    assert tree(out) == {**expected, f'{MUG}/mine.txt': b'a note of the user'}


def test_another_archive_than_at_first_is_refused(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    (tmp_path / MUG / 'google_16k' / 'textured.obj').unlink()
    server.archives[MUG] = tgz(MUG, member('more'))
    done = fetch(server, tmp_path)
    assert done.returncode == 1
    assert f'failed: {MUG}: {server.url}' in done.stderr
    assert 'at the first download it was' in done.stderr


def test_meshes_put_there_by_hand_are_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / MUG).mkdir()
    (tmp_path / MUG / 'mine.obj').write_text('v 0 0 0\n')
    (tmp_path / BANANA).mkdir()
    (tmp_path / BANANA / 'notes.txt').write_text('no mesh')
    done = fetch(server, tmp_path)
    assert (done.returncode, server.requests) == (1, [])
    assert '1 put there by hand, not checked, 1 failed' in done.stdout
    assert f'failed: {BANANA}: {tmp_path / BANANA} holds files but no mesh' in done.stderr


def test_without_a_network_it_says_where_meshes_go(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        url = f'http://127.0.0.1:{free.getsockname()[1]}'
    done = subprocess.run(
        [sys.executable, str(SCRIPT), '--out', str(tmp_path / 'out'), '--url', url, '--wait',
         '0.01'], env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.count('cannot reach') == 1  # not once per object
    assert f'{tmp_path}/out/<object>/google_16k/textured.obj' in done.stderr
    assert 'https://ycb-benchmarks.s3.amazonaws.com/data/google/<object>_google' in done.stderr
    assert 'Traceback' not in done.stderr


def test_kill_and_run_again(server: Server, expected: dict[str, bytes], tmp_path: Path) -> None:
    out, part = tmp_path / 'out', tmp_path / 'out' / '.fetch' / f'{MUG}.tgz'
    server.faults[MUG] = ['hang']
    process = subprocess.Popen(command(server, out), env=environment(),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    other = fetch(server, out)
    assert f'another download is writing into {out}' in other.stderr
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (out / BANANA).is_dir()
    assert not (out / MUG).exists()
    have = part.stat().st_size

    server.requests.clear()
    assert fetch(server, out).returncode == 0
    assert server.requests == [(MUG, f'bytes={have}-', 206)]
    assert tree(out) == expected


def test_killed_while_unpacking(
        server: Server, expected: dict[str, bytes], tmp_path: Path) -> None:
    work = tmp_path / 'out' / '.fetch'
    (work / MUG / 'google_16k').mkdir(parents=True)
    (work / MUG / 'google_16k' / 'half').write_bytes(b'of a file')
    (work / f'{MUG}.tgz').write_bytes(server.archives[MUG])  # which is complete
    (work / f'{MUG}.etag').write_text(f'"{hashlib.md5(server.archives[MUG]).hexdigest()}"')
    assert fetch(server, tmp_path / 'out').returncode == 0
    assert [status for name, _, status in server.requests if name == MUG] == [416]
    assert tree(tmp_path / 'out') == expected


def test_a_full_disk_stops_the_run(server: Server, tmp_path: Path) -> None:
    code = ('import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);'
            'resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000)); sys.argv = sys.argv[1:];'
            'runpy.run_path(sys.argv[0], run_name="__main__")')
    done = subprocess.run([sys.executable, '-B', '-c', code, *command(server, tmp_path)[1:]],
                          env=environment(), capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 1
    assert 'stopped: ' in done.stderr
    assert 'File too large' in done.stderr
    assert len(server.requests) == 1  # tried once
    assert fetch(server, tmp_path).returncode == 0


@pytest.mark.parametrize(('arguments', 'message'), [
    (('--objects', 'banana'), 'no google_16k mesh of banana; there are 002_master_chef_can'),
    (('--url', 'ycb.example'), "expected http:// or https://, got 'ycb.example'")])
def test_bad_arguments(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), '--out', str(tmp_path), *arguments],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert message in done.stderr
