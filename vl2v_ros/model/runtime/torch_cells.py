"""The cells of a student by torch: on a GPU, or on a CPU without OpenVINO."""
import numpy as np
import torch
from torch.nn import functional
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.preprocess import resize_whole, to_unit_range
from vl2v_ros.model.cells import Cells
from vl2v_ros.model.runtime.folded import fold_batch_norms
from vl2v_ros.model.runtime.matching import STRIDE
from vl2v_ros.model.student import Student


class TorchCells:
    """Runs a student without its pooling."""

    def __init__(self, student: Student, device: torch.device, dtype: torch.dtype) -> None:
        """Copy the student to the device; raises ValueError if it has no cells."""
        self._spec, self._device, self._dtype = student.spec, device, dtype
        example = torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64)
        self._cells = fold_batch_norms(Cells(student), example).requires_grad_(False).to(
            device, dtype).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, frame: Frame, size: int) -> np.ndarray:
        """Return (h, w, D) float32 unit rows."""
        image = resize_whole(frame, size, STRIDE, self._spec.resize_mode)
        batch = torch.from_numpy(image)[None].to(self._device)
        made = self._cells(to_unit_range(batch).to(
            self._dtype, memory_format=torch.channels_last))
        rows: np.ndarray = functional.normalize(made[0].float(), dim=-1).cpu().numpy()
        return rows
