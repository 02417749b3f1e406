"""The graphs of a student that OpenVINO runs, found without torch in this process."""
from collections.abc import Callable
from functools import cache
import hashlib
import io
import logging
import os
from pathlib import Path
import signal
import subprocess
import sys
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import openvino
from vl2v_ros.model.checkpoint import StoredStudent
from vl2v_ros.model.runtime import outline
from vl2v_ros.model.spec import Graph, StudentSpec

if TYPE_CHECKING:
    from vl2v_ros.model.student import Student

logger = logging.getLogger(__name__)
CELLS_SUFFIX = '.cells'  # of the cached outline of a student's cells
MOST_KEPT = 8  # cached files of a kind; the oldest are deleted


@cache
def core() -> openvino.Core:
    """
    Return OpenVINO's one core of this process.

    It stays until the process ends: OpenVINO gives the thread that makes it a stack for signal
    handlers, and frees that stack with the core, from any thread; the next signal would then end
    the process.
    """
    return openvino.Core()


def read(graph: Graph, spec: StudentSpec, cells: bool = False) -> openvino.Model:
    """Return the graph of a student, or of its cells; raises ValueError if it is damaged."""
    size = spec.image_size
    wanted = f'[?,{size},{size},3] u8 -> [?,{spec.width}] f32'
    if cells:
        wanted = f'[?,?,?,3] u8 -> [?,?,?,{spec.width}] f32'
    try:
        model = core().read_model(io.BytesIO(graph.xml), io.BytesIO(graph.bin))
        (given,), (made,) = model.inputs, model.outputs
        found = ' -> '.join(f'{port.partial_shape} {port.element_type.get_type_name()}'
                            for port in (given, made)).replace('1..', '?')  # of any size
    except (RuntimeError, ValueError) as error:
        found = ' '.join(str(error).split())
    if found != wanted:
        raise ValueError(f'expected a model that OpenVINO {openvino.__version__} can read, '
                         f'{wanted}, found {found}; copy the checkpoint or export it again')
    return model


def of_int8(student: 'Student | StoredStudent') -> openvino.Model | None:
    """Return the student in 8 bits; raises ValueError if it is damaged, None if there is none."""
    int8 = student.read_int8() if isinstance(student, StoredStudent) else student.int8
    try:
        return int8 and read(int8, student.spec)
    except ValueError as error:
        raise ValueError(f'int8: {error}') from error


def of_weights(student: 'Student | StoredStudent') -> openvino.Model:
    """
    Return the graph of a student's weights.

    Of a `StoredStudent`, its outline lies beside the checkpoint or is cached; else another
    process makes it, as that takes seconds and a gigabyte of memory.

    :raises ValueError: if the checkpoint is damaged, or that process was ended by something.
    :raises RuntimeError: if OpenVINO cannot convert the student.
    """
    if not isinstance(student, StoredStudent):
        from vl2v_ros.model.runtime.openvino_graph import convert
        return convert(student)
    return _of_stored(student, False)


def of_cells(student: 'Student | StoredStudent') -> openvino.Model:
    """
    Return the graph of a student's cells: (B, H, W, 3) uint8 RGB in, (B, h, w, D) unit rows out.

    It is found or made as that of the weights, and raises as `of_weights` does, also for a
    student without cells.
    """
    if not isinstance(student, StoredStudent):
        from vl2v_ros.model.runtime.openvino_graph import convert_cells
        return convert_cells(student)
    return _of_stored(student, True)


def _of_stored(student: StoredStudent, cells: bool) -> openvino.Model:
    checkpoint = student.path.read_bytes()
    suffix = CELLS_SUFFIX if cells else outline.SUFFIX
    kept = cached(student, suffix, checkpoint)
    for path in (student.path.with_suffix(suffix), kept):
        try:
            return read(outline.fill(outline.read(path, checkpoint), checkpoint), student.spec,
                        cells)
        except ValueError:  # missing, of another checkpoint, or for another OpenVINO
            continue
    made = _convert_elsewhere(student.path, checkpoint, cells)
    keep(kept, lambda: outline.write(kept, made, checkpoint))
    return read(outline.fill(made, checkpoint), student.spec, cells)


def cached(student: StoredStudent, suffix: str, checkpoint: bytes, *depends: object) -> Path:
    """Return the path of what is cached for a student; `depends` is what else it depends on."""
    key = f'{outline.digest(checkpoint)} {openvino.__version__} {depends}'
    return student.graphs / f'{hashlib.sha256(key.encode()).hexdigest()[:32]}{suffix}'


def keep(path: Path, write: Callable[[], None]) -> None:
    """Write a file of the cache, and delete old ones; log a warning if that fails."""
    try:
        write()
        by_age = sorted(path.parent.glob(f'*{path.suffix}'), key=os.path.getmtime)
        for old in by_age[:-MOST_KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        logger.warning('%s cannot be written (%s), so every start makes it again', path, error)


def _convert_elsewhere(path: Path, checkpoint: bytes, cells: bool) -> Graph:
    """Return the outline of a checkpoint, made by another process; raises as `of_weights`."""
    with TemporaryDirectory() as folder:
        out = Path(folder, 'student.graph')
        done = subprocess.run(
            [sys.executable, '-m', 'vl2v_ros.model.runtime.openvino_graph', str(path), str(out),
             str(os.getpid()), *[outline.CELLS] * cells],
            capture_output=True, text=True, errors='replace',
            env=os.environ | {'PYTHONPATH': os.pathsep.join(filter(None, sys.path))})
        said = (done.stderr.strip().splitlines() or ['it said nothing'])[-1]
        if done.returncode == outline.REFUSED:
            raise ValueError(said)
        if done.returncode == outline.UNABLE:
            raise RuntimeError(said)
        if done.returncode == 0:
            return outline.read(out, checkpoint)
    ended = f'exited with {done.returncode} ({said})'
    if done.returncode < 0:
        ended = f'was ended by {signal.Signals(-done.returncode).name}'
    raise ValueError(
        f'checkpoint {path}: its first start converts it in a process of its own, which {ended}; '
        'it needs 1 GB of memory. Free some, or put the file beside it that `training/export.py '
        f'--checkpoint {path.name} --graph` writes on another machine')
