"""The precision on a CPU: chosen by its time and its error, said, and remembered."""
from pathlib import Path
import re

import pytest
from support.tiny_models import student
from vl2v_ros.model import checkpoint
from vl2v_ros.model.checkpoint import StoredStudent
from vl2v_ros.model.runtime import graphs, outline, precision
from vl2v_ros.model.runtime.choose import create
from vl2v_ros.model.runtime.openvino_graph import convert, write, write_outline
from vl2v_ros.model.runtime.precision import CAPABILITIES, Choice
from vl2v_ros.model.spec import Graph

ABLE = graphs.core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
SHORT = [name for name, said in CAPABILITIES.items() if said in ABLE]  # 16 bits
needs_16_bits = pytest.mark.skipif(not SHORT, reason='this CPU has no precision of 16 bits')


@pytest.fixture
def stored(tmp_path: Path) -> StoredStudent:
    """Return a student with its outline, of which nothing is cached."""
    path = tmp_path / 'student.safetensors'
    checkpoint.save(student(), path)
    write_outline(path, path.with_suffix(outline.SUFFIX))
    return checkpoint.open_stored(path, tmp_path / 'graphs')


@pytest.fixture
def anything_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count every precision as precise and fast enough."""
    monkeypatch.setattr(precision, 'MEAN_COSINE', -1)
    monkeypatch.setattr(precision, 'FASTER', 0)


def test_what_is_measured_is_said(stored: StoredStudent) -> None:
    said = create(stored, 'cpu').description
    assert re.fullmatch(
        r'CPU, (float32|float16|bfloat16), \d+ threads?, OpenVINO \(asked for; (it has no .*|.*'
        r'(times as fast as float32|mean cosine [01]\.\d{4}))\)', said)
    assert create(stored, 'cpu', half=False).description.endswith('OpenVINO (asked for)')


@needs_16_bits
def test_what_is_too_far_from_float32_is_left(
        stored: StoredStudent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, 'MEAN_COSINE', 1.1)
    said = create(stored, 'cpu').description
    assert said.startswith('CPU, float32')
    assert f'{SHORT[0]} is too far from float32: mean cosine ' in said


@needs_16_bits
def test_what_is_hardly_faster_is_left(
        stored: StoredStudent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, 'FASTER', 1e9)
    said = create(stored, 'cpu').description
    assert said.startswith('CPU, float32') and f'{SHORT[0]} is only ' in said


@needs_16_bits
@pytest.mark.usefixtures('anything_goes')
def test_a_precision_of_16_bits_is_taken_where_it_is_better(stored: StoredStudent) -> None:
    assert create(stored, 'cpu').description.startswith(f'CPU, {SHORT[-1]}, ')
    assert create(stored, 'cpu', half=False).description.startswith('CPU, float32, ')


def with_graph(stored: StoredStudent, seed: int) -> StoredStudent:
    """Return the same student, with the graph of the given seed in place of its int8."""
    graph = write(convert(student(seed)))
    checkpoint.save(student(), stored.path, Graph(*graph))
    write_outline(stored.path, stored.path.with_suffix(outline.SUFFIX))
    return checkpoint.open_stored(stored.path, stored.graphs)


def test_int8_of_another_student_is_left(stored: StoredStudent) -> None:
    said = create(with_graph(stored, 1), 'cpu', half=False).description
    assert said.startswith('CPU, float32') and 'int8 and float32 is too far from float32' in said


@pytest.mark.usefixtures('anything_goes')
def test_int8_is_taken_where_it_is_better(stored: StoredStudent) -> None:
    both = with_graph(stored, 0)
    assert create(both, 'cpu', half=False).description.startswith('CPU, int8 and float32, ')
    kept, = stored.graphs.glob('*.json')
    assert precision.read(kept) == Choice(True, 'float32', precision.read(kept).why)
    assert create(both, 'cpu', half=False).description.startswith('CPU, int8 and float32, ')


@pytest.mark.long
def test_a_choice_is_remembered_for_this_student_and_cpu(stored: StoredStudent) -> None:
    create(stored, 'cpu')
    kept, = stored.graphs.iterdir()
    precision.write(kept, Choice(why='kept'))
    assert create(stored, 'cpu').description.endswith('OpenVINO (asked for; kept)')
    for damaged in ('', '{', '[]', '{"precision": "float8"}', '{"speed": 1}'):
        kept.write_text(damaged)
        assert 'kept' not in create(stored, 'cpu').description
        assert precision.read(kept) is not None  # measured and written again
    checkpoint.save(student(1), stored.path)
    write_outline(stored.path, stored.path.with_suffix(outline.SUFFIX))
    create(checkpoint.open_stored(stored.path, stored.graphs), 'cpu')
    assert len(list(stored.graphs.iterdir())) == 2


def test_a_cache_that_cannot_be_written_costs_a_warning(
        stored: StoredStudent, caplog: pytest.LogCaptureFixture) -> None:
    stored.graphs.write_text('no folder')
    create(stored, 'cpu')
    assert 'cannot be written' in caplog.text and 'every start makes it again' in caplog.text
