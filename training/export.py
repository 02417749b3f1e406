"""
Export a student to ONNX, from there to a TensorRT engine where TensorRT is installed, and to int8.

The ONNX file is whole: input `images` (B, 3, S, S) float32 RGB in [0, 1], for any B; output
`embeddings` (B, D) float32 unit rows; the student's spec as metadata, as in the checkpoint. What
onnxruntime computes with it is compared with torch before it takes its place.

The engine's part is not run where TensorRT is missing.

What --int8 writes is the same checkpoint with the student in 8 bits added, by `quantise.py`: a GPU
runs it as before, a CPU in int8. How accurate that is: evaluate.py --as-robot.

python training/export.py --checkpoint STUDENT.safetensors --out STUDENT.onnx
python training/export.py --checkpoint STUDENT.safetensors --int8 OUT.safetensors \
    --calibration IMAGES
"""
import argparse
from collections.abc import Sequence
import copy
from dataclasses import asdict
import json
from pathlib import Path
import sys
from typing import NamedTuple

import cv2
import numpy as np
import onnxruntime
import quantise
import torch
from vl2v_ros import checkpoint
from vl2v_ros.files import replacing
from vl2v_ros.student import Student

INPUT, OUTPUT = 'images', 'embeddings'
BATCHES = (1, 2, 5)  # that are compared; the graph is traced at another size
TRACED = 3
# Both sides round differently: about 1e-6 for a component of a float32 embedding.
LARGEST_DIFFERENCE = 1e-4
LOWEST_COSINE = 0.99999
INSTALL = ('install it for the CUDA version of this machine (pip install "tensorrt-cu12<11" or '
           '"tensorrt-cu13<11"; JetPack brings it), or build the engine on the robot: '
           'trtexec --onnx=FILE --saveEngine=FILE')


class Parity(NamedTuple):
    """How far two sets of embeddings are apart: of any component, and the least alike rows."""

    difference: float
    cosine: float


