"""
Download the meshes of the YCB Object and Model Set (google_16k, CC BY 4.0), about 0.6 GB.

python training/fetch_ycb.py --out MESHES [--objects 011_banana 025_mug]

They come from the official server of the set and are stored as
MESHES/<object>/google_16k/textured.obj, where render.py finds them. The same command resumes a
download that was stopped.

The publishers state no checksums. Therefore each archive is checked by the size and the ETag (S3:
its MD5) that the server sends, and by its own gzip checksum. The first download writes the sha256
of the archive and of its files to MESHES/checksums.json, and every later run compares them.
"""
import argparse
from collections.abc import Mapping
from email.message import Message
import errno
import fcntl
import http.client
import json
import os
from pathlib import Path
import shutil
import sys
import time
from typing import Any
import urllib.error
import urllib.request

from tqdm import tqdm
from training.rendering.archives import BLOCK, compare, MESH, Refused, sha256, unpack
from vl2v_ros.files import replacing
from vl2v_ros.words.network import doubts, will_not_pass

URL = 'https://ycb-benchmarks.s3.amazonaws.com/data/google'
OBJECTS = """
002_master_chef_can 003_cracker_box 004_sugar_box 005_tomato_soup_can 006_mustard_bottle
007_tuna_fish_can 008_pudding_box 009_gelatin_box 010_potted_meat_can 011_banana 012_strawberry
013_apple 014_lemon 015_peach 016_pear 017_orange 018_plum 019_pitcher_base 021_bleach_cleanser
022_windex_bottle 024_bowl 025_mug 026_sponge 027_skillet 028_skillet_lid 029_plate 030_fork
031_spoon 032_knife 033_spatula 035_power_drill 036_wood_block 037_scissors 038_padlock
040_large_marker 042_adjustable_wrench 043_phillips_screwdriver 044_flat_screwdriver 048_hammer
050_medium_clamp 051_large_clamp 052_extra_large_clamp 053_mini_soccer_ball 054_softball
055_baseball 056_tennis_ball 057_racquetball 058_golf_ball 059_chain 061_foam_brick 062_dice
063-a_marbles 063-b_marbles 065-a_cups 065-b_cups 065-c_cups 065-d_cups 065-e_cups 065-f_cups
065-g_cups 065-h_cups 065-i_cups 065-j_cups 070-a_colored_wood_blocks 070-b_colored_wood_blocks
071_nine_hole_peg_test 072-a_toy_airplane 072-b_toy_airplane 072-c_toy_airplane
072-d_toy_airplane 072-e_toy_airplane 073-a_lego_duplo 073-b_lego_duplo 073-c_lego_duplo
073-d_lego_duplo 073-e_lego_duplo 073-f_lego_duplo 073-g_lego_duplo 077_rubiks_cube
""".split()  # those of the set that have such a mesh
CREDIT = {
    'attribution': 'YCB Object and Model Set (B. Calli, A. Singh, A. Walsman, S. Srinivasa, '
                   'P. Abbeel, A. M. Dollar: The YCB Object and Model Set, 2015), '
                   'https://www.ycbbenchmarks.com',
    'licence': 'CC BY 4.0'}
BY_HAND = (f'Without a network: get {URL}/<object>_{MESH}.tgz on another machine (--help lists '
           f'the objects) and unpack them here, so that {{out}}/<object>/{MESH}/textured.obj is '
           'there.')
TIMEOUT = 60  # without a byte from the server [s]
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


class Stop(Exception):
    """The download must stop; the message says why."""


