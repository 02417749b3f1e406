"""Runtimes: every engine gives the same embeddings, and says which one it is and why."""
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import shapes, tiny_models
from support.runtimes import (
    cosine_distances,
    CPU,
    draw,
    FRAMES,
    prototypes_of,
    random_unit_rows,
    TEMPERATURE,
)
import torch
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime import torch_runtime
from vl2v_ros.model.runtime.choose import create
from vl2v_ros.model.runtime.matching import match_embeddings, Matches, Runtime
from vl2v_ros.model.runtime.openvino_runtime import MOST_FRAMES
from vl2v_ros.model.runtime.precision import MEAN_COSINE
from vl2v_ros.model.runtime.torch_runtime import match_on_device, TorchRuntime
from vl2v_ros.model.student import Student


def match_in_torch(embeddings: np.ndarray, prototypes: np.ndarray, background: np.ndarray, k: int,
                   temperature: float) -> Matches:
    """Compare as on a GPU, but on the CPU."""
    rows = torch.from_numpy(np.concatenate([prototypes, background]))
    return match_on_device(torch.from_numpy(embeddings), rows, len(prototypes), k, temperature)


@pytest.fixture
def openvino(on_cpu: Runtime) -> Runtime:
    assert type(on_cpu).__name__ == 'OpenVinoRuntime'
    return on_cpu


@pytest.fixture(scope='module')
def in_torch(student: Student) -> Runtime:
    return TorchRuntime(student, CPU, False, 'test')


@pytest.mark.long
def test_openvino_and_torch_agree(openvino: Runtime, in_torch: Runtime) -> None:
    embeddings = in_torch.embed(FRAMES)
    assert (embeddings.shape[0], embeddings.dtype) == (len(FRAMES), np.float32)
    assert cosine_distances(openvino.embed(FRAMES), embeddings).max() < 1e-3
    prototypes = prototypes_of(embeddings)
    for runtime in openvino, in_torch:
        matches = runtime.match(FRAMES, prototypes, prototypes[:0], 3, TEMPERATURE)
        assert matches.indices[:, 0].tolist() == list(range(len(FRAMES)))
        assert cosine_distances(matches.embeddings, embeddings).max() < 1e-3


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


def test_more_frames_than_run_at_a_time(openvino: Runtime) -> None:
    alone = np.concatenate([openvino.embed([frame]) for frame in FRAMES[:2]])
    together = openvino.embed([FRAMES[number % 2] for number in range(2 * MOST_FRAMES + 1)])
    np.testing.assert_allclose(together, np.resize(alone, together.shape), atol=1e-4)


def test_torch_takes_any_number_of_frames() -> None:
    runtime = TorchRuntime(tiny_models.student(), CPU, False, 'test')
    alone = runtime.embed(FRAMES[:2])
    together = runtime.embed(FRAMES[:2] * (torch_runtime.MOST_FRAMES // 2 + 1))
    np.testing.assert_allclose(together, np.resize(alone, together.shape), atol=1e-5)


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


@pytest.mark.long
def test_half_on_the_cpu_is_near_float32_and_of_unit_length(student: Student) -> None:
    rows, wanted = (create(student, 'cpu', half).embed(FRAMES) for half in (True, False))
    assert cosine_distances(rows, wanted).mean() < 1 - MEAN_COSINE
    for found in rows, wanted:
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
