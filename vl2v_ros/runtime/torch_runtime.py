"""A student on a CUDA GPU, by torch; also the fall-back on a CPU without OpenVINO."""
from collections.abc import Sequence
import copy
from dataclasses import dataclass

import numpy as np
import torch
from vl2v_ros.frame import Frame
from vl2v_ros.preprocess import preprocess, resize_on_device
from vl2v_ros.runtime import match_embeddings, Matches
from vl2v_ros.student import Student

# A captured graph runs at one batch size only; a batch is filled up to the next of these.
BATCH_SIZES = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class _Captured:
    """A CUDA graph with the memory it reads and writes: (B, 3, S, S) and (B, D)."""

    graph: torch.cuda.CUDAGraph
    images: torch.Tensor
    embeddings: torch.Tensor


class TorchRuntime:
    """Channels-last; on CUDA also in half precision (unless told not to) and as CUDA graphs."""

    def __init__(self, student: Student, device: torch.device, half: bool, why: str) -> None:
        """
        Copy the student to the device.

        :param half: compute in float16; meant for CUDA.
        """
        self._spec, self._device = student.spec, device
        self._dtype = torch.float16 if half else torch.float32
        self._student = copy.deepcopy(student).eval().requires_grad_(False).to(
            device, self._dtype, memory_format=torch.channels_last)
        self._captured: dict[int, _Captured] = {}
        self._prototypes: tuple[np.ndarray, torch.Tensor] | None = None
        name = 'CPU'
        if device.type == 'cuda':
            name = f'{device} ({torch.cuda.get_device_name(device)})'
        precision = 'half precision' if half else 'float32'
        self.description = f'{name}, {precision}, torch ({why})'

    @torch.inference_mode()
    def embed(self, frames: Sequence[Frame]) -> np.ndarray:
        """Return (B, D) float32 unit rows."""
        return self._embed(frames).float().cpu().numpy()

    @torch.inference_mode()
    def match(self, frames: Sequence[Frame], prototypes: np.ndarray, k: int,
              temperature: float) -> Matches:
        """Compare frames with (C, D) unit rows."""
        if self._device.type == 'cpu':
            return match_embeddings(self.embed(frames), prototypes, k, temperature)
        k = min(k, len(prototypes))
        similarities = self._embed(frames).float() @ self._uploaded(prototypes).T  # (B, C)
        top, indices = similarities.topk(k)
        log_partition = (similarities / temperature).logsumexp(1, keepdim=True)
        # One copy back, the only wait for the GPU; float32 holds indices up to 2 ** 24.
        packed = torch.cat([indices.float(), top, log_partition], 1).cpu().numpy()  # (B, 2 k + 1)
        return Matches(packed[:, :k].astype(np.int64), packed[:, k:2 * k], packed[:, -1])

    def _embed(self, frames: Sequence[Frame]) -> torch.Tensor:
        size, mode = self._spec.image_size, self._spec.resize_mode
        if self._device.type == 'cpu':
            images = preprocess(frames, size, mode).to(self._dtype)
            return self._student(images.contiguous(memory_format=torch.channels_last))
        rows = []
        for start in range(0, len(frames), BATCH_SIZES[-1]):
            part = frames[start:start + BATCH_SIZES[-1]]
            captured = self._capture(next(size for size in BATCH_SIZES if size >= len(part)))
            for image, frame in zip(captured.images, part):
                image.copy_(resize_on_device(frame, size, mode, self._device, self._dtype))
            captured.graph.replay()
            rows.append(captured.embeddings[:len(part)].clone())
        return torch.cat(rows)

    def _capture(self, batch: int) -> _Captured:
        if batch not in self._captured:
            size = self._spec.image_size
            images = torch.zeros(batch, 3, size, size, device=self._device, dtype=self._dtype
                                 ).contiguous(memory_format=torch.channels_last)
            stream = torch.cuda.Stream(self._device)
            stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(stream):  # libraries set themselves up outside of the capture
                for _ in range(3):
                    self._student(images)
            torch.cuda.current_stream(self._device).wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.device(self._device), torch.cuda.graph(graph):
                embeddings = self._student(images)
            self._captured[batch] = _Captured(graph, images, embeddings)
        return self._captured[batch]

    def _uploaded(self, prototypes: np.ndarray) -> torch.Tensor:
        if self._prototypes is None or self._prototypes[0] is not prototypes:
            rows = torch.tensor(prototypes, device=self._device)
            self._prototypes = prototypes, rows
        return self._prototypes[1]
