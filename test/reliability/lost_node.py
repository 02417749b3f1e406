"""
Lose a node of a training over two: the other one says so, and the same command resumes it.

A node is an agent of torchrun with its worker; both nodes are on this machine. The one is lost at
once, as by a power cut: its processes are killed.
"""
from contextlib import suppress
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from support import tiny_data
from support.processes import wait_until
from support.ros_processes import Ros

ROOT = Path(__file__).parents[2]
PATIENCE = 240.0  # for a run of seconds, on a busy machine [s]


class Node:
    """An agent of torchrun, and its worker."""

    def __init__(self, folder: Path, number: int, port: int) -> None:
        self._log = folder / f'node{number}'
        with self._log.open('wb') as log:
            self._agent = subprocess.Popen(
                [sys.executable, '-m', 'torch.distributed.run', '--nnodes', '2',
                 '--nproc-per-node', '1', '--rdzv-backend', 'c10d', '--rdzv-id', 'two',
                 '--rdzv-endpoint', f'127.0.0.1:{port}', ROOT / 'training/distill.py', '--config',
                 folder / 'recipe.yaml'], stdout=log, stderr=subprocess.STDOUT,
                env=os.environ | {'OMP_NUM_THREADS': '1', 'XDG_CACHE_HOME': str(folder / 'cache')})

    def wait(self) -> int:
        return self._agent.wait(PATIENCE)

    def said(self) -> str:
        return self._log.read_text(errors='replace')

    def lose(self) -> None:
        """Kill all processes of the node."""
        for pid in (self._agent.pid, *_children(self._agent.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._agent.wait()


def _children(parent: int) -> list[int]:
    """Return the processes below one."""
    found = []
    with suppress(OSError):  # it has ended
        for thread in Path(f'/proc/{parent}/task').iterdir():
            for pid in map(int, (thread / 'children').read_text().split()):
                found += [pid, *_children(pid)]
    return found


def _start(folder: Path) -> list[Node]:
    """Start both nodes; the first has the meeting place."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    return [Node(folder, number, port) for number in range(2)]


def _run(folder: Path) -> bytes:
    """Train to the end, and return the student."""
    nodes = _start(folder)
    try:
        codes = [node.wait() for node in nodes]
    finally:
        for node in nodes:
            node.lose()
    assert codes == [0, 0], nodes[0].said()[-2000:] + nodes[1].said()[-2000:]
    return (folder / 'runs/tiny_seed0/student.safetensors').read_bytes()


def lost_node(ros: Ros, folder: Path) -> dict[str, Any]:
    """Lose the first node, which saves the state, or the second; compare with a whole run."""
    stages = [{'train': 'all', 'epochs': 40, 'rate': 1e-3}]
    tiny_data.write_recipe(folder / 'whole', stages=stages, save_every=4)
    start = time.monotonic()
    whole, seconds = _run(folder / 'whole'), time.monotonic() - start
    said = []
    for lost in range(2):
        place = folder / f'lost{lost}'
        tiny_data.write_recipe(place, stages=stages, save_every=4)
        nodes = _start(place)
        try:
            wait_until((place / 'runs/tiny_seed0/state.pt').exists, 'a saved state', PATIENCE)
            nodes[lost].lose()
            assert nodes[1 - lost].wait() != 0
        finally:
            for node in nodes:
                node.lose()
        lines = [line for line in nodes[1 - lost].said().splitlines() if 'distill: ' in line]
        assert lines and 'the same command on all nodes resumes' in lines[0], (
            nodes[1 - lost].said()[-2000:])
        said.append(lines[0].replace(f'{place}/', ''))
        assert _run(place) == whole, f'another student after node {lost} was lost'
    return {'it says': said, 'seconds of a run': round(seconds, 1)}
