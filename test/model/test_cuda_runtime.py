"""The runtime on a GPU, where there is one."""
import gc
from pathlib import Path
import warnings

import numpy as np
import pytest
from support import shapes
from support.runtimes import (
    cosine_distances,
    draw,
    FRAMES,
    prototypes_of,
    random_unit_rows,
    TEMPERATURE,
)
import torch
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime.choose import create
from vl2v_ros.model.runtime.matching import match_embeddings, Runtime
from vl2v_ros.model.runtime.torch_runtime import BATCH_SIZES, TorchRuntime
from vl2v_ros.model.student import Student


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
    np.testing.assert_allclose(matches.embeddings, embeddings, atol=1e-6)


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
