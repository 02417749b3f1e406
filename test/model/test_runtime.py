"""Runtimes: every engine gives the same embeddings, and says which one it is and why."""
from collections.abc import Callable
import ctypes
import gc
from pathlib import Path
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
from support import shapes
import torch
from torch.optim.swa_utils import update_bn
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.preprocess import preprocess
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime.choose import create
from vl2v_ros.model.runtime.matching import match_embeddings, Matches, Runtime
from vl2v_ros.model.runtime.precision import MEAN_COSINE
from vl2v_ros.model.runtime.torch_runtime import BATCH_SIZES, match_on_device, TorchRuntime
from vl2v_ros.model.spec import StudentSpec
from vl2v_ros.model.student import Student
from vl2v_ros.words import vocabulary
from vl2v_ros.words.clip_text import ClipText
from vl2v_ros.words.encoder import TextTower
from vl2v_ros.words.labels import check_labels

CPU = torch.device('cpu')
TEMPERATURE = 0.07
without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')


def draw(label: str, width: int = 320, height: int = 240, seed: int = 0) -> Frame:
    return Frame(shapes.draw(label, width, height, np.random.default_rng(seed)))


def plain(colour: tuple[int, ...], order: str, height: int, width: int) -> Frame:
    return Frame(np.full((height, width, len(colour)), colour, np.uint8), order)


# Of several sizes, orders and strides, and far apart for any backbone.
FRAMES = [
    draw('red circle', 640, 480),
    Frame(draw('white star', 480, 640).pixels[..., ::-1].copy(), 'bgr'),
    Frame(draw('blue square', 300, 200).pixels[:, 20:280]),
    Frame(np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)),
    plain((250, 240, 30, 0), 'bgra', 97, 41),
    plain((5,), 'mono', 31, 57),
    plain((20, 220, 60), 'rgb', 1080, 1920),
]


def cosine_distances(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-3)
    return 1 - (rows.astype(np.float64) * others).sum(1)


def prototypes_of(embeddings: np.ndarray) -> np.ndarray:
    """
    Return unit rows of which row n is the one most similar to embedding n.

    What the embeddings have in common is left out, so that the similarities differ widely.
    """
    common = embeddings.mean(0) / np.linalg.norm(embeddings.mean(0))
    rows = embeddings - embeddings.mean(0)
    rows -= (rows @ common)[:, None] * common
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def match_in_torch(embeddings: np.ndarray, prototypes: np.ndarray, background: np.ndarray, k: int,
                   temperature: float) -> Matches:
    """Compare as on a GPU, but on the CPU."""
    rows = torch.from_numpy(np.concatenate([prototypes, background]))
    return match_on_device(torch.from_numpy(embeddings), rows, len(prototypes), k, temperature)


def random_unit_rows(count: int, width: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope='module',
                params=['mobilenetv3_small_100', 'vit_tiny_patch16_224', 'shapes'])
def student(request: pytest.FixtureRequest, shapes_student: Path) -> Student:
    """Return a student; its random weights, if any, stand in training mode."""
    if request.param == 'shapes':
        return checkpoint.load(shapes_student)
    torch.manual_seed(0)
    student = Student(StudentSpec(request.param, 64, 224, TextTower('none', 'none')))
    # Without statistics of its own, batch normalisation lets random weights fade to nothing.
    update_bn([preprocess(FRAMES, 224, 'shortest')], student)
    return student


@pytest.fixture(scope='module')
def on_cpu(student: Student) -> Runtime:
    """Return what a CPU runs: OpenVINO, or torch where that is not installed."""
    return create(student, 'cpu', half=False)


@pytest.fixture
def openvino(on_cpu: Runtime) -> Runtime:
    assert type(on_cpu).__name__ == 'OpenVinoRuntime'
    return on_cpu


@pytest.fixture(scope='module')
def in_torch(student: Student) -> Runtime:
    return TorchRuntime(student, CPU, False, 'test')


@pytest.fixture(scope='module')
def seen_labels(shapes_student: Path) -> np.ndarray:
    """Return the prototypes of shapes.SEEN_LABELS."""
    tower = checkpoint.load(shapes_student).spec.text_tower
    return vocabulary.build(check_labels(shapes.SEEN_LABELS),
                            ClipText(tower, shapes_student.parent), 1).prototypes


