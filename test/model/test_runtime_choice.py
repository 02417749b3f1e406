"""Which runtime is chosen, what is said of it, and what is refused."""
import ctypes
from pathlib import Path
import re
import subprocess
import sys

import numpy as np
import pytest
from support.runtimes import cosine_distances, CPU, FRAMES
import torch
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime.choose import create
from vl2v_ros.model.runtime.openvino_graph import convert
from vl2v_ros.model.runtime.precision import compiled
from vl2v_ros.model.runtime.torch_runtime import TorchRuntime

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')


def test_cpu_says_device_precision_engine_and_reason(shapes_student: Path) -> None:
    student = checkpoint.load(shapes_student)
    assert re.fullmatch(r'CPU, float32, \d+ threads?, OpenVINO \(asked for\)',
                        create(student, 'cpu', half=False).description)
    assert (TorchRuntime(student, CPU, False, 'no reason').description
            == 'CPU, float32, torch (no reason)')


def test_no_thread_is_bound_to_a_cpu(shapes_student: Path) -> None:
    made = compiled(convert(checkpoint.load(shapes_student)), 'float32', 2).get_compiled_model()
    assert made.get_property('ENABLE_CPU_PINNING') is False
    assert made.get_property('NUM_STREAMS') == 1


@without_cuda
@pytest.mark.parametrize('device', ['cpu', 'torch', pytest.param('cuda', marks=pytest.mark.cuda)])
def test_a_student_that_makes_no_numbers_is_refused(shapes_student: Path, device: str) -> None:
    student = checkpoint.load(shapes_student)
    with torch.no_grad():
        student.projector.weight.fill_(3e38)  # a number, of which a sum is none
    with pytest.raises(ValueError, match='expected embeddings that are numbers, got NaN'):
        if device == 'torch':
            TorchRuntime(student, torch.device('cpu'), False, 'test')
        else:
            create(student, device)


def test_auto_says_why_it_took_the_cpu(shapes_student: Path) -> None:
    description = create(checkpoint.load(shapes_student), half=False).description
    try:
        ctypes.CDLL('libcuda.so.1')
        built = 'finds no CUDA device' if torch.version.cuda else 'was built without CUDA'
        why = f'torch {torch.__version__} {built}'
    except OSError:
        why = 'no CUDA driver was found'
    assert description.endswith(f', OpenVINO ({why})')


ELSEWHERE = """
import os, signal, sys, threading
from pathlib import Path
import numpy as np
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == 'openvino':
            raise ImportError('openvino is blocked')
sys.meta_path.insert(0, Blocked())
from vl2v_ros.model import checkpoint
from vl2v_ros.images.frame import Frame
from vl2v_ros.model.runtime.choose import create
path = Path(sys.argv[1])
without = create(checkpoint.load(path), 'cpu')
np.save(sys.argv[4], without.embed([Frame(np.load(sys.argv[3]))]))
print(without.description)
del sys.meta_path[0]
came = []
signal.signal(signal.SIGUSR1, lambda *_: came.append(True))
runtimes = [create(checkpoint.load(path), 'cpu')]
print(runtimes[0].description)
print(sys.modules['openvino_telemetry'])
thread = threading.Thread(target=runtimes.clear)
thread.start()
thread.join()
kept = [bytearray(60_000) for _ in range(200)]  # takes the place of what was freed
os.kill(os.getpid(), signal.SIGUSR1)
print(came)
from vl2v_ros.model.runtime import graphs, precision
core = graphs.openvino.Core(sys.argv[2])
graphs.core = precision.core = lambda: core
print(create(checkpoint.load(path), 'cpu').description)
"""