def main() -> int:
    """Download the objects of the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f'objects: {" ".join(OBJECTS)}')
    parser.add_argument('--out', type=Path, required=True, help='folder to write the meshes into')
    parser.add_argument('--objects', nargs='+', default=OBJECTS, metavar='OBJECT',
                        help='objects to download (default: all that have a google_16k mesh)')
    parser.add_argument('--url', default=URL,
                        help='address of a mirror (default: %(default)s)')
    parser.add_argument('--retries', type=int, default=4,
                        help='retries per file (default: %(default)s)')
    parser.add_argument('--wait', type=float, default=1.0,
                        help='pause before the first retry [s]; each further retry doubles it '
                        '(default: %(default)s)')
    options = parser.parse_args()
    if unknown := sorted(set(options.objects) - set(OBJECTS)):
        parser.error(f'no {MESH} mesh of {", ".join(unknown)}; there are {", ".join(OBJECTS)}')
    if not options.url.startswith(('http://', 'https://')):
        parser.error(f'--url: expected http:// or https://, got {options.url!r}')
    failed: dict[str, str] = {}
    stopped = ''
    try:
        fetch_all(options, failed)
    except Stop as error:
        stopped = str(error)
    except OSError as error:  # of the disk
        stopped = f'{error.filename or options.out}: {error.strerror}'
    except KeyboardInterrupt:
        stopped = 'interrupted'
    for name, why in failed.items():
        print(f'failed: {name}: {why}', file=sys.stderr)
    if stopped:
        print(f'stopped: {stopped}\nThe same command resumes the download.',
              file=sys.stderr)
    return 1 if failed or stopped else 0


def fetch_all(options: argparse.Namespace, failed: dict[str, str]) -> None:
    """Download the objects; `failed` gets the reason of each failure; raises Stop, OSError."""
    out = options.out
    counts: dict[str, int] = {}
    out.mkdir(parents=True, exist_ok=True)
    lock = os.open(out, os.O_RDONLY)  # held until the process ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Stop(f'another download is writing into {out}; wait for its end') from None
    path = out / 'checksums.json'
    try:
        sums = json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise Stop(f'{path} is not JSON ({error}); repair or remove it') from error
    if not (out / 'credit.json').exists():
        write_json(out / 'credit.json', CREDIT)
    for name in tqdm(dict.fromkeys(options.objects), unit='object', disable=None):
        try:
            result = state(out / name, sums.get(name))
            if result == 'to fetch':
                fetch(name, sums, options)
                result = 'downloaded'
            counts[result] = counts.get(result, 0) + 1
        except Refused as error:
            failed[name] = str(error)
    if not failed:
        shutil.rmtree(out / '.fetch', ignore_errors=True)
    print(f'{out}: ' + ', '.join(
        f'{count} {what}' for what, count in {**counts, 'failed': len(failed)}.items()))


def state(folder: Path, entry: Mapping[str, Any] | None) -> str:
    """Return the state of an object's files, as text; raises Refused, OSError."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return 'to fetch'
    if entry is None:
        if not any([*folder.glob('*.obj'), *folder.glob(f'{MESH}/*.obj')]):
            raise Refused(f'{folder} holds files but no mesh; move them away')
        return 'put there by hand, not checked'
    wrong = [file for file, digest in entry['files'].items()
             if not (folder / file).is_file() or sha256(folder / file) != digest]
    if wrong:
        tqdm.write(f'{folder.name}: {", ".join(wrong)} is missing or has another sha256 than when '
                   'it was downloaded; it is downloaded again')
    return 'to fetch' if wrong else 'already there'


def fetch(name: str, sums: dict[str, Any], options: argparse.Namespace) -> None:
    """Download, check and unpack one object; raises Refused, Stop, OSError."""
    url = f'{options.url.rstrip("/")}/{name}_{MESH}.tgz'
    folder, work = options.out / name, options.out / '.fetch'
    archive, fresh = work / f'{name}.tgz', work / name
    shutil.rmtree(fresh, ignore_errors=True)
    work.mkdir(exist_ok=True)
    headers = download(url, archive, options)
    try:
        checked, digest, size = compare(archive, headers), sha256(archive), archive.stat().st_size
        known = sums.get(name, {}).get('sha256', digest)
        if digest != known:
            raise Refused(f'{url} has sha256 {digest}, at the first download it was {known}; if '
                          f'you trust the new one, remove {folder} and its checksums.json entry')
        files = unpack(archive, fresh)
    except Refused:
        shutil.rmtree(fresh, ignore_errors=True)
        archive.unlink()
        raise
    sums[name] = {'url': url, 'size': size, 'sha256': digest, 'checked': checked, 'files': files}
    write_json(options.out / 'checksums.json', dict(sorted(sums.items())))
    if folder.is_dir() and any(folder.iterdir()):  # mend it; files of the user's stay
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            os.replace(fresh / file, folder / file)
    else:
        os.replace(fresh, folder)
    archive.unlink()
    tqdm.write(f'{name}: {size / 1e6:.1f} MB, {checked}, sha256 {digest}')