def test_openvino_and_torch_agree(openvino: Runtime, in_torch: Runtime) -> None:
    embeddings = in_torch.embed(FRAMES)
    assert (embeddings.shape[0], embeddings.dtype) == (len(FRAMES), np.float32)
    assert cosine_distances(openvino.embed(FRAMES), embeddings).max() < 1e-3
    prototypes = prototypes_of(embeddings)
    for runtime in openvino, in_torch:
        best = runtime.match(FRAMES, prototypes, prototypes[:0], 3, TEMPERATURE).indices[:, 0]
        assert best.tolist() == list(range(len(FRAMES)))


def test_openvino_and_torch_name_the_same_shapes(
        shapes_student: Path, seen_labels: np.ndarray) -> None:
    student = checkpoint.load(shapes_student)
    frames = [draw(label, seed=seed) for seed, label in enumerate(shapes.SEEN_LABELS)]
    truth, background = np.arange(len(frames)), random_unit_rows(4, seen_labels.shape[1])
    results = [runtime.match(frames, seen_labels, background, 5, TEMPERATURE)
               for runtime in (create(student, 'cpu', False),
                               TorchRuntime(student, CPU, False, ''))]
    assert np.array_equal(results[0].indices[:, 0], results[1].indices[:, 0])
    assert (results[0].indices[:, 0] == truth).mean() > 0.9
    np.testing.assert_allclose(results[0].similarities, results[1].similarities, atol=1e-3)
    np.testing.assert_allclose(results[0].background, results[1].background, atol=1e-3)
    np.testing.assert_allclose(results[0].log_partition, results[1].log_partition, atol=1e-2)


def test_half_precision_is_close_to_float32(student: Student, in_torch: Runtime) -> None:
    half = TorchRuntime(student, CPU, True, 'test').embed(FRAMES)
    expected = in_torch.embed(FRAMES)
    assert half.dtype == np.float32
    assert cosine_distances(half, expected).max() < 1e-2
    assert not np.array_equal(half, expected)  # it did compute in half precision
    assert np.array_equal((half @ prototypes_of(expected).T).argmax(1), np.arange(len(FRAMES)))


def test_batch_of_several_sizes_equals_frames_one_by_one(
        openvino: Runtime, in_torch: Runtime) -> None:
    for runtime in openvino, in_torch:
        together = runtime.embed(FRAMES)
        alone = np.concatenate([runtime.embed([frame]) for frame in FRAMES])
        np.testing.assert_allclose(together, alone, atol=1e-4)
        assert not np.allclose(together[0], together[1], atol=1e-2)


def test_embeddings_stay_what_they_are_when_the_next_come(openvino: Runtime) -> None:
    first = openvino.embed(FRAMES[:2])
    before = first.copy()
    second = openvino.embed(FRAMES[2:4])
    assert np.array_equal(first, before)
    assert not np.allclose(first, second, atol=1e-2)


def test_student_is_left_as_it_was_by_half_precision(shapes_student: Path) -> None:
    student = checkpoint.load(shapes_student)
    before = {name: weight.clone() for name, weight in student.state_dict().items()}
    TorchRuntime(student, CPU, True, 'test').embed(FRAMES)
    for name, weight in student.state_dict().items():
        assert weight.dtype == before[name].dtype
        assert torch.equal(weight, before[name])


@pytest.mark.parametrize('temperature', [1.0, 0.07, 0.01])
@pytest.mark.parametrize('labels, k', [(1, 1), (1, 5), (7, 1), (7, 3), (7, 7), (7, 50),
                                       (1000, 5), (1000, 1000)])
