"""
How a student is executed, chosen once, at start: torch on a GPU, OpenVINO on a CPU.

ONNX Runtime runs it only where that is asked for.
"""
import ctypes
import gc
import re
import sys
from typing import TYPE_CHECKING

from vl2v_ros.files import one_line
from vl2v_ros.model.checkpoint import StoredStudent
from vl2v_ros.model.runtime.matching import Runtime

if TYPE_CHECKING:
    from vl2v_ros.model.student import Student

ONNX = 'onnx:cpu', 'onnx:cuda', 'onnx:tensorrt'  # devices of ONNX Runtime
# Without this, importing OpenVINO, and NNCF, reports their use over the network.
sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]  # as Python says


def create(student: 'Student | StoredStudent', device: str = 'auto', half: bool = True) -> Runtime:
    """
    Choose how to execute a student.

    On a CPU, a `StoredStudent` runs without torch.

    :param device: 'auto' (CUDA if present, else CPU), 'cuda', 'cuda:1', ... or 'cpu'; or one of
        ONNX, which runs the ONNX file beside the checkpoint of a `StoredStudent`.
    :param half: half precision: float16 on CUDA; on CPUs float16 or bfloat16, where measurements
        find it faster and its error small, see precision.py. Else float32. A CPU runs the
        student's int8, if there is one, by the same rule. Of ONNX Runtime, only TensorRT obeys.
    :raises ValueError: for an invalid or missing device, or an int8 or ONNX file that cannot be
        read.
    """
    if device == 'cpu':
        return _on_cpu(student, half, 'asked for')
    if device in ONNX:
        return _by_onnx(student, device, half)
    if device == 'auto' and not _has_driver():
        return _on_cpu(student, half, 'no CUDA driver was found')
    try:
        import torch
    except ImportError as error:
        if device == 'auto':
            return _on_cpu(student, half, f'torch cannot be imported: {one_line(error)}')
        raise ValueError(f'device: {device!r} needs torch, which cannot be imported '
                         f'({one_line(error)}); use cpu, or pip install torch') from error
    if device == 'auto':
        if torch.cuda.is_available():
            return _on_cuda(student, 'cuda', half, 'a CUDA device was found')
        built = 'finds no CUDA device' if torch.version.cuda else 'was built without CUDA'
        return _on_cpu(student, half, f'torch {torch.__version__} {built}')
    asked = re.fullmatch('cuda(?::(0|[1-9][0-9]*))?', device)
    if not asked:
        raise ValueError(f"device: expected 'auto', 'cpu', 'cuda', 'cuda:N' or one of "
                         f'{", ".join(map(repr, ONNX))}, got {device!r}')
    count = torch.cuda.device_count()
    if int(asked[1] or 0) >= count:
        raise ValueError(f'device: expected {device!r}, but torch {torch.__version__} finds '
                         f"{count} CUDA devices; use 'auto' or 'cpu', or repair the driver")
    return _on_cuda(student, device, half, 'asked for')


def _has_driver() -> bool:
    """Tell whether there can be a CUDA device, without torch, which takes a second to import."""
    try:
        ctypes.CDLL('libcuda.so.1')
        return True
    except OSError:
        return False


def free_memory() -> None:
    """Free the memory of unused runtimes, on the GPU too."""
    gc.collect()
    torch = sys.modules.get('torch')
    if torch and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _loaded(student: 'Student | StoredStudent') -> 'Student':
    return student.load() if isinstance(student, StoredStudent) else student


def _on_cuda(student: 'Student | StoredStudent', device: str, half: bool, why: str) -> Runtime:
    import torch
    from vl2v_ros.model.runtime.torch_runtime import TorchRuntime
    return TorchRuntime(_loaded(student), torch.device(device), half, why)


def _by_onnx(student: 'Student | StoredStudent', device: str, half: bool) -> Runtime:
    try:
        from vl2v_ros.model.runtime.onnx_runtime import OnnxRuntime
    except ImportError as error:
        package = 'onnxruntime' if device == 'onnx:cpu' else 'onnxruntime-gpu'
        raise ValueError(f'device: {device!r} needs ONNX Runtime, which cannot be imported '
                         f'({one_line(error)}); pip install {package}') from error
    return OnnxRuntime(student, device, half, 'asked for')


def _on_cpu(student: 'Student | StoredStudent', half: bool, why: str) -> Runtime:
    try:
        from vl2v_ros.model.runtime.openvino_runtime import open_on_cpu
        return open_on_cpu(student, why, half)
    except (ImportError, RuntimeError) as error:
        import torch
        from vl2v_ros.model.runtime.torch_runtime import TorchRuntime
        student = _loaded(student)
        better = 'is faster' if student.int8 is None else 'would compute in int8'
        failed = 'imported' if isinstance(error, ImportError) else 'used'
        reason = ' '.join(str(error).split())  # OpenVINO's are of several lines
        return TorchRuntime(student, torch.device('cpu'), False,
                            f'{why}; OpenVINO, which {better}, cannot be {failed}: {reason}')
