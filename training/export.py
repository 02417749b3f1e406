"""
Export a student to ONNX, to a TensorRT engine where TensorRT is installed, to int8 and to a graph.

Or take an open_clip model as it is, without distillation, see docs/any_clip.md; or blend a student
with the one that it was trained from, see docs/regions.md.

The ONNX file holds the whole student: input `images` (B, 3, S, S) float32 RGB in [0, 1], for any
B; output `embeddings` (B, D) float32 unit rows; the student's spec as metadata, as in the
checkpoint. The file is written only if onnxruntime computes the same with it as torch does. Beside
its checkpoint, with the same name, a robot runs it by ONNX Runtime: device onnx:cpu, onnx:cuda or
onnx:tensorrt.

--engine needs TensorRT.

--int8 writes the same checkpoint with the student in 8 bits added (quantise.py): a GPU runs it as
before, a CPU runs it in int8 if that is faster there and its error small. `evaluate.py --as-robot`
measures its accuracy.

--graph writes STUDENT.graph beside the checkpoint: with it, a robot's CPU starts without a
conversion. It is valid for exactly this checkpoint; robots ignore any other.

python training/export.py --checkpoint STUDENT.safetensors --out STUDENT.onnx
python training/export.py --checkpoint STUDENT.safetensors --int8 OUT.safetensors \
    --calibration IMAGES
python training/export.py --checkpoint STUDENT.safetensors --graph
python training/export.py --from-clip ViT-B-32 --pretrained datacomp_xl_s13b_b90k \
    --out STUDENT.safetensors
python training/export.py --checkpoint TRAINED.safetensors --blend START.safetensors 0.5 \
    --out STUDENT.safetensors
"""
import argparse
from collections.abc import Sequence
import copy
from pathlib import Path
import sys

from training.exporting import from_clip, quantise
from training.exporting.blend import blend
from training.exporting.onnx import BATCHES, export, LARGEST_DIFFERENCE, LOWEST_COSINE
from training.exporting.tensorrt import build_engine
from vl2v_ros.files import write_json
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime.outline import SUFFIX
from vl2v_ros.model.student import Student


def export_int8(student: Student, images: Path, path: Path) -> quantise.QuantisationError:
    """
    Write a checkpoint with a student's weights in half precision and its int8, atomically.

    :param images: folder of images; half calibrate, the other half measure the error.
    :return: the error of the int8 embeddings on the other half.
    :raises ValueError: for too few or unreadable images; if NNCF or OpenVINO is missing.
    :raises OSError: if the file cannot be written.
    """
    frames = quantise.read_frames(images)
    int8 = quantise.quantise(student, frames[::2])
    loss = quantise.compare(student, int8, frames[1::2])
    checkpoint.save(copy.deepcopy(student).half(), path, int8)
    return loss


def write_blend(trained: Path, start: Path, share: str, path: Path) -> str:
    """
    Write a blend of two students in half precision, atomically; return a line about it.

    :raises ValueError: for students or a share that do not fit.
    :raises OSError: if the file cannot be written.
    """
    try:
        part = float(share)
    except ValueError:
        raise ValueError(f'--blend: expected START and a number, got {share!r}') from None
    student = blend(checkpoint.load(trained), checkpoint.load(start), part)
    checkpoint.save(student.half(), path)
    return f'{path}: {1 - part:g} of {trained}, {part:g} of {start}'