@pytest.mark.parametrize('prompts', [0, 1, 20])
@pytest.mark.parametrize('match', [match_embeddings, match_in_torch])
def test_matches_are_those_of_a_plain_sort(
        match: Callable[..., Matches], prompts: int, labels: int, k: int, temperature: float
        ) -> None:
    embeddings, prototypes = random_unit_rows(9, 32, 1), random_unit_rows(labels, 32, 2)
    background = random_unit_rows(prompts, 32, 3)
    if prompts == 1:
        background[0] = embeddings[0]  # nearer than any label
    matches = match(embeddings, prototypes, background, k, temperature)
    assert matches.indices.shape == matches.similarities.shape == (9, min(k, labels))
    assert matches.background.shape == matches.log_partition.shape == (9,)
    assert matches.indices.dtype.kind == 'i'
    similarities = (embeddings @ prototypes.T).astype(np.float64)
    elsewhere = (embeddings @ background.T).astype(np.float64)
    for row, expected in enumerate(similarities):
        order = sorted(range(labels), key=lambda label: -expected[label])[:k]
        assert matches.indices[row].tolist() == order
        np.testing.assert_allclose(matches.similarities[row], expected[order], atol=1e-6)
        nearest = max(elsewhere[row], default=-1)
        assert matches.background[row] == pytest.approx(nearest, abs=1e-6)
        columns = np.concatenate([expected, elsewhere[row]])
        scores = np.exp(columns / temperature - matches.log_partition[row])
        assert scores.sum() == pytest.approx(1, abs=1e-3)


def test_equal_prototypes_are_listed_once_each() -> None:
    prototypes = np.repeat(random_unit_rows(2, 8), 3, axis=0)
    matches = match_embeddings(prototypes[:1], prototypes, prototypes[:0], 4, 1.0)
    assert set(matches.indices[0, :3]) == {0, 1, 2}
    assert matches.indices[0, 3] in {3, 4, 5}


def test_cpu_says_device_precision_engine_and_reason(shapes_student: Path) -> None:
    student = checkpoint.load(shapes_student)
    assert re.fullmatch(r'CPU, float32, \d+ threads?, OpenVINO \(asked for\)',
                        create(student, 'cpu', half=False).description)
    assert (TorchRuntime(student, CPU, False, 'no reason').description
            == 'CPU, float32, torch (no reason)')


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


