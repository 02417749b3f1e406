"""
A student in 8 bits: post-training quantisation by NNCF of the graph that a robot's CPU runs.

It needs images without labels, such as the robot's own. Half calibrate; the other half measure the
error. `evaluate.py --as-robot` measures the accuracy.
"""
import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from training.measuring import metrics
from vl2v_ros.images.folders import image_files
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.preprocess import resize_on_cpu
from vl2v_ros.images.sources import read_image
import vl2v_ros.model.runtime.choose  # noqa: F401 before NNCF: keeps its use from being reported
from vl2v_ros.model.spec import Graph
from vl2v_ros.model.student import Student

MOST = 300  # images to calibrate on, and as many others to compare on


class QuantisationError(NamedTuple):
    """The error of int8 embeddings against float32: mean angle [deg], lowest cosine."""

    angle: float
    cosine: float


def read_frames(root: Path) -> list[Frame]:
    """
    Read up to 2 * MOST images, evenly chosen from a folder and all below it.

    :raises ValueError: for fewer than two, or one that cannot be read.
    """
    files = list(image_files(root))
    if len(files) < 2:
        raise ValueError(f'--calibration: expected at least 2 images in {root} or below, found '
                         f'{len(files)}' + ('' if root.is_dir() else '; there is no such folder'))
    rows = np.linspace(0, len(files) - 1, min(len(files), 2 * MOST)).astype(int)
    return [_read(root / files[row]) for row in rows]


def _read(path: Path) -> Frame:
    try:
        return read_image(path)
    except ValueError as error:
        raise ValueError(f'--calibration: {path}: {error}; repair or remove it') from error


def quantise(student: Student, frames: list[Frame]) -> Graph:
    """
    Quantise a student's weights and activations.

    :param frames: calibration frames, like those the student will see; more are better.
    :raises ValueError: if NNCF or OpenVINO is missing.
    """
    try:
        import nncf
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet
        from openvino._offline_transformations import apply_moc_transformations
        from vl2v_ros.model.runtime.openvino_graph import convert, write
    except ImportError as error:
        raise ValueError(f'--int8 needs NNCF and OpenVINO ({error}): make setup, or pip install '
                         'nncf openvino') from error
    nncf.set_log_level(logging.ERROR)
    spec = student.spec
    batches = [resize_on_cpu([frame], spec.image_size, spec.resize_mode) for frame in frames]
    model = convert(student)
    # What compiling it does first: batch norms become part of the convolutions before them, which
    # NNCF, too, has to see so. (What `openvino.convert_model` calls at its end.)
    apply_moc_transformations(model, cf=False, smart_reshape=True)
    operations = model.get_ordered_ops()
    projector = max(number for number, operation in enumerate(operations)
                    if operation.get_type_name() == 'MatMul')
    # What makes unit rows stays in float: in 8 bits their length would be off.
    kept = [operation.friendly_name for operation in operations[projector + 1:]]
    return write(nncf.quantize(
        model, nncf.Dataset(batches), subset_size=len(batches), fast_bias_correction=False,
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(names=kept, validate=False),
        # The whole range that was seen; NNCF's mean over images cuts off what is rare.
        advanced_parameters=AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX)))


def compare(student: Student, int8: Graph, frames: list[Frame]) -> QuantisationError:
    """Compare the embeddings of student and int8 graph, as a CPU computes them in float32."""
    from vl2v_ros.model.runtime import graphs
    from vl2v_ros.model.runtime.openvino_runtime import OpenVinoRuntime
    from vl2v_ros.model.runtime.precision import Choice
    rows = [torch.from_numpy(OpenVinoRuntime(student.spec, model, Choice(), '').embed(frames))
            for model in (graphs.of_weights(student), graphs.read(int8, student.spec))]
    _, angle = metrics.feature_distance(*rows)
    return QuantisationError(angle, float((rows[0] * rows[1]).sum(1).min()))
