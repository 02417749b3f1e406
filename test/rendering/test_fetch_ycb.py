"""training/fetch_ycb.py against a real server on this machine: what it writes, bad archives."""
import hashlib
import json
from pathlib import Path
import subprocess
import sys
import tarfile

import pytest
from support.ycb_server import BANANA, fetch, HALF, MUG, ROOT, SCRIPT, Server, tgz, tree


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = '') -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, 4 if kind == tarfile.REGTYPE else 0
    return info


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


def test_one_that_is_missing_does_not_stop_the_others(server: Server, tmp_path: Path) -> None:
    del server.archives[BANANA]
    done = fetch(server, tmp_path)
    assert done.returncode == 1
    assert f'failed: {BANANA}: 404 Not Found: {server.url}/{BANANA}_google_16k.tgz' in done.stderr
    assert '1 downloaded, 1 failed' in done.stdout
    assert [name for name, *_ in server.requests] == [BANANA, MUG]  # no retry
    assert (tmp_path / MUG / 'google_16k' / 'textured.obj').is_file()


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


@pytest.mark.parametrize(('arguments', 'message'), [
    (('--objects', 'banana'), 'no google_16k mesh of banana; there are 002_master_chef_can'),
    (('--url', 'ycb.example'), "expected http:// or https://, got 'ycb.example'")])
def test_bad_arguments(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), '--out', str(tmp_path), *arguments],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert message in done.stderr