def test_half_on_the_cpu_is_near_float32_and_of_unit_length(student: Student) -> None:
    rows, wanted = (create(student, 'cpu', half).embed(FRAMES) for half in (True, False))
    assert cosine_distances(rows, wanted).mean() < 1 - MEAN_COSINE
    for found in rows, wanted:
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_openvino_cannot_report_its_use(shapes_student: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime.choose import create
runtime = create(checkpoint.load(Path({str(shapes_student)!r})), 'cpu')
assert 'OpenVINO (' in runtime.description
assert sys.modules['openvino_telemetry'] is None
"""
    subprocess.run([sys.executable, '-c', code], check=True)


def test_signals_are_survived_after_another_thread_let_go_of_the_model(
        shapes_student: Path) -> None:
    code = f"""
import os, signal, threading
from pathlib import Path
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime.choose import create
came = []
signal.signal(signal.SIGUSR1, lambda *_: came.append(True))
runtimes = [create(checkpoint.load(Path({str(shapes_student)!r})), 'cpu')]
assert 'OpenVINO (' in runtimes[0].description
thread = threading.Thread(target=runtimes.clear)
thread.start()
thread.join()
kept = [bytearray(60_000) for _ in range(200)]  # takes the place of what was freed
os.kill(os.getpid(), signal.SIGUSR1)
assert came
"""
    subprocess.run([sys.executable, '-X', 'faulthandler', '-c', code], check=True)


@pytest.mark.parametrize('device', ['gpu', 'CPU', '', 'cuda:', 'cuda:x', 'cuda:-1', 'cuda:1:2',
                                    'cuda:01', 'cuda:²', 'cuda1', 'cpu:0'])
def test_unknown_device_is_refused_with_those_there_are(
        shapes_student: Path, device: str) -> None:
    with pytest.raises(ValueError) as refusal:
        create(checkpoint.load(shapes_student), device)
    assert str(refusal.value) == ("device: expected 'auto', 'cpu', 'cuda' or 'cuda:N', "
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


WITHOUT_OPENVINO = """
from pathlib import Path
import sys

import numpy as np


class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == 'openvino':
            raise ImportError('openvino is blocked')


sys.meta_path.insert(0, Blocked())
from vl2v_ros.model import checkpoint
from vl2v_ros.images.frame import Frame
from vl2v_ros.model.runtime.choose import create

runtime = create(checkpoint.load(Path(sys.argv[1])), 'cpu')
frame = Frame(np.load(sys.argv[2]))
np.save(sys.argv[3], runtime.embed([frame]))
print(runtime.description)
"""


def test_torch_takes_over_where_openvino_cannot_be_imported(
        shapes_student: Path, tmp_path: Path) -> None:
    np.save(tmp_path / 'frame.npy', FRAMES[0].pixels)
    done = subprocess.run(
        [sys.executable, '-c', WITHOUT_OPENVINO, shapes_student, tmp_path / 'frame.npy',
         tmp_path / 'embeddings.npy'],
        capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ('CPU, float32, torch (asked for; OpenVINO, which is faster, '
                                   'cannot be imported: openvino is blocked)')
    expected = create(checkpoint.load(shapes_student), 'cpu').embed(FRAMES[:1])
    assert cosine_distances(np.load(tmp_path / 'embeddings.npy'), expected).max() < 1e-3


def test_torch_takes_over_where_openvino_lacks_its_plug_in(
        shapes_student: Path, tmp_path: Path) -> None:
    (tmp_path / 'plugins.xml').write_text(
        '<ie><plugins><plugin name="CPU" location="nowhere.so"></plugin></plugins></ie>')
    code = f"""
from pathlib import Path
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime import choose as runtime
student = checkpoint.load(Path({str(shapes_student)!r}))
runtime.create(student, 'cpu')
from vl2v_ros.model.runtime import graphs, precision
core = graphs.openvino.Core({str(tmp_path / 'plugins.xml')!r})
graphs.core = precision.core = lambda: core
print(runtime.create(student, 'cpu').description)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    start = 'CPU, float32, torch (asked for; OpenVINO, which is faster, cannot be used: '
    assert done.stdout.startswith(start) and done.stdout.count('\n') == 1
    assert 'nowhere.so' in done.stdout


@pytest.mark.cuda
# uint8 on the CPU rounds what a GPU does not: frames that are resized differ by up to 1.1e-3,
# others by 1e-7.
@pytest.mark.parametrize('half, closeness', [(True, 1e-2), (False, 2e-3)])
def test_cuda_and_cpu_agree(
        student: Student, on_cpu: Runtime, half: bool, closeness: float) -> None:
    expected = on_cpu.embed(FRAMES)
    runtime = create(student, 'cuda', half)
    embeddings = runtime.embed(FRAMES)
    assert (embeddings.shape, embeddings.dtype) == (expected.shape, np.float32)
    assert cosine_distances(embeddings, expected).max() < closeness
    prototypes = prototypes_of(expected)
    background = random_unit_rows(4, prototypes.shape[1])
    matches = runtime.match(FRAMES, prototypes, background, len(FRAMES) + 5, TEMPERATURE)
    assert matches.indices[:, 0].tolist() == list(range(len(FRAMES)))
    on_cpu = match_embeddings(embeddings, prototypes, background, len(FRAMES) + 5, TEMPERATURE)
    assert matches.indices.shape == on_cpu.indices.shape
    assert matches.indices.dtype.kind == 'i'
    np.testing.assert_allclose(matches.similarities, on_cpu.similarities, atol=2e-3)
    np.testing.assert_allclose(matches.background, on_cpu.background, atol=2e-3)
    np.testing.assert_allclose(matches.log_partition, on_cpu.log_partition, atol=5e-2)


@pytest.mark.cuda
@pytest.mark.parametrize('half', [True, False])
@pytest.mark.parametrize('count', [1, 3, BATCH_SIZES[-1], BATCH_SIZES[-1] + 1])
def test_cuda_batch_of_any_size_names_the_same_shapes(
        shapes_student: Path, seen_labels: np.ndarray, count: int, half: bool) -> None:
    student = checkpoint.load(shapes_student)
    frames = [draw(label, 320 + 32 * (seed % 3), 240, seed)
              for seed, label in enumerate(shapes.SEEN_LABELS[:count])]
    on_cpu, on_cuda = (runtime.match(frames, seen_labels, seen_labels[:0], 5, TEMPERATURE)
                       for runtime in (create(student, 'cpu'), create(student, 'cuda', half)))
    assert on_cuda.indices.shape == (count, 5)
    assert on_cuda.log_partition.shape == (count,)
    assert np.array_equal(on_cuda.indices[:, 0], on_cpu.indices[:, 0])
    np.testing.assert_allclose(on_cuda.similarities, on_cpu.similarities,
                               atol=2e-2 if half else 5e-3)


@pytest.mark.cuda
@pytest.mark.parametrize('half', [True, False])
def test_cuda_graphs_give_the_same_when_replayed(shapes_student: Path, half: bool) -> None:
    runtime = create(checkpoint.load(shapes_student), 'cuda', half)
    first = runtime.embed(FRAMES[:3])
    before = first.copy()
    others = runtime.embed(FRAMES[3:6])
    alone = runtime.embed(FRAMES[:1])  # through the graph of another batch size
    assert np.array_equal(first, before)
    assert not np.allclose(first, others, atol=1e-2)
    assert np.array_equal(runtime.embed(FRAMES[:3]), first)
    assert cosine_distances(alone, first[:1]).max() < 1e-3


@pytest.mark.cuda
@pytest.mark.parametrize('count', [1, len(FRAMES), BATCH_SIZES[-1] + 1])
def test_cuda_is_waited_for_once_per_batch(
        shapes_student: Path, seen_labels: np.ndarray, count: int) -> None:
    runtime = create(checkpoint.load(shapes_student), 'cuda')
    frames = (FRAMES * 3)[:count]
    background = seen_labels[:2]  # one array for all calls: another would be uploaded
    for call in (lambda: runtime.match(frames, seen_labels, background, 5, TEMPERATURE),
                 lambda: runtime.embed(frames)):
        call()
        torch.cuda.set_sync_debug_mode('warn')
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter('always')
                call()
        finally:
            torch.cuda.set_sync_debug_mode('default')
        waits = [f'{warning.filename}:{warning.lineno}: {warning.message}' for warning in caught
                 if 'called a synchronizing' in str(warning.message)]
        assert len(waits) == 1, '\n'.join(waits)


@pytest.mark.cuda
def test_cuda_memory_is_given_back(shapes_student: Path, seen_labels: np.ndarray) -> None:
    kept = []
    for _ in range(3):
        runtime = create(checkpoint.load(shapes_student), 'cuda')
        for frames in FRAMES[:1], FRAMES:
            runtime.match(frames, seen_labels, seen_labels[:0], 5, TEMPERATURE)
        used = torch.cuda.memory_allocated()
        del runtime
        gc.collect()
        kept.append(torch.cuda.memory_allocated())
        assert kept[-1] < used
    assert kept[1] == kept[2]  # the first call of all leaves what libraries keep


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.cuda)])
def test_torch_follows_a_change_of_prototypes_and_background(
        shapes_student: Path, seen_labels: np.ndarray, device: str) -> None:
    runtime = TorchRuntime(checkpoint.load(shapes_student), torch.device(device),
                           device == 'cuda', 'test')
    frames = [draw(label, seed=seed) for seed, label in enumerate(shapes.SEEN_LABELS[:3])]
    none, some = seen_labels[:0], random_unit_rows(3, seen_labels.shape[1])
    first = runtime.match(frames, seen_labels, none, 5, TEMPERATURE)
    turned = runtime.match(frames, seen_labels[::-1].copy(), none, 5, TEMPERATURE)
    assert np.array_equal(turned.indices[:, 0], len(seen_labels) - 1 - first.indices[:, 0])
    fewer = runtime.match(frames, seen_labels[:3].copy(), none, 5, TEMPERATURE)
    assert fewer.indices.shape == (3, 3)
    beside = runtime.match(frames, seen_labels, some, 5, TEMPERATURE)
    assert np.array_equal(beside.indices, first.indices)
    assert (beside.background > -1).all() and (first.background == -1).all()
    again = runtime.match(frames, seen_labels, none, 5, TEMPERATURE)
    assert np.array_equal(again.indices[:, 0], first.indices[:, 0])
    np.testing.assert_allclose(again.similarities, first.similarities, atol=1e-6)


@pytest.mark.cuda
@pytest.mark.parametrize('device, half, start, reason', [
    ('auto', True, 'cuda (', ', half precision, torch (a CUDA device was found)'),
    ('cuda:0', False, 'cuda:0 (', ', float32, torch (asked for)'),
])
def test_cuda_says_device_precision_engine_and_reason(
        shapes_student: Path, device: str, half: bool, start: str, reason: str) -> None:
    description = create(checkpoint.load(shapes_student), device, half).description
    assert description == f'{start}{torch.cuda.get_device_name(0)}){reason}'
