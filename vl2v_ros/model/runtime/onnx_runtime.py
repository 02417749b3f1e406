"""
A student's ONNX file, run by ONNX Runtime: on a CPU, or on a GPU by CUDA or TensorRT.

The file lies beside the checkpoint, as training/export.py writes it, and says of which checkpoint
it is. ONNX Runtime by itself computes on the CPU if a GPU cannot be used; here that is refused.
"""
from collections.abc import Sequence
import hashlib
import logging
import os
from pathlib import Path
from typing import Any, NoReturn, TYPE_CHECKING

import numpy as np
import onnxruntime
from vl2v_ros import frame_profile
from vl2v_ros.files import one_line
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.preprocess import resize_on_cpu
from vl2v_ros.model.checkpoint import StoredStudent
from vl2v_ros.model.runtime.matching import (
    CellRuntime,
    check_numbers,
    match_embeddings,
    Matches,
)
from vl2v_ros.model.spec import StudentSpec

if TYPE_CHECKING:
    from vl2v_ros.model.student import Student

logger = logging.getLogger(__name__)
INPUT, OUTPUT = 'images', 'embeddings'
SOURCE = 'vl2v_checkpoint'  # entry of the file's metadata: the digest of its checkpoint
PROVIDERS = {'cpu': 'CPUExecutionProvider', 'cuda': 'CUDAExecutionProvider',
             'tensorrt': 'TensorrtExecutionProvider'}
MOST_THREADS = 8
MOST_FRAMES = 8  # at a time; TensorRT's engine is built for 1 to as many


def digest(checkpoint: bytes) -> str:
    """Return the identity of a checkpoint, as its ONNX file names it."""
    return hashlib.sha256(checkpoint).hexdigest()


class OnnxRuntime:
    """
    Runs a student's ONNX file; on a CPU and by CUDA in float32, by TensorRT also in float16.

    TensorRT's engine, whose making takes minutes, is cached.
    """

    def __init__(self, student: 'Student | StoredStudent', device: str, half: bool, why: str
                 ) -> None:
        """
        Open the file beside a checkpoint, and run it once.

        :param device: 'onnx:' and one of PROVIDERS.
        :param half: let TensorRT compute in float16.
        :raises ValueError: if the file is missing, damaged, or of another checkpoint; if ONNX
            Runtime cannot use the device; if what the student makes is no number.
        """
        if not isinstance(student, StoredStudent):
            raise ValueError(f'device: {device!r} runs the ONNX file beside a checkpoint, and '
                             "this student has no checkpoint; use 'auto' or 'cpu'")
        kind = device.removeprefix('onnx:')
        self._spec, self._device = student.spec, device
        self.at_once = 1 if kind == 'cpu' else MOST_FRAMES
        threads = min(MOST_THREADS, len(os.sched_getaffinity(0)))
        self._session = _open(student, device, kind, half, threads)
        size = self._spec.image_size
        check_numbers(self._run(np.full((1, size, size, 3), 128, np.uint8)))
        name = {'cpu': 'CPU', 'cuda': 'CUDA', 'tensorrt': 'TensorRT'}[kind]
        precision = 'float16 and float32' if half and kind == 'tensorrt' else 'float32'
        used = f', {threads} thread{"s" * (threads > 1)}' if kind == 'cpu' else ''
        self.description = f'{name}, {precision}{used}, ONNX Runtime ({why})'

    def embed(self, frames: Sequence[Frame]) -> np.ndarray:
        """Return (B, D) float32 unit rows, B at least 1."""
        return np.concatenate([self._embed(frames[start:start + MOST_FRAMES])
                               for start in range(0, len(frames), MOST_FRAMES)])

    def _embed(self, frames: Sequence[Frame]) -> np.ndarray:
        pixels = resize_on_cpu(frames, self._spec.image_size, self._spec.resize_mode)
        frame_profile.mark('resize')
        rows = self._run(pixels)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)  # again, as 16 bits are not exact
        frame_profile.mark('model')
        return rows

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        """Return (B, D) float32 rows of (B, S, S, 3) uint8."""
        images = np.empty((len(pixels), 3, *pixels.shape[1:3]), np.float32)
        np.divide(pixels.transpose(0, 3, 1, 2), np.float32(255), out=images)
        rows: np.ndarray = self._session.run([OUTPUT], {INPUT: images})[0]
        return rows

    def match(self, frames: Sequence[Frame], prototypes: np.ndarray, background: np.ndarray,
              k: int, temperature: float) -> Matches:
        """Compare frames with (C, D) and (K, D) unit rows; K may be 0."""
        return match_embeddings(self.embed(frames), prototypes, background, k, temperature)

    def open_cells(self, student: 'Student | StoredStudent') -> CellRuntime:
        """Raise ValueError: an ONNX file holds no cells."""
        raise ValueError(f'device: expected auto, cpu, cuda or cuda:N to find where things are, '
                         f'got {self._device}: an ONNX file embeds whole images alone')


