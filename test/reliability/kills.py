"""
Kill programs at random moments, again and again: nothing is half-written, the next start works.

A program is started, killed without warning at a moment within the time that it takes, and all
files that it has written are checked; now and then, and at the end, it has to do its work to the
end. Trainer and importer are forked from a process that has their libraries, so that a random
moment is one of their work; the nodes and the renderer are processes as users start them.
"""
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
import json
import multiprocessing
import os
from pathlib import Path
from random import Random
import re
import runpy
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from typing import Any, Protocol

import cv2
import numpy as np
from reliability import seeds
from safetensors import safe_open
from support import offline_student, tiny_data
from support.ros_processes import Ros
from vl2v_msgs.srv import SetVocabulary
from vl2v_ros.images.encodings import check_whole
from vl2v_ros.words import recording
from vl2v_ros.words.recording import Recording
from vl2v_ros.words.vocabulary_file import parse
import yaml

ROOT = Path(__file__).parents[2]
UNFINISHED = re.compile(r'\..+\.[a-z0-9_]{8}')  # the folder of a file that is being written
AGAIN = 10  # after so many kills the work is done to the end
PATIENCE = 240.0  # for a whole run of a second or two, on a busy machine [s]
PYRAMID = ('v 0 0 0\nv .1 0 0\nv .1 .1 0\nv 0 .1 0\nv .05 .05 .1\n'
           'f 4 3 2 1\nf 1 2 5\nf 2 3 5\nf 3 4 5\nf 4 1 5\n')
NAMES = list(offline_student.NAMES)


class Running(Protocol):
    """A program that was started."""

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""

    def kill(self) -> None:
        """Kill it with its children, and wait for it."""


class Alone:
    """A process and its children, in a session of their own."""

    def __init__(self, command: list[object], log: Path) -> None:
        with log.open('wb') as output:
            self._process = subprocess.Popen(
                [str(word) for word in command], stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True)

    def poll(self) -> int | None:
        return self._process.poll()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _run(script: Path, arguments: list[str], log: Path, cache: Path) -> None:
    with log.open('wb') as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.environ['XDG_CACHE_HOME'] = str(cache)
    sys.modules['torch'].set_num_threads(1)
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name='__main__')


class Forked:
    """A script in a process that has its libraries already."""

    def __init__(self, script: str, arguments: list[object], log: Path, cache: Path) -> None:
        context = multiprocessing.get_context('forkserver')
        context.set_forkserver_preload(['training.distill', 'training.recordings'])
        self._process = context.Process(target=_run, args=(
            ROOT / script, [str(word) for word in arguments], log, cache))
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


@dataclass(frozen=True)
class Program:
    """
    A program to kill.

    prepare: writes what it reads into a folder.
    start: starts it; its log is folder/log.
    ready: text in the log of a program that does not end; '' if it ends.
    results: names of what it writes into the folder, removed when it is complete.
    poke: gives it something to do while it runs.
    """

    prepare: Callable[[Path], None]
    start: Callable[[Path], Running]
    ready: str = ''
    results: tuple[str, ...] = ()
    poke: Callable[[], None] = lambda: None


def check_files(folder: Path) -> int:
    """Check that every file below is whole; return how many unfinished ones lie hidden beside."""
    unfinished = 0
    for path in sorted(folder.rglob('*')):
        if any(UNFINISHED.fullmatch(part) for part in path.relative_to(folder).parts):
            unfinished += path.is_file()
        elif path.is_file() and path.suffix in CHECKS:
            try:
                CHECKS[path.suffix](path)
            except Exception as error:
                raise AssertionError(f'{path.relative_to(folder)} is half-written: {error}'
                                     ) from error
    return unfinished


