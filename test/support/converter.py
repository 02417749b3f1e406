"""The process that converts a student for another one."""
from pathlib import Path
import time

PATIENCE = 120  # [s]


def converter_of(parent: int) -> int:
    """Wait for the process that converts a student for the process `parent`; return its id."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for children in Path(f'/proc/{parent}/task').glob('*/children'):
            for pid in children.read_text().split():
                if 'openvino_graph' in Path(f'/proc/{pid}/cmdline').read_text():
                    return int(pid)
        time.sleep(0.01)
    raise AssertionError(f'process {parent} has started no conversion in {PATIENCE} s')
