"""Export a student as one ONNX file, which is written only if it computes the same as torch."""
from collections.abc import Sequence
import copy
from dataclasses import asdict
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import torch
from vl2v_ros.files import replacing
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime.onnx_runtime import digest, INPUT, OUTPUT, SOURCE
from vl2v_ros.model.runtime.pictures import scene
from vl2v_ros.model.student import Student

BATCHES = (1, 2, 5)  # that are compared; the graph is traced at another size
TRACED = 3
# Both sides round differently: about 1e-6 for a component of a float32 embedding.
LARGEST_DIFFERENCE = 1e-4
LOWEST_COSINE = 0.99999


class Parity(NamedTuple):
    """The difference of two sets of embeddings: largest per component, lowest cosine of rows."""

    difference: float
    cosine: float


def export(student: Student, source: Path, path: Path) -> Parity:
    """
    Write a student as one ONNX file, atomically, if it computes the same as torch.

    :param source: the student's checkpoint; a robot runs the ONNX file only beside it.
    :return: the parity found.
    :raises ValueError: if the parity is out of the tolerance, or torch cannot export the
        backbone; nothing is written then.
    :raises OSError: if the file cannot be written.
    """
    student = copy.deepcopy(student).cpu().eval()
    size = student.spec.image_size
    with replacing(path) as temporary:
        temporary.touch()  # a folder that cannot be written is found before the work
        try:
            program = torch.onnx.export(
                student, (torch.zeros(TRACED, 3, size, size),), dynamo=True, verbose=False,
                input_names=[INPUT], output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim('batch', min=1)},))
        except torch.onnx.errors.OnnxExporterError as error:
            raise ValueError(f'torch cannot export the backbone {student.spec.backbone!r}: '
                             f'{str(error).strip().splitlines()[0]}') from error
        assert program is not None  # as an export by dynamo returns it
        for node in program.model.graph:
            node.metadata_props.clear()  # traces of this machine's source files
        program.model.metadata_props[checkpoint.FORMAT] = json.dumps(
            {'version': checkpoint.VERSION, **asdict(student.spec)})
        program.model.metadata_props[SOURCE] = digest(source.read_bytes())
        program.save(temporary, external_data=False)
        parity = compare(student, temporary, probes(size))
        # Written so that NaN fails.
        if not (parity.difference <= LARGEST_DIFFERENCE and parity.cosine >= LOWEST_COSINE):
            raise ValueError(f'expected what torch computes within {LARGEST_DIFFERENCE:g} and a '
                             f'cosine of at least {LOWEST_COSINE}, got a difference of '
                             f'{parity.difference:.3g} and a cosine of {parity.cosine:.6f}; '
                             f'{path} was not written')
    return parity


def probes(size: int) -> list[np.ndarray]:
    """Return batches (B, 3, S, S) float32 in [0, 1], of BATCHES: noise, and drawn scenes."""
    rng = np.random.default_rng(0)
    noise = [rng.random((count, 3, size, size), np.float32) for count in BATCHES]
    return noise + [np.stack([_unit_range(scene(size, rng)) for _ in range(count)])
                    for count in BATCHES]


def _unit_range(picture: np.ndarray) -> np.ndarray:
    """Return (3, S, S) float32 in [0, 1] of (S, S, 3) in [0, 255]."""
    return (picture.clip(0, 255) / 255).astype(np.float32).transpose(2, 0, 1)


def compare(student: Student, path: Path, batches: Sequence[np.ndarray]) -> Parity:
    """
    Compare an ONNX file, run by onnxruntime on the CPU, with torch.

    :param batches: of images (B, 3, S, S) float32 in [0, 1].
    """
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    found = np.concatenate([session.run([OUTPUT], {INPUT: batch})[0] for batch in batches])
    with torch.inference_mode():
        wanted = np.concatenate([student(torch.from_numpy(batch)).numpy() for batch in batches])
    assert found.shape == wanted.shape, (found.shape, wanted.shape)  # (N, D)
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    return Parity(float(np.abs(found - wanted).max()),
                  float(((found * wanted).sum(1) / lengths).min()))