def _check_sqlite(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        found, = connection.execute('PRAGMA integrity_check').fetchone()
    assert found == 'ok', found


def _check_tensors(path: Path) -> None:
    with safe_open(path, 'np') as file:
        for name in file.keys():
            file.get_tensor(name)


def _check_state(path: Path) -> None:
    import torch
    torch.load(path, map_location='cpu', weights_only=True)


def _check_yaml(path: Path) -> None:
    if path.name != 'kept.yaml':
        yaml.safe_load(path.read_text())
        return
    labels = parse(str(path)).entries  # a vocabulary that the node was given
    assert len(labels) == 4 and set(labels) <= set(NAMES), labels


CHECKS: dict[str, Callable[[Path], Any]] = {
    '.json': lambda path: json.loads(path.read_text()), '.yaml': _check_yaml,
    '.jpg': lambda path: check_whole(path.read_bytes()),
    '.png': lambda path: check_whole(path.read_bytes()), '.sqlite': _check_sqlite,
    '.safetensors': _check_tensors, '.pt': _check_state}


def finish(program: Program, folder: Path) -> float:
    """Let it do its work to the end, or until it is ready; return how long that took [s]."""
    start = time.monotonic()
    running = program.start(folder)
    while (code := running.poll()) is None and time.monotonic() < start + PATIENCE:
        if program.ready and program.ready in said(folder):
            running.kill()
            return time.monotonic() - start
        time.sleep(0.02)
    running.kill()
    assert code == 0 and not program.ready, f'ended with {code}: {said(folder)[-2000:]}'
    assert 'Traceback' not in said(folder), said(folder)[-2000:]
    return time.monotonic() - start


def said(folder: Path) -> str:
    return (folder / 'log').read_text(errors='replace') if (folder / 'log').exists() else ''


def forget(program: Program, folder: Path) -> None:
    """Remove the results, so that there is work again."""
    for name in program.results:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


def kill_often(program: Program, kills: int, rng: Random, folder: Path) -> dict[str, Any]:
    """Kill a program so many times; return the figures."""
    program.prepare(folder)
    finish(program, folder)  # what later runs find cached
    check_files(folder)
    forget(program, folder)
    whole = finish(program, folder)
    killed, complete, unfinished, start = 0, 2, 0, time.monotonic()
    while killed < kills:
        running = program.start(folder)
        end = time.monotonic() + rng.uniform(0, 1.2 * whole)
        while time.monotonic() < end and running.poll() is None:
            program.poke()
            time.sleep(0.01)
        code = running.poll()
        assert code in (None, 0), f'ended with {code}: {said(folder)[-2000:]}'
        running.kill()
        unfinished = max(unfinished, check_files(folder))
        killed += code is None
        if code is None and killed % AGAIN == 0:
            finish(program, folder)
        if code == 0 or killed % AGAIN == 0:
            complete += 1
            check_files(folder)
            forget(program, folder)
    finish(program, folder)
    return {'kills': killed, 'complete runs between': complete, 'seconds of a run': round(
        whole, 1), 'seconds': round(time.monotonic() - start), 'unfinished files, hidden': {
            'at most': unfinished, 'at the end': check_files(folder)}}


def _student(folder: Path) -> None:
    offline_student.write(folder / 'student')


def _images(folder: Path) -> None:
    (folder / 'images').mkdir(parents=True)
    for number in range(3):
        cv2.imwrite(str(folder / 'images' / f'{number}.jpg'), seeds.picture(240, 320))


def _answers(folder: Path) -> None:
    folder.mkdir(parents=True)
    rows = np.random.default_rng(0).normal(size=(6000, 64))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    digests = np.random.default_rng(1).integers(0, 256, (6000, 32), dtype=np.uint8)
    prompts = tuple(f'prompt {number}' for number in range(6000))
    recording.write(Recording('a/b', 32, 'ours', prompts, ('',) * 6000, rows, digests, rows),
                    folder / 'answers.safetensors')


def _mesh(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / 'meshes').mkdir()
    (folder / 'meshes' / 'pyramid.obj').write_text(PYRAMID)


class RosProcess:
    """A node, as Running."""

    def __init__(self, ros: Ros, module: str, parameters: dict[str, object], folder: Path) -> None:
        self._process = ros.start(module, parameters, fresh=True)
        (folder / 'log').unlink(missing_ok=True)
        (folder / 'log').symlink_to(self._process._log)

    def poll(self) -> int | None:
        return self._process._popen.poll()

    def kill(self) -> None:
        self._process._popen.kill()
        self._process.wait()


def programs(ros: Ros, rng: Random) -> dict[str, Program]:
    """Return what is killed, by name."""
    client = ros.node.create_client(SetVocabulary, 'classifier/set_vocabulary')

    def change() -> None:
        if client.service_is_ready():
            client.call_async(SetVocabulary.Request(labels=rng.sample(NAMES, 4)))

    return {
        'camera': Program(_images, lambda folder: RosProcess(ros, 'camera_node', {
            'source': folder / 'images', 'listeners': 0, 'rate': 100.0}, folder), 'px, 100 Hz'),
        'node': Program(_student, lambda folder: RosProcess(ros, 'classifier_node', {
            'checkpoint': folder / 'student/student.safetensors', 'vocabulary': 'mug, orange',
            'cache_dir': folder / 'cache', 'persist': folder / 'kept.yaml'}, folder),
            'labels images of', poke=change),
        'trainer': Program(
            lambda folder: [tiny_data.write_recipe(folder, stages=[
                {'train': 'all', 'epochs': 3, 'rate': 1e-3}], save_every=2)],
            lambda folder: Forked('training/distill.py', ['--config', folder / 'recipe.yaml'],
                                  folder / 'log', folder / 'cache'), results=('runs',)),
        'renderer': Program(_mesh, lambda folder: Alone([
            sys.executable, ROOT / 'training/render.py', '--meshes', folder / 'meshes', '--out',
            folder / 'out', '--size', 64, '--count', 4, '--heaps', 1, '--workers', 1, '--domains',
            'studio', 'dim'], folder / 'log'), results=('out',)),
        'importer': Program(_answers, lambda folder: Forked(
            'training/recordings.py', ['import', folder / 'answers.safetensors'], folder / 'log',
            folder / 'cache'), results=('cache',)),
    }
