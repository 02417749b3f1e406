"""Students in 8 bits: made, kept beside the weights, run on a CPU, measured; or refused."""
from collections.abc import Callable, Mapping
import json
from pathlib import Path
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.tiny_data import draw, write_images, write_png, write_recipe
from support.tiny_models import student, write_tower
import torch
from training import export
from training.evaluate import EvaluateOptions, run
from training.exporting import quantise
from training.recipe_file import read_command
from vl2v_ros.images.frame import Frame
from vl2v_ros.model import checkpoint
from vl2v_ros.model.classifier import Classifier
from vl2v_ros.model.runtime.choose import create
from vl2v_ros.model.spec import Graph
from vl2v_ros.model.student import Student

pytestmark = pytest.mark.long

FRAMES = [Frame(draw(name, 'day', 7, size=60)) for name in ('red_circle', 'green_star')]


@pytest.fixture(autouse=True, scope='module')
def one_thread() -> None:
    """Leave the machine's other cores alone."""
    torch.set_num_threads(1)


@pytest.fixture
def int8_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count int8 as fast and precise enough, which it need not be for a net this small."""
    monkeypatch.setattr('vl2v_ros.model.runtime.precision.FASTER', 0)
    monkeypatch.setattr('vl2v_ros.model.runtime.precision.MEAN_COSINE', -1)


@pytest.fixture(scope='module')
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a teacher, a recipe, a student, int8.safetensors and loss.json."""
    pytest.importorskip('nncf', exc_type=ImportError)
    folder = tmp_path_factory.mktemp('int8')
    write_recipe(folder)
    checkpoint.save(student(text_tower=write_tower(folder / 'teacher')).half(),
                    folder / 'student.safetensors')
    export.main(['--checkpoint', str(folder / 'student.safetensors'),
                 '--int8', str(folder / 'int8.safetensors'),
                 '--calibration', str(folder / 'images'), '--report', str(folder / 'loss.json')])
    return folder


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(1)


@pytest.mark.usefixtures('int8_wins')
def test_cpu_runs_int8_and_embeds_nearly_the_same(exported: Path) -> None:
    classifier = Classifier(checkpoint.load(exported / 'int8.safetensors'), 'cpu')
    assert classifier.runtime.description.startswith('CPU, int8 and ')
    wanted = Classifier(checkpoint.load(exported / 'student.safetensors'), 'cpu').embed(FRAMES)
    found = classifier.embed(FRAMES)
    assert found.shape == (2, 8) and found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert cosines(found, wanted).min() > 0.95
    assert np.abs(found - wanted).max() > 1e-4  # it is not the same graph
    np.testing.assert_allclose(found[1:], classifier.embed(FRAMES[1:]), atol=1e-5)  # any batch


def test_weights_and_spec_stay_what_they_are(exported: Path) -> None:
    before, after = (load_file(exported / name)
                     for name in ('student.safetensors', 'int8.safetensors'))
    assert after.keys() - before.keys() == {'int8.xml', 'int8.bin'}
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    metadata = [safe_open(exported / name, 'pt').metadata()
                for name in ('student.safetensors', 'int8.safetensors')]
    assert metadata[0] == metadata[1]
    weights = sum(weight.numel() for weight in before.values())
    assert len(after['int8.bin']) < 1.5 * weights  # bytes; in float32 each would have 4


def test_loss_is_written(exported: Path) -> None:
    loss = json.loads((exported / 'loss.json').read_text())
    assert loss.keys() == {'angle', 'cosine'}
    assert 0 < loss['angle'] < 15 and 0.95 < loss['cosine'] < 1


@pytest.mark.usefixtures('int8_wins')
def test_evaluation_runs_int8(exported: Path) -> None:
    recipe, _ = read_command(['--config', str(exported / 'recipe.yaml')])
    options = {**vars(recipe), 'checkpoint': exported / 'int8.safetensors',
               'out': exported / 'out'}
    found, wanted = (run(EvaluateOptions(**options, as_robot=robot))['figures']
                     for robot in (True, False))
    assert found['mse'] == pytest.approx(wanted['mse'], abs=0.1)
    assert found['mse'] != pytest.approx(wanted['mse'], rel=1e-6)
    bytes_before = checkpoint.load(options['checkpoint']).int8
    run(EvaluateOptions(**options, as_robot=True, calibrate=True))
    after = checkpoint.load(options['checkpoint'])
    assert after.spec.unknown_threshold != 0 and after.int8 == bytes_before


def test_loss_tells_how_far_apart_two_are() -> None:
    model, other = student(), student(seed=1)
    assert quantise.compare(model, in_float(model), FRAMES) == pytest.approx((0, 1), abs=1e-3)
    apart = quantise.compare(model, in_float(other), FRAMES)
    wanted = cosines(*(create(one, 'cpu', half=False).embed(FRAMES) for one in (model, other)))
    assert apart == pytest.approx((np.degrees(np.arccos(wanted)).mean(), wanted.min()), abs=1e-3)


