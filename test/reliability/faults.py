"""
Kill programs, fill disks, take things away: nothing half-written, and the next start works.

python -m reliability.faults --kills 50

Prints the figures of each case as JSON; exits with 1 if one fails. Small disks are tmpfs, which
root alone may mount; without it these cases are left out, and the output says so.
"""
import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, ExitStack
import json
import os
from pathlib import Path
from random import Random
import sqlite3
import subprocess
import sys
import tempfile
import time
from typing import Any

from reliability import memory_kills
from reliability.kills import check_files, finish, kill_often, NAMES, programs, said
from reliability.lost_node import lost_node
from support import offline_student
from support.chat_server import chat_server, MODEL
from support.ros_processes import Camera, own_domain, Process, Ros
from vl2v_msgs.srv import SetVocabulary

KILLED = ('camera', 'node', 'trainer', 'renderer', 'importer')
MEMORY = 'memory'
FULL = {'trainer': '200k', 'renderer': '48k', 'importer': '700k'}  # sizes of too small disks


class LeftOut(Exception):
    """This case cannot be tried here."""


@contextmanager
def disk(folder: Path, options: str) -> Iterator[None]:
    """Mount a small disk at a folder; raises LeftOut without the right to."""
    folder.mkdir(parents=True, exist_ok=True)
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', folder],
                      capture_output=True).returncode:
        raise LeftOut('only root may mount a disk')
    try:
        yield
    finally:
        subprocess.run(['umount', '-l', folder], check=True)


def change_disk(folder: Path, options: str) -> None:
    subprocess.run(['mount', '-o', f'remount,{options}', folder], check=True)


@contextmanager
def classifier(ros: Ros, folder: Path, *prefix: str, **parameters: object) -> Iterator[Process]:
    """Run a classifier with a student whose words are recorded beside it."""
    if not (folder / 'student').exists():
        offline_student.write(folder / 'student')
    given = {'checkpoint': folder / 'student/student.safetensors', 'vocabulary': 'mug, orange',
             'cache_dir': folder / 'cache', **parameters}
    words = [word for name, value in given.items() for word in (
        '-p', f'{name}:={json.dumps(value, default=str)}')]
    with ros.run(*prefix, sys.executable, '-m', 'vl2v_ros.nodes.classifier_node', '--ros-args',
                 *words) as process:
        process.wait_for_output('labels images of', 240)
        yield process
        assert process._popen.poll() is None, process.output
        assert 'Traceback' not in process.output, process.output


def answers(ros: Ros) -> None:
    """Check that images are answered."""
    camera = Camera(ros)
    assert camera.show().labels
    camera.close()


def change(ros: Ros, **fields: Any) -> SetVocabulary.Response:
    return ros.call(SetVocabulary, 'classifier/set_vocabulary', operation=0, **fields)


def full_disk(name: str) -> Callable[[Ros, Path], dict[str, Any]]:
    """Return the case of a program that writes to a full disk, and again after room was made."""
    def case(ros: Ros, folder: Path) -> dict[str, Any]:
        program = programs(ros, Random(0))[name]
        program.prepare(folder)
        place = folder / program.results[0]
        with disk(place, f'size={FULL[name]}'):
            running = program.start(folder)
            while running.poll() is None:
                time.sleep(0.05)
            text = said(folder).strip().splitlines()[-1]
            assert 'Traceback' not in said(folder), said(folder)[-2000:]
            assert 'No space left' in said(folder), text
            check_files(folder)
            change_disk(place, 'size=100m')
            finish(program, folder)
            check_files(folder)
        return {'it says': text.replace(f'{folder}/', '')}
    return case


def node_on_full_disk(ros: Ros, folder: Path) -> dict[str, Any]:
    """Keep vocabularies and caches on a full disk."""
    with disk(folder / 'disk', 'size=4k'):
        (folder / 'disk' / 'filler').write_bytes(bytes(4096))
        places = {'cache_dir': folder / 'disk/cache', 'persist': folder / 'disk/kept.yaml'}
        with classifier(ros, folder, **places):
            answers(ros)
            reply = change(ros, labels=NAMES[:3])
            assert reply.success and 'cannot be saved' in reply.message, reply.message
            (folder / 'disk' / 'filler').unlink()
            change_disk(folder / 'disk', 'size=100m')
            reply = change(ros, labels=NAMES[:4])
            assert reply.success and 'cannot be saved' not in reply.message, reply.message
        with classifier(ros, folder, **places) as process:
            assert 'restored the vocabulary' in process.output
            answers(ros)
        check_files(folder)
    return {'it says': reply.message}


def read_only_cache(ros: Ros, folder: Path) -> dict[str, Any]:
    """Start with a cache that cannot be written."""
    with disk(folder / 'cache', 'size=100m,ro'):
        with classifier(ros, folder) as process:
            answers(ros)
            warned = [line for line in process.output.splitlines() if 'cannot be written' in line]
        assert warned
        change_disk(folder / 'cache', 'rw')
        with classifier(ros, folder):
            answers(ros)
    return {'it says': warned[0].replace(f'{folder}/', '')[-160:]}


