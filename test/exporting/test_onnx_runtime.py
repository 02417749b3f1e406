"""A student's ONNX file as one more way to run it: the same results, and clear refusals."""
from collections.abc import Callable
import csv
from pathlib import Path
import shutil
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from support.runtimes import cosine_distances, CPU, FRAMES, prototypes_of, TEMPERATURE
from training import export
from vl2v_ros.command.classify import main as classify
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime.choose import create
from vl2v_ros.model.runtime.onnx_runtime import MOST_FRAMES
from vl2v_ros.model.runtime.torch_runtime import TorchRuntime


@pytest.fixture(scope='module')
def folder(shapes_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the toy student, its text tower and its ONNX file."""
    folder = tmp_path_factory.mktemp('onnx') / 'shapes'
    shutil.copytree(shapes_student.parent, folder)
    path = folder / shapes_student.name
    export.main(['--checkpoint', str(path), '--out', str(path.with_suffix('.onnx'))])
    return folder


@pytest.fixture(scope='module')
def path(folder: Path, shapes_student: Path) -> Path:
    return folder / shapes_student.name


def stored(path: Path) -> checkpoint.StoredStudent:
    return checkpoint.open_stored(path, path.parent / 'graphs')


@pytest.mark.long
def test_it_agrees_with_torch_and_openvino(path: Path) -> None:
    runtime = create(stored(path), 'onnx:cpu')
    student = checkpoint.load(path)
    wanted = TorchRuntime(student, CPU, False, '')
    embeddings = runtime.embed(FRAMES)
    np.testing.assert_allclose(embeddings, wanted.embed(FRAMES), atol=1e-5)
    assert cosine_distances(create(student, 'cpu', False).embed(FRAMES), embeddings).max() < 1e-3
    prototypes = prototypes_of(embeddings)
    found, expected = (each.match(FRAMES, prototypes[1:], prototypes[:1], 3, TEMPERATURE)
                       for each in (runtime, wanted))
    assert np.array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.log_partition, expected.log_partition, atol=1e-3)
    many = runtime.embed([FRAMES[number % 2] for number in range(2 * MOST_FRAMES + 1)])
    np.testing.assert_allclose(many, np.resize(embeddings[:2], many.shape), atol=1e-5)


@pytest.mark.long
def test_it_runs_without_torch_and_openvino_and_says_so(path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime.choose import create
print(create(checkpoint.open_stored(Path({str(path)!r}), Path('graphs')), 'onnx:cpu').description)
print('torch' in sys.modules, 'openvino' in sys.modules)
"""
    said = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True)
    description, loaded = said.stdout.splitlines()
    assert description.startswith('CPU, float32, ')
    assert description.endswith(', ONNX Runtime (asked for)')
    assert loaded == 'False False'


def test_the_command_labels_by_it(path: Path, cache_dir: Path, tmp_path: Path) -> None:
    from PIL import Image
    Image.fromarray(FRAMES[0].pixels).save(tmp_path / 'frame.png')
    results = []
    for device in 'onnx:cpu', 'cpu':
        out = tmp_path / f'{device}.csv'
        classify([str(tmp_path / 'frame.png'), '--checkpoint', str(path), '--device', device,
                  '--labels', 'red circle, blue square', '--out', str(out)])
        with out.open() as file:
            results.append(list(csv.DictReader(file)))
    for found, wanted in zip(*results, strict=True):
        assert found['label'] == wanted['label']
        assert float(found['similarity']) == pytest.approx(float(wanted['similarity']), abs=0.01)


