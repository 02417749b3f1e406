"""Students as ONNX: the same embeddings at any batch size, in one file that says what it is."""
import json
import os
from pathlib import Path
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors import safe_open
from support.tiny_models import student
import torch
from training import export
from training.data.image_index import read_folders
from training.data.images import Images
from training.exporting.onnx import compare, probes
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime.choose import create

pytestmark = pytest.mark.long

SAMPLE = Path(__file__).parents[2] / 'data' / 'ycb_sample' / 'single'
STUDENTS = {'test_resnet': 32, 'test_vit': 64}  # side S [px]


@pytest.fixture(autouse=True, scope='module')
def one_thread() -> None:
    """Leave the machine's other cores alone."""
    torch.set_num_threads(1)


@pytest.fixture(scope='module', params=STUDENTS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an ONNX file, alone in its folder; its checkpoint lies in the folder above."""
    folder = tmp_path_factory.mktemp('export')
    checkpoint.save(student(backbone=request.param, image_size=STUDENTS[request.param],
                            trained_on='Bilder von "Äpfeln" und 苹果\n'),
                    folder / 'student.safetensors')
    out = folder / 'new' / 'folder' / 'student.onnx'
    export.main(['--checkpoint', str(folder / 'student.safetensors'), '--out', str(out)])
    return out


def source(onnx_file: Path) -> Path:
    return onnx_file.parents[2] / 'student.safetensors'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a checkpoint."""
    checkpoint.save(student(), tmp_path / 'student.safetensors')
    return tmp_path / 'student.safetensors'


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])


@pytest.mark.parametrize('batch', [1, 4, 7])  # other sizes than the export used
def test_onnxruntime_embeds_real_images_as_torch_does(exported: Path, batch: int) -> None:
    model = checkpoint.load(source(exported))
    index = read_folders(SAMPLE, check=False)
    dataset = Images(index, model.spec.image_size)
    images = torch.stack([dataset[row].image
                          for row in np.linspace(0, len(index) - 1, batch).astype(int)])
    with torch.inference_mode():
        wanted = model(images).numpy()
    found, = session(exported).run(['embeddings'], {'images': images.numpy()})
    assert found.shape == (batch, model.spec.width) and found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert len(np.unique(wanted.round(4), axis=0)) == batch


def test_file_says_what_goes_in_and_out(exported: Path) -> None:
    size, width = STUDENTS[checkpoint.load(source(exported)).spec.backbone], 8
    given, = session(exported).get_inputs()
    made, = session(exported).get_outputs()
    assert (given.name, given.type, given.shape) == (
        'images', 'tensor(float)', ['batch', 3, size, size])
    assert (made.name, made.type, made.shape) == ('embeddings', 'tensor(float)', ['batch', width])
    onnx.checker.check_model(exported, full_check=True)


def test_spec_is_the_one_of_the_checkpoint(exported: Path) -> None:
    with safe_open(source(exported), 'pt') as file:
        wanted = json.loads(file.metadata()['vl2v_student'])
    metadata = session(exported).get_modelmeta().custom_metadata_map
    assert json.loads(metadata['vl2v_student']) == wanted
    assert wanted['trained_on'] == 'Bilder von "Äpfeln" und 苹果\n'


def test_one_file_holds_everything(exported: Path) -> None:
    assert [item.name for item in exported.parent.iterdir()] == ['student.onnx']
    weights = sum(weight.numel() for weight in checkpoint.load(source(exported)).parameters())
    assert exported.stat().st_size > 3.9 * weights
    assert exported.stat().st_mode & 0o777 == 0o666 & ~_umask()
    content = exported.read_bytes()
    assert b'.py' not in content and str(Path(export.__file__).parent).encode() not in content


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_another_student_is_told_apart(exported: Path) -> None:
    model = checkpoint.load(source(exported))
    batches = probes(model.spec.image_size)
    assert [len(batch) for batch in batches] == [1, 2, 5, 1, 2, 5]
    assert all(0 <= batch.min() < 0.2 and 0.8 < batch.max() <= 1 for batch in batches)
    same = compare(model, exported, batches)
    assert same.difference < 1e-5 and same.cosine > 1 - 1e-6
    with torch.no_grad():
        model.projector.weight[0] *= 1.05  # one component of eight
    other = compare(model, exported, batches)
    assert other.difference > export.LARGEST_DIFFERENCE and other.cosine < same.cosine


