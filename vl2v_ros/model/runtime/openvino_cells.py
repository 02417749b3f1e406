"""The cells of a student on the CPU, by OpenVINO."""
import numpy as np
import openvino
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.preprocess import resize_whole
from vl2v_ros.model.runtime.matching import STRIDE
from vl2v_ros.model.runtime.precision import compiled
from vl2v_ros.model.spec import StudentSpec

MOST_SHAPES = 4  # of images, that are compiled at a time; a robot has few kinds of cameras


class OpenVinoCells:
    """Runs the graph of a student's cells; the first image of a shape takes part of a second."""

    def __init__(self, spec: StudentSpec, model: openvino.Model, precision: str, threads: int
                 ) -> None:
        """Store a graph of graphs.of_cells; `precision` as in precision.py."""
        self._spec, self._model = spec, model
        self._precision, self._threads = precision, threads
        self._by_shape: dict[tuple[int, ...], openvino.InferRequest] = {}

    def __call__(self, frame: Frame, size: int) -> np.ndarray:
        """Return (h, w, D) float32 unit rows."""
        image = resize_whole(frame, size, STRIDE, self._spec.resize_mode)
        request = self._by_shape.pop(image.shape, None)
        if request is None:
            model = self._model.clone()
            model.reshape([1, *image.shape])
            request = compiled(model, self._precision, self._threads)
            while len(self._by_shape) >= MOST_SHAPES:
                self._by_shape.pop(next(iter(self._by_shape)))  # the one that was not used longest
        self._by_shape[image.shape] = request
        request.get_input_tensor().data[0] = image
        request.infer()
        rows: np.ndarray = request.get_output_tensor().data[0].copy()
        rows /= np.linalg.norm(rows, axis=2, keepdims=True)  # again, as 16 bits are not exact
        return rows
