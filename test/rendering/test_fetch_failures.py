"""Fetching the YCB meshes over bad connections, with kills and full disks."""
import hashlib
from pathlib import Path
import signal
import socket
import subprocess
import sys
import time

from support.ycb_server import BANANA, command, environment, fetch, HALF, MUG, SCRIPT, Server, tree


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


def test_server_errors_are_tried_again(
        server: Server, expected: dict[str, bytes], tmp_path: Path) -> None:
    server.faults[BANANA] = ['500', '503']
    assert fetch(server, tmp_path / 'out').returncode == 0
    assert [status for *_, status in server.requests] == [500, 503, 200, 200]
    assert tree(tmp_path / 'out') == expected


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
