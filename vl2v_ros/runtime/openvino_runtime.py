"""A student on the CPU, by OpenVINO."""
from collections.abc import Sequence
from functools import cache
import io
from pathlib import Path
from tempfile import TemporaryDirectory
import warnings

import numpy as np
import openvino
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
import torch
from torch import nn
from vl2v_ros import stages
from vl2v_ros.frame import Frame
from vl2v_ros.preprocess import resize_on_cpu, to_unit_range
from vl2v_ros.runtime import match_embeddings, Matches
from vl2v_ros.student import Int8, Student


@cache
def core() -> openvino.Core:
    """
    Return OpenVINO's one core of this process.

    It stays until the process ends: OpenVINO lends the thread that makes it a stack for signal
    handlers, and frees that stack with the core, from whichever thread; the next signal would
    end the process.
    """
    return openvino.Core()


class _FromBytes(nn.Module):
    """Student with its conversion from uint8, so that one graph holds all after the resize."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.student(to_unit_range(batch))  # (B, S, S, 3) -> (B, D)


def convert(student: Student) -> openvino.Model:
    """Return the weights of a student as a graph, (B, S, S, 3) uint8 -> (B, D); takes seconds."""
    size = student.spec.image_size
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter('ignore', FutureWarning)  # of torch, about this way of tracing
        warnings.simplefilter('ignore', torch.jit.TracerWarning)  # of fixed sizes; they are
        traced = torch.jit.trace(_FromBytes(student).eval(), example, check_trace=False)
    # What openvino.convert_model does, without its two further traces: seconds of a start.
    decoder = TorchScriptPythonDecoder(traced, example_input=(example,))  # outlives `load`
    frontend = FrontEndManager().load_by_framework('pytorch')
    model = frontend.convert(frontend.load(decoder))
    model.reshape([-1, size, size, 3])
    return model


def write(model: openvino.Model) -> Int8:
    """Return a graph as a checkpoint holds it."""
    with TemporaryDirectory() as folder:
        path = Path(folder, 'int8.xml')
        openvino.save_model(model, path, compress_to_fp16=False)
        return Int8(path.read_bytes(), path.with_suffix('.bin').read_bytes())


def read(student: Student) -> openvino.Model:
    """Return the graph of a student's int8; raises ValueError if that is damaged."""
    size, width = student.spec.image_size, student.spec.width
    wanted = f'[?,{size},{size},3] u8 -> [?,{width}] f32'
    try:
        model = core().read_model(io.BytesIO(student.int8.xml), io.BytesIO(student.int8.bin))
        (given,), (made,) = model.inputs, model.outputs
        found = ' -> '.join(f'{port.partial_shape} {port.element_type.get_type_name()}'
                            for port in (given, made))
    except (RuntimeError, ValueError) as error:
        found = ' '.join(str(error).split())
    if found != wanted:
        raise ValueError(f'int8: expected a model that OpenVINO {openvino.__version__} can read, '
                         f'{wanted}, found {found}; copy the checkpoint or export it again')
    return model


class OpenVinoRuntime:
    """Built from the student's int8 or else its weights; keeps none of torch's."""

    def __init__(self, student: Student, why: str) -> None:
        """Read or convert, and compile; raises ValueError if the student's int8 is damaged."""
        self._spec = student.spec
        model = convert(student) if student.int8 is None else read(student)
        compiled = core().compile_model(model, 'CPU', {
            'PERFORMANCE_HINT': 'LATENCY',
            # Some CPUs would compute in bfloat16 by default, off by more than 1e-3.
            'INFERENCE_PRECISION_HINT': 'f32'})
        self._request = compiled.create_infer_request()
        precision = 'float32' if student.int8 is None else 'int8'
        self.description = f'CPU, {precision}, OpenVINO ({why})'

    def embed(self, frames: Sequence[Frame]) -> np.ndarray:
        """Return (B, D) float32 unit rows."""
        batch = resize_on_cpu(frames, self._spec.image_size, self._spec.resize_mode)
        stages.mark('resize')
        rows = self._request.infer(batch, share_inputs=True)[0]
        stages.mark('model')
        return rows

    def match(self, frames: Sequence[Frame], prototypes: np.ndarray, background: np.ndarray,
              k: int, temperature: float) -> Matches:
        """Compare frames with (C, D) and (K, D) unit rows; K may be 0."""
        return match_embeddings(self.embed(frames), prototypes, background, k, temperature)
