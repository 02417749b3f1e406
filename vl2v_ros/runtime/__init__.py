"""How a student is executed: torch on a GPU, OpenVINO on a CPU; chosen once, at start."""
from collections.abc import Sequence
import ctypes
from dataclasses import dataclass
import gc
import re
import sys
from typing import Protocol, TYPE_CHECKING

import numpy as np
from vl2v_ros.checkpoint import Stored
from vl2v_ros.frame import Frame

if TYPE_CHECKING:
    from vl2v_ros.student import Student

# Without this, importing OpenVINO, and NNCF, reports their use over the network.
sys.modules.setdefault('openvino_telemetry', None)


@dataclass(frozen=True)
class Matches:
    """
    The k labels nearest to each of B frames.

    indices: (B, k) rows of the prototypes, best first.
    similarities: (B, k) float32 cosines.
    background: (B,) float32 cosine of the nearest background prompt; -1 where there is none.
    log_partition: (B,) float32 log of the sum over all labels and background prompts of
    exp(similarity / temperature), so that score = exp(similarity / temperature - log_partition).
    """

    indices: np.ndarray
    similarities: np.ndarray
    background: np.ndarray
    log_partition: np.ndarray


class Runtime(Protocol):
    """Executes one student; not thread-safe."""

    description: str
    """Device, precision and engine, and why they were chosen."""

    def embed(self, frames: Sequence[Frame]) -> np.ndarray:
        """Return (B, D) float32 unit rows."""

    def match(self, frames: Sequence[Frame], prototypes: np.ndarray, background: np.ndarray,
              k: int, temperature: float) -> Matches:
        """Compare frames with (C, D) and (K, D) unit rows; K may be 0."""


def match_embeddings(embeddings: np.ndarray, prototypes: np.ndarray, background: np.ndarray,
                     k: int, temperature: float) -> Matches:
    """Compare (B, D) with (C, D) and (K, D) unit rows, on the CPU; K may be 0."""
    similarities = embeddings @ prototypes.T  # (B, C)
    labels = len(prototypes)
    k = min(k, labels)
    # Only the k best are sorted, where they are few among many.
    frames = np.arange(len(similarities))[:, None]
    if labels > 64:
        best = np.argpartition(similarities, labels - k, axis=1)[:, labels - k:]
        best = best[frames, similarities[frames, best].argsort(axis=1)[:, ::-1]]
    else:
        best = similarities.argsort(axis=1)[:, :-k - 1:-1]
    top = similarities[frames, best]  # (B, k)
    highest, nearest = top[:, 0], np.full(len(frames), -1, np.float32)
    if len(background):
        elsewhere = embeddings @ background.T  # (B, K)
        nearest = elsewhere.max(1)
        highest = np.maximum(highest, nearest)
    parts = _sum_of_exponentials(similarities, highest, temperature)
    if len(background):
        parts += _sum_of_exponentials(elsewhere, highest, temperature)
    return Matches(best, top, nearest, np.log(parts) + highest / temperature)


def _sum_of_exponentials(cosines: np.ndarray, highest: np.ndarray, temperature: float
                         ) -> np.ndarray:
    """Return (B,) sums of exp((cosine - highest) / temperature); writes over the cosines."""
    cosines -= highest[:, None]
    cosines /= temperature
    return np.exp(cosines, out=cosines).sum(1)


def create(student: 'Student | Stored', device: str = 'auto', half: bool = True) -> Runtime:
    """
    Choose how to execute a student.

    On a CPU, one that is `Stored` starts without torch from the second time on.

    :param device: 'auto' (CUDA, else CPU), 'cuda', 'cuda:1', ... or 'cpu'.
    :param half: half precision on CUDA, and on a CPU that computes in it at twice the speed;
        others compute in float32. In both the student's int8 comes first, on a CPU.
    :raises ValueError: for another device, one that is not there, or int8 that cannot be read.
    """
    if device == 'cpu':
        return _on_cpu(student, half, 'asked for')
    if device == 'auto' and not _has_driver():
        return _on_cpu(student, half, 'no CUDA driver was found')
    import torch
    if device == 'auto':
        if torch.cuda.is_available():
            return _on_cuda(student, 'cuda', half, 'a CUDA device was found')
        built = 'finds no CUDA device' if torch.version.cuda else 'was built without CUDA'
        return _on_cpu(student, half, f'torch {torch.__version__} {built}')
    asked = re.fullmatch('cuda(?::(0|[1-9][0-9]*))?', device)
    if not asked:
        raise ValueError(f"device: expected 'auto', 'cpu', 'cuda' or 'cuda:N', got {device!r}")
    count = torch.cuda.device_count()
    if int(asked[1] or 0) >= count:
        raise ValueError(f'device: {device!r} was asked for, but torch {torch.__version__} finds '
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
    """Give back the memory of runtimes that nobody holds any more, on the GPU too."""
    gc.collect()
    torch = sys.modules.get('torch')
    if torch and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _loaded(student: 'Student | Stored') -> 'Student':
    return student.load() if isinstance(student, Stored) else student


def _on_cuda(student: 'Student | Stored', device: str, half: bool, why: str) -> Runtime:
    import torch
    from vl2v_ros.runtime.torch_runtime import TorchRuntime
    return TorchRuntime(_loaded(student), torch.device(device), half, why)


def _on_cpu(student: 'Student | Stored', half: bool, why: str) -> Runtime:
    try:
        from vl2v_ros.runtime.openvino_runtime import OpenVinoRuntime
        return OpenVinoRuntime(student, why, half)
    except (ImportError, RuntimeError) as error:
        import torch
        from vl2v_ros.runtime.torch_runtime import TorchRuntime
        student = _loaded(student)
        better = 'is faster' if student.int8 is None else 'would compute in int8'
        failed = 'imported' if isinstance(error, ImportError) else 'used'
        reason = ' '.join(str(error).split())  # OpenVINO's are of several lines
        return TorchRuntime(student, torch.device('cpu'), False,
                            f'{why}; OpenVINO, which {better}, cannot be {failed}: {reason}')