@pytest.fixture(scope='module')
def elsewhere(shapes_student: Path, tmp_path_factory: pytest.TempPathFactory
              ) -> tuple[list[str], np.ndarray]:
    """
    Return what a new process says, and how it embeds FRAMES[0] without OpenVINO.

    It says what runs first without OpenVINO, then with it; whether signals come; and what runs
    where OpenVINO lacks a plug-in.
    """
    folder = tmp_path_factory.mktemp('elsewhere')
    (folder / 'plugins.xml').write_text(
        '<ie><plugins><plugin name="CPU" location="nowhere.so"></plugin></plugins></ie>')
    np.save(folder / 'frame.npy', FRAMES[0].pixels)
    done = subprocess.run([sys.executable, '-X', 'faulthandler', '-c', ELSEWHERE, shapes_student,
                           *(folder / name for name in ('plugins.xml', 'frame.npy', 'rows.npy'))],
                          capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), np.load(folder / 'rows.npy')


@pytest.mark.long
def test_torch_takes_over_where_openvino_cannot_be_imported(
        elsewhere: tuple[list[str], np.ndarray], shapes_student: Path) -> None:
    said, rows = elsewhere
    assert said[0] == ('CPU, float32, torch (asked for; OpenVINO, which is faster, cannot be '
                       'imported: openvino is blocked)')
    expected = create(checkpoint.load(shapes_student), 'cpu').embed(FRAMES[:1])
    assert cosine_distances(rows, expected).max() < 1e-3


@pytest.mark.long
def test_openvino_cannot_report_its_use(elsewhere: tuple[list[str], np.ndarray]) -> None:
    said, _ = elsewhere
    assert 'OpenVINO (' in said[1] and said[2] == 'None'


def test_signals_are_survived_after_another_thread_let_go_of_the_model(
        elsewhere: tuple[list[str], np.ndarray]) -> None:
    said, _ = elsewhere
    assert 'OpenVINO (' in said[1] and said[3] == '[True]'


def test_torch_takes_over_where_openvino_lacks_its_plug_in(
        elsewhere: tuple[list[str], np.ndarray]) -> None:
    said, = elsewhere[0][4:]
    assert said.startswith('CPU, float32, torch (asked for; OpenVINO, which is faster, cannot be '
                           'used: ')
    assert 'nowhere.so' in said


def test_without_torch_the_cpu_is_taken_and_a_gpu_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where there is a driver; the shipped student needs no torch on a CPU."""
    student = checkpoint.open_stored(
        Path(__file__).parents[2] / 'models/student.safetensors', tmp_path)
    monkeypatch.setattr('vl2v_ros.model.runtime.choose._has_driver', lambda: True)
    monkeypatch.setitem(sys.modules, 'torch', None)
    with pytest.raises(ValueError, match='needs torch, .* use cpu, or pip install torch'):
        create(student, 'cuda')
    assert 'torch cannot be imported' in create(student, half=False).description


@pytest.mark.parametrize('device', ['gpu', 'CPU', '', 'cuda:', 'cuda:x', 'cuda:-1', 'cuda:1:2',
                                    'cuda:01', 'cuda:²', 'cuda1', 'cpu:0', 'onnx', 'onnx:gpu'])
def test_unknown_device_is_refused_with_those_there_are(
        shapes_student: Path, device: str) -> None:
    with pytest.raises(ValueError) as refusal:
        create(checkpoint.load(shapes_student), device)
    assert str(refusal.value) == ("device: expected 'auto', 'cpu', 'cuda', 'cuda:N' or one of "
                                  "'onnx:cpu', 'onnx:cuda', 'onnx:tensorrt', "
                                  f'got {device!r}')


@pytest.mark.parametrize('device', [
    pytest.param('cuda', marks=without_cuda), pytest.param('cuda:0', marks=without_cuda),
    'cuda:99'])
def test_missing_cuda_device_is_refused_with_what_to_do(
        shapes_student: Path, device: str) -> None:
    with pytest.raises(ValueError) as refusal:
        create(checkpoint.load(shapes_student), device)
    assert f'expected {device!r}, but torch' in str(refusal.value)
    assert f'finds {torch.cuda.device_count()} CUDA devices' in str(refusal.value)
    assert "use 'auto' or 'cpu', or repair the driver" in str(refusal.value)
