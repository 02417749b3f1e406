"""The first start of a student on a CPU: converted once, elsewhere, without torch in here."""
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest
from support.converter import converter_of
from support.tiny_models import student
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime import graphs, outline
from vl2v_ros.model.runtime.choose import create

ROOT = Path(__file__).parents[2]
START = """
import sys
from pathlib import Path
import numpy as np
from vl2v_ros.model import checkpoint
from vl2v_ros.model.classifier import Classifier
from vl2v_ros.images.frame import Frame
try:
    runs = Classifier(checkpoint.open_stored(Path(sys.argv[1]), Path(sys.argv[2])), 'cpu')
except ValueError as error:
    sys.exit(str(error))
row = runs.embed([Frame(np.full((48, 64, 3), 99, np.uint8))])[0]
print('torch' in sys.modules, row.tolist())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a checkpoint without an outline."""
    checkpoint.save(student(), tmp_path / 'student.safetensors')
    return tmp_path / 'student.safetensors'


def begin(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, '-c', START, path, path.parent / 'graphs'],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def finish(process: subprocess.Popen[str]) -> str:
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return said


@pytest.mark.long
def test_torch_is_never_loaded_and_the_graph_is_kept(path: Path) -> None:
    stored = checkpoint.open_stored(path, path.parent / 'graphs')
    kept = graphs.cached(stored, '.graph', path.read_bytes())
    kept.parent.mkdir()
    kept.write_bytes(b'cut, as by a full disk')
    first, together = begin(path), begin(path)  # two nodes of one robot
    said = finish(first)
    assert said.startswith('False [')
    assert finish(together) == said
    written = kept.stat().st_mtime_ns
    assert finish(begin(path)) == said
    assert kept.stat().st_mtime_ns == written


def test_a_killed_conversion_is_one_line_and_leaves_nothing(path: Path) -> None:
    process = begin(path)
    os.kill(converter_of(process.pid), signal.SIGKILL)  # as a system short of memory does
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and said == ''
    assert errors.count('\n') == 1
    assert f'checkpoint {path}: its first start converts it' in errors
    assert 'was ended by SIGKILL; it needs 1 GB of memory. Free some, or' in errors
    assert not list(path.parent.glob('graphs/*'))


@pytest.mark.long
def test_the_conversion_ends_with_its_parent(path: Path) -> None:
    process = begin(path)
    converter = converter_of(process.pid)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while Path(f'/proc/{converter}').exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not list(path.parent.glob('graphs/*'))


@pytest.mark.long
def test_what_is_wrong_with_a_student_is_passed_on(path: Path) -> None:
    path.with_suffix('.graph').write_bytes(b'no outline')
    broken = student()
    broken.spec = broken.spec.__class__(**{**vars(broken.spec), 'backbone': 'no_such_model'})
    checkpoint.save(broken, path)
    stored = checkpoint.open_stored(path, path.parent / 'graphs')
    with pytest.raises(ValueError, match=f'^checkpoint {path}: bad spec in its header: expected '
                                         r'the name of a timm[^\n]*$'):
        create(stored, 'cpu')


def test_torch_takes_over_where_openvino_cannot_convert(
        path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = path.parent / 'python'
    wrapper.write_text(f'#!/bin/sh\necho "an operation is missing" >&2\nexit {outline.UNABLE}\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr(sys, 'executable', str(wrapper))
    runtime = create(checkpoint.open_stored(path, path.parent / 'graphs'), 'cpu')
    assert runtime.description == ('CPU, float32, torch (asked for; OpenVINO, which is faster, '
                                   'cannot be used: an operation is missing)')