def export(student: Student, path: Path) -> Parity:
    """
    Write a student as one ONNX file, atomically, if it computes the same as torch.

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
        for node in program.model.graph:
            node.metadata_props.clear()  # traces of this machine's source files
        program.model.metadata_props[checkpoint.FORMAT] = json.dumps(
            {'version': checkpoint.VERSION, **asdict(student.spec)})
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
    return noise + [np.stack([_scene(size, rng) for _ in range(count)]) for count in BATCHES]


def _scene(size: int, rng: np.random.Generator) -> np.ndarray:
    """Return (3, S, S): smooth shades with a few coloured bodies and a sensor's noise."""
    shades = rng.uniform(60, 200, (3, 3, 3)).astype(np.float32)
    picture = cv2.resize(shades, (size, size), interpolation=cv2.INTER_CUBIC)
    for _ in range(4):
        middle, axes = rng.integers(0, size, 2), rng.integers(1, max(2, size // 3), 2)
        cv2.ellipse(picture, middle.tolist(), axes.tolist(), rng.uniform(0, 180), 0, 360,
                    rng.uniform(0, 255, 3).tolist(), cv2.FILLED, cv2.LINE_AA)
    picture += rng.normal(0, 4, picture.shape)
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


def build_engine(onnx: Path, out: Path, size: int, max_batch: int, fp16: bool) -> None:
    """
    Build a TensorRT engine, for this GPU and this version of TensorRT only.

    :param size: side S of the input [px].
    :param max_batch: the engine takes 1 to so many images.
    :param fp16: let TensorRT compute in half precision where that is faster; TensorRT 10 only.
    :raises ValueError: if TensorRT is missing, is too new for `fp16`, or cannot build it.
    """
    try:
        import tensorrt
    except ImportError as error:
        raise ValueError(f'an engine needs TensorRT, and there is none ({error}); {INSTALL}'
                         ) from error
    if fp16 and not hasattr(tensorrt.BuilderFlag, 'FP16'):  # networks tell their types since 11
        raise ValueError(f'--fp16 needs TensorRT 10, found {tensorrt.__version__}; {INSTALL}')
    logger = tensorrt.Logger(tensorrt.Logger.WARNING)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        reasons = '; '.join(str(parser.get_error(n)) for n in range(parser.num_errors))
        raise ValueError(f'TensorRT {tensorrt.__version__} cannot read {onnx}: {reasons}')
    config = builder.create_builder_config()
    if fp16:
        config.set_flag(tensorrt.BuilderFlag.FP16)
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, (1, 3, size, size), (1, 3, size, size), (max_batch, 3, size, size))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ValueError(f'TensorRT {tensorrt.__version__} could not build an engine of {onnx}; '
                         'its own lines above say why')
    with replacing(out) as temporary:
        temporary.write_bytes(engine)


def export_int8(student: Student, images: Path, path: Path) -> quantise.Loss:
    """
    Write a checkpoint of a student's weights in half precision, and of its int8, atomically.

    :param images: folder of the images it is calibrated on.
    :return: what is lost on others of them.
    :raises ValueError: for images that are of no use; if NNCF or OpenVINO is missing.
    :raises OSError: if the file cannot be written.
    """
    frames = quantise.read_frames(images)
    int8 = quantise.quantise(student, frames[::2])
    loss = quantise.compare(student, int8, frames[1::2])
    checkpoint.save(copy.deepcopy(student).half(), path, int8)
    return loss


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--checkpoint', type=Path, required=True, help='student, *.safetensors')
    parser.add_argument('--out', type=Path, help='file to write, *.onnx')
    parser.add_argument('--engine', type=Path, help='also write a TensorRT engine')
    parser.add_argument('--max-batch', type=int, default=16, help='of the engine [images]')
    parser.add_argument('--fp16', action='store_true',
                        help='let the engine compute in half precision (TensorRT 10)')
    parser.add_argument('--int8', type=Path,
                        help='checkpoint to write with the student in 8 bits, *.safetensors; may '
                             'be the one that is read')
    parser.add_argument('--calibration', type=Path, metavar='IMAGES',
                        help='folder of images like those the robot will see, for --int8')
    parser.add_argument('--report', type=Path, help='also write what --int8 loses, *.json')
    options = parser.parse_args(arguments)
    if not (options.out or options.int8):
        parser.error('expected --out STUDENT.onnx, --int8 STUDENT.safetensors, or both')
    if options.engine and not options.out:
        parser.error('--engine: expected --out with it, for the ONNX file it is built from')
    if bool(options.int8) != bool(options.calibration):
        parser.error('expected --int8 and --calibration together')
    if options.report and not options.int8:
        parser.error('--report: expected --int8 with it')
    if options.int8 and options.int8.suffix.lower() != '.safetensors':
        parser.error(f'--int8: expected a name that ends in .safetensors, got {options.int8}')
    if options.out and options.out.suffix.lower() != '.onnx':
        parser.error(f'--out: expected a name that ends in .onnx, got {options.out}')
    if options.max_batch < 1:
        parser.error(f'--max-batch: expected at least 1, got {options.max_batch}')
    if options.engine and options.engine.resolve() in {options.out.resolve(),
                                                       options.checkpoint.resolve()}:
        parser.error(f'--engine: expected a file of its own, got {options.engine}')
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Export, and print what was compared."""
    options = _parse(arguments)
    writing = options.out or options.int8
    try:
        student = checkpoint.load(options.checkpoint)
        if options.out:
            parity = export(student, options.out)
            print(f'{options.out}: onnxruntime against torch at batches of '
                  f'{", ".join(map(str, BATCHES))}: largest difference {parity.difference:.2e} '
                  f'(at most {LARGEST_DIFFERENCE:g}), lowest cosine {parity.cosine:.8f} '
                  f'(at least {LOWEST_COSINE})')
        if options.engine:
            writing = options.engine
            build_engine(options.out, options.engine, student.spec.image_size,
                         options.max_batch, options.fp16)
            print(f'{options.engine}: TensorRT engine, 1 to {options.max_batch} images')
        if options.int8:
            writing = options.int8
            loss = export_int8(student, options.calibration, options.int8)
            print(f'{options.int8}: int8 against float32, on images it was not calibrated on: '
                  f'mean angle {loss.angle:.2f} deg, lowest cosine {loss.cosine:.4f}')
        if options.report:
            writing = options.report
            with replacing(options.report) as temporary:
                temporary.write_text(json.dumps(loss._asdict(), indent=1))
    except ValueError as error:
        sys.exit(f'export: {error}')
    except OSError as error:
        sys.exit(f'export: {writing} cannot be written ({error.strerror or error}); '
                 'name a file in a folder you may write to')


if __name__ == '__main__':
    main()
