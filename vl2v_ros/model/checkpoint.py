"""
Checkpoints: one safetensors file per student, with its weights and its specification as JSON.

It may also hold the student in 8 bits, as the bytes of an OpenVINO model. This file is all that
training passes to the robot.
"""
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cached_property
import hashlib
import json
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
from safetensors import safe_open, SafetensorError
from vl2v_ros.files import one_line, replacing
from vl2v_ros.model.spec import Graph, StudentSpec
from vl2v_ros.words.encoder import TextTower

if TYPE_CHECKING:
    from vl2v_ros.model.student import Student

FORMAT = 'vl2v_student'
VERSION = 1
INT8 = {name: f'int8.{name}' for name in Graph._fields}  # names of tensors


def save(student: 'Student', path: Path, int8: Graph | None = None) -> None:
    """
    Write the student atomically.

    :param int8: the student in 8 bits, made from exactly these weights. `student.int8` is not
        used, because it is invalid once the student was trained further.
    """
    from safetensors.torch import save as to_bytes
    import torch
    spec = {'version': VERSION, **asdict(student.spec)}
    weights = {name: weight.contiguous() for name, weight in student.state_dict().items()}
    if int8:
        weights |= {INT8[name]: torch.frombuffer(bytearray(part), dtype=torch.uint8)
                    for name, part in int8._asdict().items()}
    with replacing(path) as temporary:
        # Not save_file: only the owner may read what it writes.
        temporary.write_bytes(to_bytes(weights, {FORMAT: json.dumps(spec)}))


def write_spec(source: Path, spec: StudentSpec, path: Path) -> None:
    """
    Write a checkpoint with the weights of another one, atomically; needs no torch.

    :raises ValueError: as `load` does, except for errors in the weights.
    """
    with _opened(source, 'np') as (file, _):
        metadata = file.metadata()
    content = source.read_bytes()  # length of the header in 8 bytes, the header, the weights
    start = 8 + int.from_bytes(content[:8], 'little')
    header = json.loads(content[8:start])
    header['__metadata__'] = metadata | {
        FORMAT: json.dumps({'version': VERSION, **asdict(spec)})}
    written = json.dumps(header).encode()
    written += b' ' * (-len(written) % 8)
    with replacing(path) as temporary:
        temporary.write_bytes(len(written).to_bytes(8, 'little') + written + content[start:])


@dataclass(frozen=True)
class StoredStudent:
    """
    A student in a file, of which only the header was read.

    has_int8: whether the file also holds the student in 8 bits.
    graphs: folder that caches how a CPU runs it: its graph, and the precision.
    """

    path: Path
    spec: StudentSpec
    has_int8: bool
    graphs: Path

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the weights; what else is in the header does not change it."""
        with self.path.open('rb') as file:
            file.seek(int.from_bytes(file.read(8), 'little'), 1)  # the header, by its length
            return f'sha256:{hashlib.sha256(file.read()).hexdigest()}'

    def load(self) -> 'Student':
        """Read the whole student; raises ValueError as `load` does."""
        return load(self.path)

    def read_int8(self) -> Graph | None:
        """Read the student in 8 bits, None if there is none; raises ValueError as `load` does."""
        with _opened(self.path, 'np') as (file, _):
            return _int8({part: file.get_tensor(name) for part, name in INT8.items()
                          if name in file.keys()}, self.path)


def open_stored(path: Path, graphs: Path) -> StoredStudent:
    """
    Read a checkpoint's header, which needs no torch.

    :raises ValueError: as `load` does, except for errors in the weights.
    """
    with _opened(path, 'np') as (file, spec):
        return StoredStudent(path, spec, not set(INT8.values()).isdisjoint(file.keys()), graphs)


def is_student(path: Path) -> bool:
    """Return whether a file is a student; False for other weights and unreadable files."""
    try:
        with safe_open(path, 'np') as file:
            return FORMAT in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def load(path: Path) -> 'Student':
    """
    Read a student, in evaluation mode, in float32, on the CPU.

    :raises ValueError: if the file is missing, damaged, of another format, or its weights do not
        fit its spec or are no numbers. An `int8` that OpenVINO cannot read is found only when it
        is run.
    """
    from vl2v_ros.model.student import Student  # with torch and timm: seconds of a start
    with _opened(path, 'pt') as (file, spec):
        weights = {name: file.get_tensor(name) for name in file.keys()}
    try:
        student = Student(spec)
    except ValueError as error:
        raise ValueError(f'checkpoint {path}: bad spec in its header: '
                         f'{one_line(error)}') from error
    student.int8 = _int8({part: weights.pop(name).numpy() for part, name in INT8.items()
                          if name in weights}, path)
    try:
        student.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f'checkpoint {path}: its weights do not fit its own spec: '
                         f'{one_line(error)}') from error
    if bad := [name for name, weight in weights.items() if not weight.isfinite().all()]:
        raise ValueError(f'checkpoint {path}: expected weights that are numbers, but {len(bad)} '
                         f'of {len(weights)} tensors hold NaN or infinity, such as {bad[0]}; its '
                         'training diverged, or the file is damaged: take another')
    return student.eval()


@contextmanager
def _opened(path: Path, framework: str) -> Iterator[tuple[safe_open, StudentSpec]]:
    if not path.is_file():
        raise ValueError(f'checkpoint: expected a file, found none at {path}; train one with '
                         'training/distill.py, or correct the path')
    try:
        with safe_open(path, framework) as file:
            metadata = file.metadata() or {}
            if FORMAT not in metadata:
                raise ValueError(f'checkpoint {path}: expected a student written by vl2v_ros '
                                 f'({FORMAT!r} in the safetensors header), found the entries '
                                 f'{sorted(metadata)}')
            yield file, _parse_spec(metadata[FORMAT], path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f'checkpoint {path}: expected a safetensors file, but it is damaged or '
                         f'of another format ({one_line(error)}); copy or export it '
                         'again') from error


def _int8(parts: dict[str, np.ndarray], path: Path) -> Graph | None:
    """Return the student in 8 bits of its parts in a file; None if there are none."""
    if not parts:
        return None
    if parts.keys() != INT8.keys() or any(
            part.dtype != np.uint8 or part.ndim != 1 or not len(part) for part in parts.values()):
        found = ', '.join(f'{INT8[name]} {part.dtype} {part.shape}'
                          for name, part in parts.items())
        raise ValueError(f'checkpoint {path}: expected {" and ".join(INT8.values())} as rows of '
                         f'bytes, found {found}; copy or export it again')
    return Graph(**{name: part.tobytes() for name, part in parts.items()})


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
        spec['text_tower'] = tower = TextTower(**spec['text_tower'])
        for name in (tower.model, tower.pretrained, tower.recording):
            if PurePath(name).is_absolute() or '..' in PurePath(name).parts:
                raise ValueError('text_tower: expected files in the folder of the checkpoint, got '
                                 f'{name!r}; copy it there')
        return StudentSpec(**spec)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f'checkpoint {path}: bad spec in its header: '
                         f'{one_line(error)}') from error