def _open(student: StoredStudent, device: str, kind: str, half: bool, threads: int
          ) -> onnxruntime.InferenceSession:
    provider, path = PROVIDERS[kind], student.path.with_suffix('.onnx')
    export = f'`training/export.py --checkpoint {student.path} --out {path}`'
    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise ValueError(f'device: {device!r} needs {provider}, but ONNX Runtime '
                         f'{onnxruntime.__version__} has only {", ".join(available)}; replace the '
                         "package onnxruntime by onnxruntime-gpu, or use 'onnx:cpu'")
    if not path.is_file():
        raise ValueError(f'device: {device!r} needs the ONNX file {path}, and there is none; '
                         f'{export} writes it')
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that wait actively would take the cores from the robot's other programs.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    try:  # on the CPU first: what fails here is the file's fault
        session = onnxruntime.InferenceSession(path, options, [PROVIDERS['cpu']])
    except Exception as error:  # noqa: BLE001 ONNX Runtime's errors have no other base
        _refuse(path, 'a model that ONNX Runtime can open', one_line(error), export, error)
    _check(session, path, student, export)
    if kind == 'cpu':
        return session
    asked = _providers(kind, path, student, half)
    try:
        session = onnxruntime.InferenceSession(path, options, asked, enable_fallback=0)
        used = session.get_providers()[0]
        said = '' if used == provider else f'it took {used} instead, and its line above says why'
    except Exception as error:  # noqa: BLE001 the same
        said = one_line(error)
    if said:
        raise ValueError(f'device: {device!r} needs {provider}, which ONNX Runtime cannot start: '
                         f"{said}; install what is missing, or use 'auto' or 'onnx:cpu'")
    return session


def _providers(kind: str, path: Path, student: StoredStudent, half: bool) -> list[Any]:
    """Return the provider of a GPU with its options; CUDA takes what TensorRT leaves over."""
    # As torch_runtime.py: float32 is computed in float32.
    cuda = PROVIDERS['cuda'], {'use_tf32': '0'}
    if kind == 'cuda':
        return [cuda]
    # Its own names for cached engines do not depend on the weights.
    key = f'{digest(path.read_bytes())} {onnxruntime.__version__} {half}'
    folder = student.graphs / f'tensorrt_{digest(key.encode())[:32]}'
    try:
        folder.mkdir(parents=True, exist_ok=True)
        cache = {'trt_engine_cache_enable': '1', 'trt_engine_cache_path': str(folder)}
    except OSError as error:
        logger.warning('%s cannot be written (%s), so every start makes it again', folder, error)
        cache = {}
    side = student.spec.image_size
    shapes = {name: f'{INPUT}:{count}x3x{side}x{side}'
              for name, count in (('min', 1), ('opt', 1), ('max', MOST_FRAMES))}
    profile = {f'trt_profile_{name}_shapes': shape for name, shape in shapes.items()}
    return [(PROVIDERS['tensorrt'], cache | profile | {'trt_fp16_enable': str(int(half))}), cuda]


def _check(session: onnxruntime.InferenceSession, path: Path, student: StoredStudent, export: str
           ) -> None:
    """Raise ValueError for other inputs and outputs, and for the file of another checkpoint."""
    def said(ports: Sequence[Any]) -> str:
        return ', '.join(f'{port.name} {_shape(port.shape)} {port.type}' for port in ports)

    spec: StudentSpec = student.spec
    wanted = (f'{INPUT} [?, 3, {spec.image_size}, {spec.image_size}] tensor(float) -> '
              f'{OUTPUT} [?, {spec.width}] tensor(float)')
    found = f'{said(session.get_inputs())} -> {said(session.get_outputs())}'
    if found != wanted:
        _refuse(path, wanted, found, export)
    source = session.get_modelmeta().custom_metadata_map.get(SOURCE)
    if source != digest(student.path.read_bytes()):
        _refuse(path, f'the file of {student.path} as it is now', 'that of another checkpoint'
                if source else 'one that does not say of which checkpoint it is', export)


def _shape(shape: Sequence[int | str | None]) -> str:
    """Return a shape for people; sides of any size have names in the file."""
    return f'[{", ".join(str(side) if isinstance(side, int) else "?" for side in shape)}]'


def _refuse(path: Path, wanted: str, found: str, export: str, cause: Exception | None = None
            ) -> NoReturn:
    raise ValueError(f'ONNX file {path}: expected {wanted}, found {found}; {export} writes it '
                     'again') from cause
