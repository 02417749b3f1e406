"""Outlines: a graph comes back from its outline and the checkpoint, and from no other one."""
from pathlib import Path

import numpy as np
import pytest
from support.tiny_models import student
import torch
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime import outline
from vl2v_ros.model.runtime.graphs import core
from vl2v_ros.model.runtime.openvino_graph import convert, write
from vl2v_ros.model.spec import Graph

ROOT = Path(__file__).parents[2]
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)


def embed(graph: Graph) -> np.ndarray:
    model = core().read_model(graph.xml, graph.bin)
    return core().compile_model(model, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})(PIXELS)[0]


@pytest.mark.parametrize('kind', [torch.float32, torch.float16, torch.bfloat16])
def test_graph_comes_back(tmp_path: Path, kind: torch.dtype) -> None:
    path = tmp_path / 'student.safetensors'
    checkpoint.save(student().to(kind), path)
    content, graph = path.read_bytes(), write(convert(checkpoint.load(path)))
    outline.write(tmp_path / 'student.graph', outline.make(graph, content), content)
    read = outline.read(tmp_path / 'student.graph', content)
    assert len(read.bin) < len(graph.bin) / 50  # the weights are those of the checkpoint
    assert np.array_equal(embed(outline.fill(read, content)), embed(graph))


def test_outline_of_anything_else_is_refused(tmp_path: Path) -> None:
    path, made = tmp_path / 'student.safetensors', tmp_path / 'student.graph'
    checkpoint.save(student(), path)
    content = path.read_bytes()
    with pytest.raises(ValueError, match='student.graph: expected the outline of a student'):
        outline.read(made, content)
    outline.write(made, Graph(b'x', b'y'), content)
    assert outline.read(made, content) == Graph(b'x', b'y')
    checkpoint.save(student(temperature=0.01), path)  # of the same weights, but changed
    with pytest.raises(ValueError, match='belongs to another checkpoint'):
        outline.read(made, path.read_bytes())
    made.write_bytes(made.read_bytes()[:-1])
    with pytest.raises(ValueError, match='expected the outline of a student'):
        outline.read(made, content)


def test_the_student_that_ships_has_its_outline() -> None:
    models = ROOT / 'models'
    content = (models / 'student.safetensors').read_bytes()
    assert outline.read(models / 'student.graph', content).xml
    assert sum(path.stat().st_size for path in models.iterdir()) < 30e6
