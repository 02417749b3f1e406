"""Programs of training as processes that have the libraries loaded already: they start at once."""
from collections.abc import Sequence
import multiprocessing
from multiprocessing.connection import wait
import os
from pathlib import Path
import runpy
import sys
from threading import Lock

# Each process is a fork of one that has imported these, and has done nothing else: no CUDA.
PROCESSES = multiprocessing.get_context('forkserver')
LOADED = ('torch', 'timm', 'lightning_fabric', 'open_clip', 'matplotlib',
          'torch.utils.tensorboard')
PROCESSES.set_forkserver_preload([*LOADED])
_ONE_AT_A_TIME = Lock()  # multiprocessing's own list of its processes is not for several threads


def run(script: Path, arguments: Sequence[object], log: Path) -> int:
    """
    Run a program to its end and return its exit code; several threads may do so.

    What it says is added to the log. Variables that a library reads once, while it is imported,
    such as OMP_NUM_THREADS, count as they were when the first program was run.
    """
    words = [str(script), *map(str, arguments)]
    process = PROCESSES.Process(target=be, args=(words, log, log))
    with _ONE_AT_A_TIME:
        process.start()
    wait([process.sentinel])
    with _ONE_AT_A_TIME:
        process.join()
    code = process.exitcode
    assert code is not None  # it has ended
    return code


def be(words: Sequence[str], stdout: Path, stderr: Path, folder: Path | None = None) -> None:
    """
    Be a program in this process, as a new Python would: its words, streams and defaults.

    :param folder: the first in which modules are searched for; None: where the script lies.
    """
    for number, path in enumerate((stdout, stderr), 1):
        with path.open('ab') as stream:
            os.dup2(stream.fileno(), number)
    multiprocessing.set_start_method(None, force=True)  # for the workers that it may start
    sys.argv[:] = words
    sys.path[0] = str(folder or Path(words[0]).parent)
    runpy.run_path(words[0], run_name='__main__')
