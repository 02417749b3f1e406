"""The processes of the demo, and how long it waits for them."""
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import json
import subprocess
import sys
import time
from typing import Any

import rclpy
from rclpy.node import Node

NAMESPACE = '/demo'
START_TIMEOUT = 120.0  # time limit of the first label [s]; a first start encodes and compiles


@contextmanager
def running(module: str, parameters: dict[str, object]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a node of this package as a process of its own, in NAMESPACE, until the block ends."""
    command = [sys.executable, '-m', f'vl2v_ros.nodes.{module}', '--ros-args',
               '-r', f'__ns:={NAMESPACE}']
    for name, value in parameters.items():  # quoted: `yes` or `12` would not be strings in YAML
        quoted = value if isinstance(value, (float, int)) else json.dumps(
            str(value), ensure_ascii=False)  # rcl's YAML knows no pairs of \u
        command += ['-p', f'{name}:={quoted}']
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def spin(viewer: Node, processes: Sequence[subprocess.Popen[bytes]], seconds: float,
         until: Callable[[], object] | None = None, what: str = '') -> None:
    """
    Let the viewer work for some seconds; exit if a process has ended.

    :param until: condition that ends it sooner; exit if it is not met in time.
    :param what: name of what is waited for, for the error.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end and not (until and until()):
        rclpy.spin_once(viewer, timeout_sec=0.1)
        for process in processes:
            if process.poll() is not None:
                command: Any = process.args  # a list, see `running`
                sys.exit(f'vl2v_demo: {command[2]} ended with {process.returncode}; '
                         'see its message above')
    if until and not until():
        sys.exit(f'vl2v_demo: expected a {what} within {seconds:.0f} s, got none; see the '
                 'messages above')
