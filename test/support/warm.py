"""Processes that have the libraries loaded already: 4 s of a core less for each."""
from collections.abc import Mapping
import multiprocessing
import os
from pathlib import Path
import runpy
import subprocess
import sys
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
PROCESSES = multiprocessing.get_context('forkserver')
PROCESSES.set_forkserver_preload(['torch', 'timm', 'lightning_fabric', 'open_clip', 'matplotlib',
                                  'torch.utils.tensorboard'])
LIMIT = 300  # [s]


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """
    Run a program of the project, such as training/distill.py, in a process of its own.

    Variables that a library reads once, while it is imported, count as they were at first. Where
    these or the start itself matter, start a new Python instead, as a user does.
    """
    words = [str(ROOT / program), *map(str, arguments)]
    with TemporaryDirectory() as name:
        said = [Path(name, stream) for stream in ('stdout', 'stderr')]
        process = PROCESSES.Process(target=_program, args=(words, dict(os.environ), *said))
        process.start()
        process.join(LIMIT)
        process.kill()  # if it hangs
        process.join()
        return subprocess.CompletedProcess(
            words, process.exitcode, *(path.read_text(errors='replace') for path in said))


def _program(words: list[str], environment: Mapping[str, str], *said: Path) -> None:
    """Be the program: its words, variables, folder and streams."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    for number, path in enumerate(said, 1):
        with path.open('wb') as stream:
            os.dup2(stream.fileno(), number)
    sys.argv[:] = words
    sys.path[0] = str(Path(words[0]).parent)
    runpy.run_path(words[0], run_name='__main__')
