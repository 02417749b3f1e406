"""
Convert a student's weights to the graph that OpenVINO runs; needs torch, and takes seconds.

Run as a program, it writes the outline of a checkpoint, of the student or of its cells, and ends
early if its parent does:

python -m vl2v_ros.model.runtime.openvino_graph STUDENT.safetensors STUDENT.graph PARENT [cells]
"""
from collections.abc import Sequence
import os
from pathlib import Path
import sys
from tempfile import TemporaryDirectory
import threading
import time
from typing import NoReturn
import warnings

import openvino
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
import torch
from torch import nn
from vl2v_ros.images.preprocess import to_unit_range
from vl2v_ros.model import checkpoint
from vl2v_ros.model.cells import Cells
from vl2v_ros.model.runtime import outline
from vl2v_ros.model.spec import Graph
from vl2v_ros.model.student import Student

EXAMPLE = 128, 160  # of an image for cells, whose graph serves all multiples of 32 [px]


class _FromBytes(nn.Module):
    """Student with its conversion from uint8, so that one graph holds all after the resize."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.student(to_unit_range(batch))  # (B, S, S, 3) -> (B, D)


def convert(student: Student) -> openvino.Model:
    """Return the weights of a student as a graph, (B, S, S, 3) uint8 -> (B, D); takes seconds."""
    size = student.spec.image_size
    return _convert(student, (size, size), [-1, size, size, 3])


def convert_cells(student: Student) -> openvino.Model:
    """
    Return the cells of a student as a graph, (B, H, W, 3) uint8 -> (B, h, w, D); takes seconds.

    H and W must be multiples of 32.

    :raises ValueError: for a student without cells.
    """
    return _convert(Cells(student), EXAMPLE, [-1, -1, -1, 3])


def _convert(student: nn.Module, size: tuple[int, int], shape: list[int]) -> openvino.Model:
    example = torch.zeros(2, *size, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter('ignore', FutureWarning)  # of torch, about this way of tracing
        warnings.simplefilter('ignore', torch.jit.TracerWarning)  # of fixed sizes; they are
        traced = torch.jit.trace(_FromBytes(student).eval(), example, check_trace=False)
    # What openvino.convert_model does, without its two further traces: seconds of a start.
    decoder = TorchScriptPythonDecoder(traced, example_input=(example,))  # outlives `load`
    frontend = FrontEndManager().load_by_framework('pytorch')
    model = frontend.convert(frontend.load(decoder))
    model.reshape(shape)
    return model


def write(model: openvino.Model) -> Graph:
    """Return a graph as bytes."""
    with TemporaryDirectory() as folder:
        path = Path(folder, 'graph.xml')
        openvino.save_model(model, path, compress_to_fp16=False)
        return Graph(path.read_bytes(), path.with_suffix('.bin').read_bytes())


def write_outline(path: Path, out: Path, cells: bool = False) -> None:
    """
    Write the outline of a checkpoint, atomically.

    :param cells: of the student's cells.
    :raises ValueError: if the checkpoint is missing or damaged, or has no cells.
    :raises RuntimeError: if OpenVINO cannot convert the student.
    :raises OSError: if `out` cannot be written.
    """
    student = checkpoint.load(path)
    graph = write(convert_cells(student) if cells else convert(student))
    content = path.read_bytes()
    outline.write(out, outline.make(graph, content), content)


def _end_with(parent: int) -> NoReturn:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def main(arguments: Sequence[str]) -> None:
    """Convert; exit with one line on stderr, with outline's REFUSED or UNABLE, if that fails."""
    path, out, parent, *kind = arguments
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    try:
        write_outline(Path(path), Path(out), kind == [outline.CELLS])
    except ValueError as error:
        print(' '.join(str(error).split()), file=sys.stderr)
        sys.exit(outline.REFUSED)
    except RuntimeError as error:  # OpenVINO's are of several lines
        print(' '.join(str(error).split()), file=sys.stderr)
        sys.exit(outline.UNABLE)


if __name__ == '__main__':
    main(sys.argv[1:])