def in_float(model: Student) -> Graph:
    """Return what stands for int8 where precision is of no matter."""
    pytest.importorskip('openvino')
    from vl2v_ros.model.runtime.openvino_graph import convert, write
    return write(convert(model))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a checkpoint with a student in 8 bits, as far as its form goes."""
    model = student()
    checkpoint.save(model, tmp_path / 'student.safetensors', in_float(model))
    return tmp_path / 'student.safetensors'


def test_int8_is_saved_only_if_given(path: Path) -> None:
    read = checkpoint.load(path)
    again = path.with_name('again.safetensors')
    checkpoint.save(read, again, read.int8)
    assert read.int8 and checkpoint.load(again).int8 == read.int8
    checkpoint.save(read, path)  # as whoever trained it since does
    assert checkpoint.load(path).int8 is None
    assert 'int8' not in create(checkpoint.load(path), 'cpu').description


def test_without_openvino_torch_runs_the_weights_and_says_so(
        path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'vl2v_ros.model.runtime.openvino_runtime', None)
    runtime = create(checkpoint.load(path), 'cpu')
    assert runtime.description.startswith(
        'CPU, float32, torch (asked for; OpenVINO, which would compute in int8, cannot be import')
    assert np.isfinite(runtime.embed(FRAMES)).all()


@pytest.mark.parametrize('tensors', [
    {'int8.bin': None}, {'int8.xml': None}, {'int8.xml': torch.zeros(0, dtype=torch.uint8)},
    {'int8.bin': torch.zeros(9)}, {'int8.bin': torch.zeros(3, 3, dtype=torch.uint8)}])
def test_checkpoint_whose_int8_is_of_another_form_is_refused(
        path: Path, tensors: Mapping[str, torch.Tensor | None]) -> None:
    metadata = safe_open(path, 'pt').metadata()
    changed = {**load_file(path), **tensors}
    save_file({name: part for name, part in changed.items() if part is not None}, path, metadata)
    with pytest.raises(ValueError, match=f'checkpoint {path}: expected int8.xml and int8.bin as'):
        checkpoint.load(path)


@pytest.mark.parametrize('damage', [
    lambda xml, data: (xml[:500], data), lambda xml, data: (b'\0' * 50, data),
    lambda xml, data: (xml, data[:-5]), lambda xml, data: (xml, data[:1]),
    lambda xml, data: (xml.replace(b'32,32,3', b'31,31,3'), data)],
    ids=['cut', 'zeros', 'weights cut', 'no weights', 'another size'])
def test_int8_that_openvino_cannot_run_is_refused(path: Path, damage: Callable) -> None:
    model = checkpoint.load(path)
    model.int8 = Graph(*damage(*model.int8))
    with pytest.raises(ValueError, match=r'^int8: expected a model that OpenVINO \S+ can read, '
                                         r'\[\?,32,32,3\] u8 -> \[\?,8\] f32, found .*; copy'):
        create(model, 'cpu')


@pytest.mark.parametrize(('arguments', 'said'), [
    ([], 'expected --out STUDENT.onnx, --int8 STUDENT.safetensors or --graph'),
    (['--int8', 'a.safetensors'], 'expected --int8 and --calibration together'),
    (['--out', 'a.onnx', '--calibration', '.'], 'expected --int8 and --calibration together'),
    (['--int8', 'a.onnx', '--calibration', '.'], '--int8: expected a name that ends in .safetens'),
    (['--out', 'a.onnx', '--report', 'a.json'], '--report: expected --int8 with it'),
    (['--int8', 'a.safetensors', '--calibration', '.', '--engine', 'a.engine'],
     '--engine: expected --out with it')])
def test_bad_argument_is_refused(capsys: pytest.CaptureFixture, arguments: list[str], said: str
                                 ) -> None:
    with pytest.raises(SystemExit) as refused:
        export.main(['--checkpoint', 'student.safetensors', *arguments])
    assert refused.value.code == 2 and said in capsys.readouterr().err


def refusal(path: Path, images: Path) -> str:
    """Return what an export to int8 ends with; it must leave no file."""
    with pytest.raises(SystemExit) as refused:
        export.main(['--checkpoint', str(path), '--int8', str(path.with_name('int8.safetensors')),
                     '--calibration', str(images)])
    assert not path.with_name('int8.safetensors').exists() and '\n' not in refused.value.code
    return refused.value.code


def test_images_of_no_use_are_named(path: Path, tmp_path: Path) -> None:
    images = tmp_path / 'images'
    assert refusal(path, images).startswith(
        f'export: --calibration: expected at least 2 images in {images} or below, found 0; there')
    write_png(images / 'one.png', draw('red_circle', 'day', 0))  # anywhere, no class is needed
    assert refusal(path, images).endswith(f'{images} or below, found 1')
    (images / 'two.png').write_bytes(b'no image')
    assert f'{images}/two.png: expected a BMP, JPEG, PNG, TIFF or WebP image, got 8' in refusal(
        path, images)


def test_missing_nncf_is_said(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                              ) -> None:
    images = write_images(tmp_path / 'images', count=1)
    monkeypatch.setitem(sys.modules, 'nncf', None)
    said = refusal(path, images)
    assert said.startswith('export: --int8 needs NNCF and OpenVINO (') and 'pip install' in said


def test_calibration_images_are_chosen_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                              ) -> None:
    for number in range(9):
        write_png(tmp_path / f'{number}.png', np.full((4, 4, 3), number, np.uint8))
    assert len(quantise.read_frames(tmp_path)) == 9
    monkeypatch.setattr(quantise, 'MOST', 2)
    assert [frame.pixels[0, 0, 0] for frame in quantise.read_frames(tmp_path)] == [0, 2, 5, 8]