def test_with_a_graph_beside_it_a_student_is_not_converted(
        path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('openvino')
    export.main(['--checkpoint', str(path), '--graph'])
    assert {item.name for item in path.parent.iterdir()} == {path.name, 'student.graph'}
    assert f'{path.with_suffix(".graph")}: 0.1 MB, for {path} as it is now' in (
        capsys.readouterr().out)
    monkeypatch.setattr(sys, 'executable', 'false')  # what would convert
    create(checkpoint.open_stored(path, path.parent / 'graphs'), 'cpu')
    assert not list((path.parent / 'graphs').glob('*.graph'))
    path.with_suffix('.graph').unlink()
    with pytest.raises(ValueError, match=r'its first start converts it in a process of its own, '
                                         r'which exited with 1 \(it said nothing\)'):
        create(checkpoint.open_stored(path, path.parent / 'graphs'), 'cpu')


def test_student_that_computes_nonsense_is_not_written(path: Path) -> None:
    model = checkpoint.load(path)
    with torch.no_grad():
        model.projector.bias.fill_(float('nan'))
    checkpoint.save(model, path)
    out = path.with_suffix('.onnx')
    out.write_bytes(b'of before')
    with pytest.raises(SystemExit, match='^export: .*expected weights that are numbers'):
        export.main(['--checkpoint', str(path), '--out', str(out)])
    assert out.read_bytes() == b'of before'
    assert {item.name for item in path.parent.iterdir()} == {path.name, out.name}


@pytest.mark.parametrize('content', [None, b'', b'not a checkpoint'])
def test_bad_checkpoint_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / 'student.safetensors'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit, match=f'^export: checkpoint.*{path}'):
        export.main(['--checkpoint', str(path), '--out', str(tmp_path / 'new' / 'student.onnx')])
    assert not (tmp_path / 'new').exists()


def test_folder_that_cannot_be_written_is_named(path: Path) -> None:
    for out in (path / 'student.onnx', Path('/proc/student.onnx')):  # in a file; not even by root
        with pytest.raises(SystemExit, match=f'^export: {out} cannot be written'):
            export.main(['--checkpoint', str(path), '--out', str(out)])
    assert [item.name for item in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(('arguments', 'said'), [
    (['--out', 'student'], '--out: expected a name that ends in .onnx, got student'),
    (['--out', 'student.pt'], '--out: expected a name that ends in .onnx, got student.pt'),
    (['--out', 'a.onnx', '--max-batch', '0'], '--max-batch: expected at least 1, got 0'),
    (['--out', 'a.onnx', '--engine', 'a.onnx'], '--engine: expected a file of its own')])
def test_bad_argument_is_refused_before_the_work(
        path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch,
        arguments: list[str], said: str) -> None:
    monkeypatch.chdir(path.parent)
    with pytest.raises(SystemExit) as refused:
        export.main(['--checkpoint', str(path), *arguments])
    assert refused.value.code == 2
    assert said in capsys.readouterr().err
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_existing_file_is_replaced_as_a_whole_and_missing_tensorrt_is_said(
        path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'tensorrt', None)  # also where there is one
    out, engine = path.with_suffix('.onnx'), path.with_suffix('.engine')
    out.write_bytes(b'of before')
    with out.open('rb') as reader:
        with pytest.raises(SystemExit) as refused:
            export.main(['--checkpoint', str(path), '--out', str(out), '--engine', str(engine)])
        assert reader.read() == b'of before'  # who has it open is not disturbed
    # A string: Python prints it on the error output and exits with 1.
    assert refused.value.code.startswith('export: an engine needs TensorRT, and there is none')
    assert 'pip install "tensorrt' in refused.value.code and '\n' not in refused.value.code
    assert session(out).get_outputs()[0].name == 'embeddings'
    assert {item.name for item in path.parent.iterdir()} == {path.name, out.name}
    said, = capsys.readouterr().out.splitlines()
    assert 'at batches of 1, 2, 5: largest difference ' in said
    assert '(at most 0.0001), lowest cosine ' in said and said.endswith('(at least 0.99999)')
