"""A student on the CPU, by OpenVINO."""
from collections.abc import Sequence
from functools import cache
import hashlib
import io
import logging
import os
import time
from typing import TYPE_CHECKING

import numpy as np
import openvino
from safetensors import SafetensorError
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes
from vl2v_ros import frame_profile
from vl2v_ros.files import replacing
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.preprocess import resize_on_cpu
from vl2v_ros.model.checkpoint import StoredStudent
from vl2v_ros.model.runtime.matching import check_numbers, match_embeddings, Matches
from vl2v_ros.model.spec import Graph, StudentSpec

if TYPE_CHECKING:
    from vl2v_ros.model.student import Student

logger = logging.getLogger(__name__)
MIN_SPEEDUP = 1.4  # required when doubling the threads
TRIALS = 20  # runs of each number of threads; the fastest run counts
THREADS = (1, 2, 4, 8)
GRAPHS = 1  # raise it with every change of `convert`: cached graphs are then made again
MOST_GRAPHS = 8  # number of cached graphs; the oldest are deleted


@cache
def core() -> openvino.Core:
    """
    Return OpenVINO's one core of this process.

    It stays until the process ends: OpenVINO gives the thread that makes it a stack for signal
    handlers, and frees that stack with the core, from any thread; the next signal would then end
    the process.
    """
    return openvino.Core()


def read(graph: Graph, spec: StudentSpec) -> openvino.Model:
    """Return a student's graph; raises ValueError if it is damaged."""
    size = spec.image_size
    wanted = f'[?,{size},{size},3] u8 -> [?,{spec.width}] f32'
    try:
        model = core().read_model(io.BytesIO(graph.xml), io.BytesIO(graph.bin))
        (given,), (made,) = model.inputs, model.outputs
        found = ' -> '.join(f'{port.partial_shape} {port.element_type.get_type_name()}'
                            for port in (given, made))
    except (RuntimeError, ValueError) as error:
        found = ' '.join(str(error).split())
    if found != wanted:
        raise ValueError(f'int8: expected a model that OpenVINO {openvino.__version__} can read, '
                         f'{wanted}, found {found}; copy the checkpoint or export it again')
    return model


def _model(student: 'Student | StoredStudent') -> openvino.Model:
    """Return the graph of a student: the cached one, else made from its int8 or its weights."""
    if not isinstance(student, StoredStudent):
        if student.int8:
            return read(student.int8, student.spec)
        from vl2v_ros.model.runtime.openvino_graph import convert
        return convert(student)
    made_by = f'{GRAPHS} {openvino.__version__}'
    digest = hashlib.sha256(student.path.read_bytes() + made_by.encode()).hexdigest()
    kept = student.graphs / f'{digest[:32]}.safetensors'
    try:
        tensors = from_bytes(kept.read_bytes())
        return read(Graph(*(tensors[name].tobytes() for name in Graph._fields)), student.spec)
    except (OSError, SafetensorError, KeyError, ValueError):  # missing or invalid
        from vl2v_ros.model.runtime.openvino_graph import write
        graph = write(_model(student.load()))
    try:
        with replacing(kept) as temporary:
            temporary.write_bytes(to_bytes({name: np.frombuffer(part, np.uint8)
                                            for name, part in graph._asdict().items()}))
        by_age = sorted(student.graphs.glob('*.safetensors'), key=os.path.getmtime)
        for old in by_age[:-MOST_GRAPHS]:
            old.unlink(missing_ok=True)
    except OSError as error:
        logger.warning('%s cannot be written (%s), so every start converts the student again',
                       kept, error)
    return read(graph, student.spec)  # the same bytes that the next start will read


class OpenVinoRuntime:
    """
    Runs a student's graph by OpenVINO, without torch.

    One graph is compiled for a single frame, the most common case, which is faster with a fixed
    shape; another one is compiled for several frames.
    """

    def __init__(self, student: 'Student | StoredStudent', why: str, half: bool = False) -> None:
        """
        Read or convert the graph, choose the number of threads, and compile.

        :param half: compute in float16 on a CPU that does so at twice the speed.
        :raises ValueError: if the student's int8 is damaged, or what it makes is no number.
        """
        self._spec = student.spec
        self._hints: dict[str, object] = {
            'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': 'f16'}
        many = _model(student)
        one = many.clone()
        one.reshape([1, *many.input().partial_shape[1:]])
        half = half and self._computes_in_float16(one)
        if not half:
            self._hints['INFERENCE_PRECISION_HINT'] = 'f32'
        self._one, self.threads = self._fewest_threads(one)
        self._many = self._compile(many, self.threads)
        int8 = student.has_int8 if isinstance(student, StoredStudent) else student.int8
        self.description = (
            f'CPU, {"int8 and " if int8 else ""}{"float16" if half else "float32"}, '
            f'{self.threads} thread{"s" * (self.threads > 1)}, OpenVINO ({why})')

    def _compile(self, model: openvino.Model, threads: int) -> openvino.InferRequest:
        return core().compile_model(model, 'CPU', {
            **self._hints, 'INFERENCE_NUM_THREADS': threads}).create_infer_request()

    def _computes_in_float16(self, model: openvino.Model) -> bool:
        """Return whether it does: some CPUs use bfloat16 instead, with errors above 1e-3."""
        try:
            compiled = self._compile(model, 1).get_compiled_model()
        except RuntimeError:
            return False
        return compiled.get_property('INFERENCE_PRECISION_HINT') == openvino.Type.f16

    def _fewest_threads(self, model: openvino.Model) -> tuple[openvino.InferRequest, int]:
        """
        Double the threads as long as that is MIN_SPEEDUP times faster.

        A small student gains little from a second thread, and the robot's other programs need
        the cores too.

        :return: the compiled model, and its number of threads.
        """
        counts = [count for count in THREADS if count <= len(os.sched_getaffinity(0))]
        requests = {count: self._compile(model, count) for count in counts}
        for request in requests.values():
            request.get_input_tensor().data[:] = 128  # grey
        times = dict.fromkeys(counts, float('inf'))
        for _ in range(TRIALS):  # in turns, so that other work of the machine slows all alike
            for count, request in requests.items():
                start = time.perf_counter()
                request.infer()
                times[count] = min(times[count], time.perf_counter() - start)
        best = counts[0]
        while 2 * best in times and times[2 * best] * MIN_SPEEDUP < times[best]:
            best *= 2
        check_numbers(requests[best].get_output_tensor().data)
        return requests[best], best

    def embed(self, frames: Sequence[Frame]) -> np.ndarray:
        """Return (B, D) float32 unit rows."""
        size = self._spec.image_size
        request = self._one if len(frames) == 1 else self._many
        given = request.get_input_tensor()
        if given.shape[0] != len(frames):
            given.shape = [len(frames), size, size, 3]
        resize_on_cpu(frames, size, self._spec.resize_mode, given.data)
        frame_profile.mark('resize')
        request.infer()
        rows = request.get_output_tensor().data.copy()  # the next call overwrites it
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)  # again, as float16 is not exact
        frame_profile.mark('model')
        return rows

    def match(self, frames: Sequence[Frame], prototypes: np.ndarray, background: np.ndarray,
              k: int, temperature: float) -> Matches:
        """Compare frames with (C, D) and (K, D) unit rows; K may be 0."""
        return match_embeddings(self.embed(frames), prototypes, background, k, temperature)
