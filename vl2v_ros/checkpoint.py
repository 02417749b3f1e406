"""
One safetensors file per student, the only contract with training: weights and JSON spec.

Beside them it may hold the student in 8 bits, as the bytes of an OpenVINO model.
"""
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
import json
import os
from pathlib import Path

from safetensors import safe_open, SafetensorError
from safetensors.torch import save as to_bytes
import torch
from vl2v_ros.student import Int8, Student, StudentSpec
from vl2v_ros.text import TextTower

FORMAT = 'vl2v_student'
VERSION = 1
INT8 = {name: f'int8.{name}' for name in Int8._fields}  # names of tensors


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        yield temporary
        with open(temporary, 'rb') as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save(student: Student, path: Path, int8: Int8 | None = None) -> None:
    """
    Write the student atomically.

    :param int8: made from these very weights. It has to be given: the `student.int8` of a file
        that was loaded is of no use to whoever trained the student since.
    """
    spec = {'version': VERSION, **asdict(student.spec)}
    weights = {name: weight.contiguous() for name, weight in student.state_dict().items()}
    if int8:
        weights |= {INT8[name]: torch.frombuffer(bytearray(part), dtype=torch.uint8)
                    for name, part in int8._asdict().items()}
    with replacing(path) as temporary:
        # Not save_file: what it writes can be read by its owner alone.
        temporary.write_bytes(to_bytes(weights, {FORMAT: json.dumps(spec)}))


def load(path: Path) -> Student:
    """
    Read a student, in evaluation mode, in float32, on the CPU.

    :raises ValueError: when the file is missing, damaged, of another format, or its weights do
        not fit its spec. Whether OpenVINO can read `int8` shows when it is run.
    """
    if not path.is_file():
        raise ValueError(f'checkpoint: expected a file, found none at {path}; train one with '
                         'training/distill.py, or correct the path')
    try:
        with safe_open(path, 'pt') as file:
            metadata = file.metadata() or {}
            if FORMAT not in metadata:
                raise ValueError(f'checkpoint {path}: expected a student written by vl2v_ros '
                                 f'({FORMAT!r} in the safetensors header), found the entries '
                                 f'{sorted(metadata)}')
            weights = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f'checkpoint {path}: expected a safetensors file, but it is damaged or '
                         f'of another format ({error}); copy or export it again') from error
    spec = _parse_spec(metadata[FORMAT], path)
    try:
        student = Student(spec)
    except ValueError as error:
        raise ValueError(f'checkpoint {path}: bad spec in its header: {error}') from error
    student.int8 = _take_int8(weights, path)
    try:
        student.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f'checkpoint {path}: its weights do not fit its own spec: {error}'
                         ) from error
    return student.eval()


def _take_int8(tensors: dict[str, torch.Tensor], path: Path) -> Int8 | None:
    """Take the student in 8 bits out of a file's tensors; None if they have none of it."""
    parts = {part: tensors.pop(name) for part, name in INT8.items() if name in tensors}
    if not parts:
        return None
    if parts.keys() != INT8.keys() or any(
            tensor.dtype != torch.uint8 or tensor.dim() != 1 or not len(tensor)
            for tensor in parts.values()):
        found = ', '.join(f'{INT8[part]} {tensor.dtype} {tuple(tensor.shape)}'
                          for part, tensor in parts.items())
        raise ValueError(f'checkpoint {path}: expected {" and ".join(INT8.values())} as rows of '
                         f'bytes, found {found}; copy or export it again')
    return Int8(**{part: tensor.numpy().tobytes() for part, tensor in parts.items()})


def _parse_spec(text: str, path: Path) -> StudentSpec:
    try:
        spec = json.loads(text)
        version = spec.pop('version')
        if version != VERSION:
            raise ValueError(f'expected format version {VERSION}, got {version!r}; '
                             'update vl2v_ros or export the student again')
        unknown = spec.keys() - {field.name for field in fields(StudentSpec)}
        if unknown:
            raise ValueError(f'unknown fields {sorted(unknown)}')
        spec['text_tower'] = TextTower(**spec['text_tower'])
        return StudentSpec(**spec)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f'checkpoint {path}: bad spec in its header: {error}') from error