def full_shared_memory(ros: Ros, folder: Path) -> dict[str, Any]:
    """Start with no room in /dev/shm, where DDS would be ended by a signal."""
    if subprocess.run(['unshare', '--mount', 'true'], capture_output=True).returncode:
        raise LeftOut('only root may mount a disk')
    script = ('mount -t tmpfs -o size=64k tmpfs /dev/shm && '
              'dd if=/dev/zero of=/dev/shm/filler bs=1k count=64 2>/dev/null; exec "$@"')
    process = ros.run('unshare', '--mount', 'sh', '-c', script, 'sh', sys.executable, '-m',
                      'vl2v_ros.nodes.classifier_node')
    assert process.wait(240) == 1, process.output
    assert 'expected at least 1 MiB of room in /dev/shm' in process.output, process.output
    with classifier(ros, folder):
        answers(ros)
    return {'it says': process.output.strip()}


def hung_language_model(ros: Ros, folder: Path) -> dict[str, Any]:
    """Ask a language model that accepts and never answers."""
    os.environ['no_proxy'] = '127.0.0.1'
    with chat_server() as server, classifier(
            ros, folder, llm_endpoint=server.url, llm_model=MODEL, llm_timeout=3.0) as process:
        server.open.clear()
        reply = change(ros, labels=['mug', 'orange'], enrich=True)
        assert reply.success and reply.seconds < 5, reply
        answers(ros)  # while it waits
        process.wait_for_output('no description was found', 120)
        server.open.set()
        reply = change(ros, labels=['mug', 'orange', 'shelf'])
        assert reply.success, reply.message
        answers(ros)
    return {'seconds of the request': round(reply.seconds, 3)}


def locked_cache(ros: Ros, folder: Path) -> dict[str, Any]:
    """Start while another process holds the SQLite files exclusively."""
    (folder / 'cache').mkdir(parents=True)
    holder = sqlite3.connect(folder / 'cache/prompts.sqlite')
    holder.execute('CREATE TABLE other (x)')
    holder.execute('BEGIN EXCLUSIVE')
    start = time.monotonic()
    # A word that is not recorded, so that the cache is asked for it.
    with classifier(ros, folder) as process:
        reply = change(ros, labels=['no such word'])
        assert not reply.success, reply
        locked = [line for line in process.output.splitlines() if 'locked' in line]
        assert locked, process.output
        answers(ros)
        waited = time.monotonic() - start
        holder.rollback()
        holder.close()
        reply = change(ros, labels=NAMES[:3])
        assert reply.success, reply.message
    with classifier(ros, folder) as process:
        answers(ros)
        assert 'locked' not in process.output
    check_files(folder)
    return {'it says': locked[0].replace(f'{folder}/', '')[-160:], 'seconds': round(waited, 1)}


FAULTS: dict[str, Callable[[Ros, Path], dict[str, Any]]] = {
    **{f'full disk, {name}': full_disk(name) for name in FULL},
    'full disk, node': node_on_full_disk, 'read-only cache': read_only_cache,
    'full /dev/shm': full_shared_memory, 'hung language model': hung_language_model,
    'locked SQLite file': locked_cache, 'lost node': lost_node}


def segments() -> int:
    """Return the number of files that DDS has in shared memory."""
    return sum(1 for path in Path('/dev/shm').iterdir() if 'fast' in path.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=50, help='of each program')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', choices=(*KILLED, MEMORY, *FAULTS), help='this case alone')
    options = parser.parse_args()
    found: dict[str, Any] = {}
    failed = 0
    for name in (*KILLED, MEMORY, *FAULTS):
        if options.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory() as place, own_domain() as domain, ExitStack() as stack:
            ros = Ros(domain, Path(place))
            stack.callback(ros.close)
            folder, before, rng = Path(place) / 'work', segments(), Random(options.seed)
            try:
                if name in KILLED:
                    found[name] = kill_often(programs(ros, rng)[name], options.kills, rng, folder)
                    found[name]['files in /dev/shm more'] = segments() - before
                elif name == MEMORY:
                    folder.mkdir()
                    found[name] = memory_kills.kill_often(ros, options.kills, rng, folder)
                else:
                    found[name] = FAULTS[name](ros, folder)
            except LeftOut as error:
                found[name] = {'left out': str(error)}
            except AssertionError as error:
                found[name], failed = {'fails': str(error)[-3000:]}, failed + 1
        print(f'{name}: {json.dumps(found[name])}', flush=True)
    print(json.dumps({'kills': options.kills, 'seed': options.seed, 'cases': found}, indent=1))
    sys.exit(int(failed > 0))


if __name__ == '__main__':
    main()