def download(url: str, path: Path, options: argparse.Namespace) -> Message:
    """Download a file, with retries; return the headers; raises Refused, Stop, OSError."""
    most = failures = 0
    while True:
        unreachable = False
        try:
            return get(url, path)
        except urllib.error.HTTPError as error:
            why = f'{error.code} {error.reason}'
            if error.code == 416:
                path.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in {408, 429}:
                raise Refused(f'{why}: {url}') from error
        except urllib.error.URLError as error:
            why, unreachable = str(error.reason), True
            if will_not_pass(error):
                raise Stop(_unreachable(url, why, options)) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, OSError) and (error.filename or error.errno in DISK):
                raise
            why = f'{type(error).__name__}: {error}'
            if will_not_pass(error):
                raise Stop(_unreachable(url, why, options)) from error
        size = path.stat().st_size if path.exists() else 0
        failures = 1 if size > most else failures + 1  # a file that grows is never given up
        most = max(most, size)
        if failures > options.retries:
            if unreachable:
                raise Stop(_unreachable(url, why, options))
            raise Refused(f'{why} ({failures} times): {url}')
        wait = options.wait * 2 ** (failures - 1)
        tqdm.write(f'{path.stem}: {why}; again in {wait:g} s', file=sys.stderr)
        time.sleep(wait)


def _unreachable(url: str, why: str, options: argparse.Namespace) -> str:
    known = '; '.join(filter(None, (why, doubts())))
    return f'cannot reach {url}: {known}\n{BY_HAND.format(out=options.out)}'


def get(url: str, path: Path) -> Message:
    """Download the missing part of a file; raises OSError or HTTPException if it is incomplete."""
    tag_file = path.with_suffix('.etag')
    have = path.stat().st_size if path.exists() else 0
    tag = tag_file.read_text() if have and tag_file.exists() else ''
    request = urllib.request.Request(url, headers={'Accept-Encoding': 'identity'})
    if have:
        request.add_header('Range', f'bytes={have}-')
        if tag.startswith('"'):  # else it is a weak one, or none
            request.add_header('If-Range', tag)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and error.headers.get('Content-Range') == f'bytes */{have}':
            error.headers['ETag'] = tag
            return error.headers  # it was complete
        raise
    with response:
        headers = response.headers
        if response.status != 206:
            have = 0  # the server sends the whole file
        elif not headers.get('Content-Range', '').startswith(f'bytes {have}-') or (
                tag and headers.get('ETag', tag) != tag):
            path.unlink()
            raise ConnectionError('the server sent a wrong part of the file')
        total = have + int(headers['Content-Length']) if headers['Content-Length'] else None
        with path.open('ab' if have else 'wb', buffering=0) as file, tqdm(
                total=total, initial=have, desc=path.stem, unit='B', unit_scale=True,
                leave=False, disable=None) as bar:
            tag_file.write_text(headers.get('ETag', ''))
            while chunk := response.read(BLOCK):
                file.write(chunk)
                bar.update(len(chunk))
    size = path.stat().st_size
    if total is not None and size != total:
        raise ConnectionError(f'the connection ended after {size} of {total} bytes')
    return headers


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write a JSON file, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + '\n')


if __name__ == '__main__':
    sys.exit(main())