def damaged(content: bytes) -> bytes:
    return content[:len(content) // 2]


def of_other_shapes(content: bytes) -> bytes:
    model = onnx.load_from_string(content)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.append(onnx.helper.make_node('Identity', ['images'], ['embeddings']))
    model.graph.output[0].CopyFrom(model.graph.input[0])
    model.graph.output[0].name = 'embeddings'
    return model.SerializeToString()


def of_no_checkpoint(content: bytes) -> bytes:
    model = onnx.load_from_string(content)
    del model.metadata_props[:]
    return model.SerializeToString()


@pytest.mark.parametrize('change, said', [
    (damaged, 'expected a model that ONNX Runtime can open, found '),
    (lambda _: b'', 'expected a model that ONNX Runtime can open, found '),
    (of_other_shapes, r'expected images \[\?, 3, \d+, \d+\] tensor\(float\) -> embeddings '
                      r'\[\?, \d+\] tensor\(float\), found images \[\?, 4, '),
    (of_no_checkpoint, '.*found one that does not say of which checkpoint it is')])
def test_a_bad_file_is_refused_in_one_line(
        path: Path, tmp_path: Path, change: Callable[[bytes], bytes], said: str) -> None:
    bad = tmp_path / 'student.onnx'
    shutil.copy(path, bad.with_suffix('.safetensors'))
    bad.write_bytes(change(path.with_suffix('.onnx').read_bytes()))
    with pytest.raises(ValueError, match=f'^ONNX file {bad}: {said}') as refused:
        create(stored(bad.with_suffix('.safetensors')), 'onnx:cpu')
    assert '\n' not in str(refused.value)
    assert str(refused.value).endswith('writes it again')


def test_the_file_of_another_checkpoint_is_refused(path: Path, tmp_path: Path) -> None:
    other = tmp_path / 'student.safetensors'
    checkpoint.save(checkpoint.load(path).half(), other)
    with pytest.raises(ValueError, match=f'needs the ONNX file {other.with_suffix(".onnx")}, and '
                                         'there is none; `training/export.py --checkpoint'):
        create(stored(other), 'onnx:cpu')
    shutil.copy(path.with_suffix('.onnx'), other.with_suffix('.onnx'))
    with pytest.raises(ValueError, match='found that of another checkpoint'):
        create(stored(other), 'onnx:cpu')


def test_a_student_without_a_file_and_cells_are_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="^device: 'onnx:cpu' runs the ONNX file beside"):
        create(checkpoint.load(path), 'onnx:cpu')
    with pytest.raises(ValueError, match='to find where things are, got onnx:cpu'):
        create(stored(path), 'onnx:cpu').open_cells(stored(path))


without_gpu = pytest.mark.skipif(
    'CUDAExecutionProvider' in onnxruntime.get_available_providers(), reason='it has CUDA')


@without_gpu
@pytest.mark.parametrize('device, provider', [
    ('onnx:cuda', 'CUDAExecutionProvider'), ('onnx:tensorrt', 'TensorrtExecutionProvider')])
def test_it_never_falls_back_to_the_cpu(path: Path, monkeypatch: pytest.MonkeyPatch, device: str,
                                        provider: str) -> None:
    with pytest.raises(ValueError, match=f"^device: '{device}' needs {provider}, but ONNX Runtime "
                                         r'[\d.]+ has only .*CPUExecutionProvider; replace'):
        create(stored(path), device)
    # A package for GPUs offers it on any machine; ONNX Runtime then only warns, and takes the CPU.
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: [provider])
    with (pytest.warns(UserWarning, match='is not in available provider'),
          pytest.raises(ValueError, match=f'needs {provider}, which ONNX Runtime cannot start: it '
                                          'took CPUExecutionProvider instead')):
        create(stored(path), device)
    assert len(list((path.parent / 'graphs').glob('tensorrt_*'))) == (device == 'onnx:tensorrt')


def test_missing_onnxruntime_is_said_with_what_to_install(
        path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, 'vl2v_ros.model.runtime.onnx_runtime')
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    for device, package in ('onnx:cpu', 'onnxruntime'), ('onnx:cuda', 'onnxruntime-gpu'):
        with pytest.raises(ValueError, match=f"^device: '{device}' needs ONNX Runtime, .*; pip "
                                             f'install {package}$'):
            create(stored(path), device)
