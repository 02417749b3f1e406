"""Processes that have the libraries loaded already: seconds of a core less for each."""
import atexit
from collections.abc import Mapping, Sequence
import ctypes
import gc
import importlib
import os
from pathlib import Path
import resource
import subprocess
from tempfile import TemporaryDirectory

from huggingface_hub import constants
from training.learning import programs
from training.learning.programs import PROCESSES

ROOT = Path(__file__).parents[2]
# The node first: it says which parts of OpenVINO are not to be imported.
PROCESSES.set_forkserver_preload(['vl2v_ros.nodes.classifier_node', 'openvino', *programs.LOADED])
LIMIT = 300  # [s]
# What the C library reads before a program begins -> what mallopt(3) calls it.
MALLOPT = {'MALLOC_TRIM_THRESHOLD_': -1, 'MALLOC_TOP_PAD_': -2, 'MALLOC_MMAP_THRESHOLD_': -3}


class Program:
    """
    A program of the project in a process of its own; it has what is used of subprocess.Popen.

    Variables that a library reads once, while it is imported, count as they were at first. Where
    these or the start itself matter, start a new Python instead, as a user does.
    """

    def __init__(self, words: Sequence[object], stdout: Path, stderr: Path | None = None,
                 environment: Mapping[str, str] = os.environ, file_size: int | None = None
                 ) -> None:
        """
        Start it.

        :param words: a script, named from the repository's root on, and its arguments.
        :param stderr: another file for errors than for the rest.
        :param file_size: size that files may have [bytes], as on a full disk.
        """
        self._words = [str(word) for word in words]
        self._process = PROCESSES.Process(target=_be, args=(
            self._words, dict(environment), stdout, stderr or stdout, file_size))
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self._words, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def run(program: str, *arguments: object, environment: Mapping[str, str] = os.environ,
        file_size: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, such as training/distill.py."""
    with TemporaryDirectory() as name:
        said = [Path(name, stream) for stream in ('stdout', 'stderr')]
        process = Program([program, *arguments], *said, environment, file_size)
        try:
            code = process.wait(LIMIT)
        finally:
            process.kill()
        return subprocess.CompletedProcess(
            [program, *arguments], code, *(path.read_text(errors='replace') for path in said))


def python(script: str, *arguments: object, **environment: str) -> str:
    """Run a script and return what it prints, as support.tiny_models.python does."""
    with TemporaryDirectory() as name:
        path = Path(name, 'script.py')
        path.write_text(script)
        done = run(str(path), *arguments, environment={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout


def _be(words: Sequence[str], environment: Mapping[str, str], stdout: Path, stderr: Path,
        file_size: int | None) -> None:
    """Be the program: its variables, folder, limit and streams."""
    gc.freeze()  # what is loaded stays
    os.environ.clear()
    os.environ.update(environment)
    for name, number in MALLOPT.items():
        if name in environment:
            ctypes.CDLL(None).mallopt(number, ctypes.c_int(int(environment[name])))
    importlib.reload(constants)  # of the hub: whether and where it may be asked
    os.chdir(ROOT)
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    script = ROOT / words[0]
    # A module of vl2v_ros is run as such: beside it lie others of names that libraries have, too.
    folder = ROOT if ROOT / 'vl2v_ros' in script.parents else None
    try:
        programs.be([str(script), *words[1:]], stdout, stderr, folder)
    finally:
        atexit._run_exitfuncs()  # which multiprocessing would leave out
