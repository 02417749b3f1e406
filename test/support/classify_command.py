"""vl2v_classify, in a process of its own, and pictures for it."""
import csv
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest
from support import shapes, warm
from vl2v_ros.command.classify import main

COMMAND = Path(sys.executable).parent / 'vl2v_classify'  # as a user starts it
PROGRAM = 'vl2v_ros/command/classify.py'
LABELS = ('red circle', 'blue square', 'green triangle', 'yellow star')


def draw(label: str, seed: int = 0, width: int = 160, height: int = 120) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB that shows a shape in its middle."""
    return shapes.draw(label, width, height, np.random.default_rng(seed), (0, 0))


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, which must be a success."""
    done = warm.run(PROGRAM, *arguments)
    assert done.returncode == 0, done.stderr
    return done


def rows(path: Path, rank: int = 1) -> list[dict[str, str]]:
    with open(path, newline='') as file:
        return [row for row in csv.DictReader(file) if int(row['rank']) == rank]


def refused(*arguments: object) -> str:
    """Run in this process what must fail with one line, and return the line."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in arguments])
    assert isinstance(end.value.code, str)
    assert '\n' not in end.value.code
    return end.value.code