def export_graph(path: Path) -> None:
    """
    Write the outline of a checkpoint beside it, atomically.

    :raises ValueError: if the checkpoint is missing or damaged, or OpenVINO cannot convert it.
    :raises OSError: if the file cannot be written.
    """
    try:
        from vl2v_ros.model.runtime.openvino_graph import write_outline
        write_outline(path, path.with_suffix(SUFFIX))
    except (ImportError, RuntimeError) as error:
        raise ValueError('--graph needs an OpenVINO that can convert the student: '
                         f'{" ".join(str(error).split())}') from error
    size = path.with_suffix(SUFFIX).stat().st_size / 1e6
    print(f'{path.with_suffix(SUFFIX)}: {size:.1f} MB, for {path} as it is now')


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--checkpoint', type=Path, help='student to export, *.safetensors')
    source.add_argument('--from-clip', metavar='MODEL',
                        help='open_clip model to write as a checkpoint, to --out')
    parser.add_argument('--pretrained', default='',
                        help='its pretrained tag, or a file of weights, for --from-clip')
    parser.add_argument('--like', default='', metavar='TAG',
                        help='pretrained tag whose settings a file of weights needs')
    parser.add_argument('--blend', nargs=2, metavar=('START', 'SHARE'),
                        help='the student that --checkpoint was trained from, and its share, '
                             'between 0 and 1: so less is forgotten (WiSE-FT)')
    parser.add_argument('--out', type=Path, help='ONNX file to write, *.onnx; with --from-clip '
                        'or --blend the checkpoint, *.safetensors')
    parser.add_argument('--engine', type=Path, help='TensorRT engine to write; needs --out')
    parser.add_argument('--max-batch', type=int, default=16,
                        help='largest batch of the engine [images]')
    parser.add_argument('--fp16', action='store_true',
                        help='let the engine compute in half precision (TensorRT 10)')
    parser.add_argument('--int8', type=Path,
                        help='checkpoint to write with the student in 8 bits, *.safetensors; it '
                             'may be the one that is read')
    parser.add_argument('--calibration', type=Path, metavar='IMAGES',
                        help='folder of images like those the robot will see, for --int8. Half '
                             'calibrate; the other half measure the error.')
    parser.add_argument('--graph', action='store_true',
                        help='write what a CPU needs to start at once beside the checkpoint, as '
                             'STUDENT.graph')
    parser.add_argument('--report', type=Path,
                        help='JSON file to write the error of --int8 into, *.json')
    options = parser.parse_args(arguments)
    _check(parser, options)
    return options


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with a line if options do not fit together."""
    if not options.from_clip and (options.pretrained or options.like):
        parser.error('--pretrained, --like: expected --from-clip with them')
    if made := '--from-clip' if options.from_clip else '--blend' if options.blend else '':
        if not options.out or options.out.suffix.lower() != '.safetensors':
            parser.error(f'{made}: expected --out STUDENT.safetensors with it, got {options.out}')
        if more := [name for name in ('engine', 'int8', 'report', 'graph')
                    if getattr(options, name)] + ['blend'] * bool(
                        options.from_clip and options.blend):
            parser.error(f'{made}: expected no --{more[0]} with it; export the checkpoint '
                         'afterwards')
        if options.blend and options.out.resolve() in {
                options.checkpoint.resolve(), Path(options.blend[0]).resolve()}:
            parser.error(f'--blend: expected a file of its own as --out, got {options.out}')
        return
    if not (options.out or options.int8 or options.graph):
        parser.error('expected --out STUDENT.onnx, --int8 STUDENT.safetensors or --graph')
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Export, and print the measured differences."""
    options = _parse(arguments)
    writing = options.out or options.int8 or options.checkpoint.with_suffix(SUFFIX)
    try:
        if options.from_clip:
            print(*from_clip.export(options.from_clip, options.pretrained, options.out,
                                    options.like), sep='\n')
            return
        if options.blend:
            start, share = options.blend
            print(write_blend(options.checkpoint, Path(start), share, options.out))
            return
        if options.graph:
            export_graph(options.checkpoint)
        student = checkpoint.load(options.checkpoint)
        if options.out:
            parity = export(student, options.checkpoint, options.out)
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
            write_json(options.report, loss._asdict())
    except ValueError as error:
        sys.exit(f'export: {error}')
    except OSError as error:
        sys.exit(f'export: {writing} cannot be written ({error.strerror or error}); '
                 'name a file in a folder you may write to')


if __name__ == '__main__':
    main()
