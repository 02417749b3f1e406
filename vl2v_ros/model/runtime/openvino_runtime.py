"""A student on the CPU, by OpenVINO."""
from collections.abc import Sequence
from itertools import pairwise
import os
import time
from typing import TYPE_CHECKING

import numpy as np
import openvino
from vl2v_ros import frame_profile
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.preprocess import resize_on_cpu
from vl2v_ros.model.checkpoint import StoredStudent
from vl2v_ros.model.runtime import graphs, precision
from vl2v_ros.model.runtime.matching import check_numbers, match_embeddings, Matches
from vl2v_ros.model.runtime.openvino_cells import OpenVinoCells
from vl2v_ros.model.runtime.precision import Choice, compiled, fastest
from vl2v_ros.model.spec import StudentSpec

if TYPE_CHECKING:
    from vl2v_ros.model.student import Student

MIN_SPEEDUP = 1.4  # required when doubling the threads, and of more than one after a pause
PAUSE = 0.01  # since the last frame, from which on the threads of a graph are asleep [s]
PAUSED_TRIALS = 3  # of each contender: a start waits for them
MOST_THREADS = 8
MOST_FRAMES = 8  # at a time: more are not faster, and 100 would take 0.6 GB more


def open_on_cpu(student: 'Student | StoredStudent', why: str, half: bool) -> 'OpenVinoRuntime':
    """
    Run a student in the precision that suits this CPU; of a `StoredStudent` it is cached.

    :param half: try precisions of 16 bits.
    :raises ValueError: if the student is damaged, or what it makes is no number.
    :raises RuntimeError: if OpenVINO cannot convert or compile it.
    """
    kept = choice = None
    if isinstance(student, StoredStudent) and (half or student.has_int8):
        cpu = graphs.core().get_property('CPU', 'FULL_DEVICE_NAME')
        able = sorted(graphs.core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES'))
        kept = graphs.cached(student, '.json', student.path.read_bytes(), cpu, able, half)
        choice = precision.read(kept)
    if choice:
        model = graphs.of_int8(student) if choice.int8 else graphs.of_weights(student)
        return OpenVinoRuntime(student.spec, model, choice, why)
    weights, int8 = graphs.of_weights(student), graphs.of_int8(student)
    choice = Choice()
    if half or int8:
        choice = precision.measure(_for_one(weights), int8 and _for_one(int8), half)
    if kept:
        graphs.keep(kept, lambda: precision.write(kept, choice))
    return OpenVinoRuntime(student.spec, int8 if choice.int8 else weights, choice, why)


def _for_one(model: openvino.Model) -> openvino.Model:
    one = model.clone()
    one.reshape([1, *model.input().partial_shape[1:]])
    return one


class OpenVinoRuntime:
    """
    Runs a student's graph by OpenVINO, without torch.

    One graph is compiled for a single frame, the most common case, which is faster with a fixed
    shape; another one is compiled for several frames. Threads that have to wake up for a frame
    wait for each other, so a frame after a pause has a graph of its own, mostly with one thread.
    """

    at_once = 1

    def __init__(self, spec: StudentSpec, model: openvino.Model, choice: Choice, why: str) -> None:
        """
        Choose the number of threads, and compile.

        :param model: a graph of the student, see graphs.py.
        :raises ValueError: if what the student makes is no number.
        """
        self._spec, self._precision = spec, choice.precision
        single, self._one, self.threads = _fewest_threads(_for_one(model), choice.precision)
        check_numbers(self._one.get_output_tensor().data)
        self._paused = _after_pauses(single, self._one)
        self._ended = 0.0  # when the last frame was done, by time.perf_counter [s]
        self._many = compiled(model, choice.precision, self.threads)
        fewer = ' (1 after a pause)' if self._paused is not self._one else ''
        self.description = (
            f'CPU, {choice.name}, {self.threads} thread{"s" * (self.threads > 1)}{fewer}, '
            f'OpenVINO ({"; ".join(filter(None, [why, choice.why]))})')

    def embed(self, frames: Sequence[Frame]) -> np.ndarray:
        """
        Return (B, D) float32 unit rows, B at least 1.

        After full batches the rest comes one by one: a batch of another size gained nothing.
        """
        if len(frames) <= MOST_FRAMES:
            return self._embed(frames)
        full = len(frames) - len(frames) % MOST_FRAMES
        starts = [*range(0, full, MOST_FRAMES), *range(full, len(frames))]
        return np.concatenate([self._embed(frames[start:end]) for start, end
                               in pairwise([*starts, len(frames)])])

    def _embed(self, frames: Sequence[Frame]) -> np.ndarray:
        size = self._spec.image_size
        request = self._many if len(frames) > 1 else (
            self._one if time.perf_counter() < self._ended + PAUSE else self._paused)
        given = request.get_input_tensor()
        if given.shape[0] != len(frames):
            given.shape = [len(frames), size, size, 3]
        resize_on_cpu(frames, size, self._spec.resize_mode, given.data)
        frame_profile.mark('resize')
        request.infer()
        rows = request.get_output_tensor().data.copy()  # the next call overwrites it
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)  # again, as 16 bits are not exact
        self._ended = time.perf_counter()
        frame_profile.mark('model')
        return rows

    def match(self, frames: Sequence[Frame], prototypes: np.ndarray, background: np.ndarray,
              k: int, temperature: float) -> Matches:
        """Compare frames with (C, D) and (K, D) unit rows; K may be 0."""
        return match_embeddings(self.embed(frames), prototypes, background, k, temperature)

    def open_cells(self, student: 'Student | StoredStudent') -> OpenVinoCells:
        """Prepare the student's cells, in 16 or 32 bits; raises as `graphs.of_cells` does."""
        return OpenVinoCells(self._spec, graphs.of_cells(student), self._precision, self.threads)


def _fewest_threads(model: openvino.Model, precision: str
                    ) -> tuple[openvino.InferRequest, openvino.InferRequest, int]:
    """
    Double the threads as long as that is MIN_SPEEDUP times faster.

    A small student gains little from a second thread, and the robot's other programs need the
    cores too.

    :param model: the graph for one frame.
    :return: the graph compiled for one thread and that with the fewest, which may be the same;
        both have run once on grey; and the number of threads of the latter.
    """
    most = min(MOST_THREADS, len(os.sched_getaffinity(0)))
    single = best = compiled(model, precision, 1)
    threads = 1
    best.get_input_tensor().data[:] = 128
    best.infer()
    while 2 * threads <= most:
        request = compiled(model, precision, 2 * threads)
        request.get_input_tensor().data[:] = 128
        before, now = fastest([best, request])
        if now * MIN_SPEEDUP >= before:
            break
        best, threads = request, 2 * threads
    return single, best, threads


def _after_pauses(single: openvino.InferRequest, several: openvino.InferRequest
                  ) -> openvino.InferRequest:
    """Return what to run after a pause: one thread, unless several are MIN_SPEEDUP faster."""
    if several is single:
        return single
    one, more = fastest([single, several], PAUSED_TRIALS, PAUSE)
    return several if more * MIN_SPEEDUP < one else single
