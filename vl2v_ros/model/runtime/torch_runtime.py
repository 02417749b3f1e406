"""A student on a CUDA GPU, by torch; also used on a CPU without OpenVINO."""
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch.nn import functional
from vl2v_ros import frame_profile
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.preprocess import preprocess
from vl2v_ros.model.checkpoint import StoredStudent
from vl2v_ros.model.runtime.device_resize import DeviceResize, mark
from vl2v_ros.model.runtime.folded import fold_batch_norms
from vl2v_ros.model.runtime.matching import check_numbers, Matches
from vl2v_ros.model.runtime.torch_cells import TorchCells
from vl2v_ros.model.student import Student

# A captured graph runs at one batch size only, so a batch is filled up to the next of these. For
# larger batches, launching kernels one by one is a small part of the time.
BATCH_SIZES = (1, 2, 4, 8, 16)
MOST_FRAMES = 64  # at a time, so that any number of boxes takes bounded memory


@dataclass(frozen=True)
class _Captured:
    """A CUDA graph with the memory it reads and writes: (B, 3, S, S) and (B, D)."""

    graph: torch.cuda.CUDAGraph
    images: torch.Tensor
    embeddings: torch.Tensor


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Let float32 convolutions compute in float32, not TF32; a captured graph keeps that."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


class TorchRuntime:
    """
    Runs a student by torch: channels-last, on CUDA in half precision (if `half`), as CUDA graphs.

    Batch norms are folded into convolutions: on a GPU they took half of the student's time.

    A CUDA graph holds the student alone, more than a hundred kernels. The resize before it has
    four launches per size of camera, and would need a graph for each combination of sizes. The
    similarity after it would need one for each vocabulary; it is launched while the student runs.

    In float32, convolutions do not compute in TF32, torch's default, which rounds to the 10 bits
    of half precision.

    `embed` and `match` wait for the GPU once, at their end. New prototypes or background rows
    (other arrays than in the last call) cost one more wait.
    """

    def __init__(self, student: Student, device: torch.device, half: bool, why: str) -> None:
        """
        Copy the student to the device.

        :param half: compute in float16; meant for CUDA.
        :raises ValueError: if what the student makes is no number.
        """
        self._spec, self._device = student.spec, device
        self._dtype = torch.float16 if half else torch.float32
        self.at_once = 1 if device.type == 'cpu' else BATCH_SIZES[-1]
        size = self._spec.image_size
        example = torch.linspace(0, 1, 3 * size * size).view(1, 3, size, size)
        self._student = fold_batch_norms(student, example).requires_grad_(False).to(
            device, self._dtype).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            made = self._on_cuda(example.to(device, self._dtype))
        check_numbers(made.float().cpu().numpy())
        self._resize = DeviceResize(self._spec.image_size, self._spec.resize_mode, device,
                                    self._dtype)
        self._captured: dict[int, _Captured] = {}
        self._uploaded: tuple[np.ndarray, np.ndarray, torch.Tensor] | None = None
        name = 'CPU'
        if device.type == 'cuda':
            name = f'{device} ({torch.cuda.get_device_name(device)})'
        precision = 'half precision' if half else 'float32'
        self.description = f'{name}, {precision}, torch ({why})'

    @torch.inference_mode()
    def embed(self, frames: Sequence[Frame]) -> np.ndarray:
        """Return (B, D) float32 unit rows."""
        return functional.normalize(self._embed(frames).float()).cpu().numpy()

    @torch.inference_mode()
    def match(self, frames: Sequence[Frame], prototypes: np.ndarray, background: np.ndarray,
              k: int, temperature: float) -> Matches:
        """Compare frames with (C, D) and (K, D) unit rows; K may be 0."""
        rows = functional.normalize(self._embed(frames).float())  # again: float16 is not exact
        return match_on_device(rows, self._upload(prototypes, background), len(prototypes), k,
                               temperature)

    def open_cells(self, student: Student | StoredStudent) -> TorchCells:
        """Prepare the student's cells on the same device; raises ValueError if it has none."""
        student = student.load() if isinstance(student, StoredStudent) else student
        return TorchCells(student, self._device, self._dtype)

    def _embed(self, frames: Sequence[Frame]) -> torch.Tensor:
        """Return (B, D); the next call may overwrite it."""
        if len(frames) > MOST_FRAMES:
            return torch.cat([self._embed(frames[start:start + MOST_FRAMES]).clone()
                              for start in range(0, len(frames), MOST_FRAMES)])
        if self._device.type == 'cpu':
            images = preprocess(frames, self._spec.image_size, self._spec.resize_mode)
            frame_profile.mark('resize')
            rows = self._student(images.to(self._dtype, memory_format=torch.channels_last))
            frame_profile.mark('model')
            return rows
        batch = next((size for size in BATCH_SIZES if size >= len(frames)), None)
        if batch is None:
            rows = self._on_cuda(self._resize(frames))
        else:
            captured = self._capture(batch)
            self._resize(frames, captured.images[:len(frames)])
            captured.graph.replay()
            rows = captured.embeddings[:len(frames)]
        mark('model', self._device)
        return rows

    @_without_tf32()
    def _on_cuda(self, images: torch.Tensor) -> torch.Tensor:
        return self._student(images)

    def _capture(self, batch: int) -> _Captured:
        if batch not in self._captured:
            size = self._spec.image_size
            images = torch.zeros(batch, 3, size, size, device=self._device, dtype=self._dtype
                                 ).contiguous(memory_format=torch.channels_last)
            graph, stream = torch.cuda.CUDAGraph(), _capture_stream(self._device)
            stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(stream):  # libraries set themselves up outside of the capture
                for _ in range(3):
                    self._on_cuda(images)
            torch.cuda.current_stream(self._device).wait_stream(stream)
            # Of this thread alone: work of other threads on the GPU is then no error.
            with torch.cuda.device(self._device), torch.cuda.graph(
                    graph, stream=stream, capture_error_mode='thread_local'):
                embeddings = self._on_cuda(images)
            self._captured[batch] = _Captured(graph, images, embeddings)
        return self._captured[batch]

    def _upload(self, prototypes: np.ndarray, background: np.ndarray) -> torch.Tensor:
        """Return (C + K, D) rows on the device; upload them only if they are new."""
        rows = self._uploaded
        if rows is None or rows[0] is not prototypes or rows[1] is not background:
            together = torch.tensor(np.concatenate([prototypes, background]), device=self._device)
            self._uploaded = rows = prototypes, background, together
        return rows[2]


@cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Return one stream per device: cuBLAS keeps memory for each stream it ever ran on."""
    return torch.cuda.Stream(device)


def match_on_device(embeddings: torch.Tensor, rows: torch.Tensor, labels: int, k: int,
                    temperature: float) -> Matches:
    """Compare (B, D) with (C + K, D) unit rows; the first C rows belong to labels."""
    similarities = embeddings @ rows.T  # (B, C + K)
    top, indices = similarities[:, :labels].topk(min(k, labels))
    log_partition = (similarities / temperature).logsumexp(1, keepdim=True)
    # The column of -1 in front is for a vocabulary without background.
    nearest = functional.pad(similarities[:, labels:], (1, 0), value=-1).amax(1, keepdim=True)
    # One copy back, the only wait for the GPU; float32 holds indices up to 2 ** 24.
    packed = torch.cat([indices.float(), top, nearest, log_partition, embeddings], 1).cpu().numpy()
    k = indices.shape[1]
    return Matches(packed[:, :k].astype(np.int64), packed[:, k:2 * k], packed[:, 2 * k],
                   packed[:, 2 * k + 1], packed[:, 2 * k + 2:])
