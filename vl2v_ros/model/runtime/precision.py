"""Choose the precision in which a CPU runs a student: by measuring its time and its error."""
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
import json
from pathlib import Path
import time
from typing import NamedTuple

import numpy as np
import openvino
from vl2v_ros.files import write_json
from vl2v_ros.model.runtime.graphs import core
from vl2v_ros.model.runtime.matching import check_numbers
from vl2v_ros.model.runtime.pictures import pictures

# Another precision has to be this many times as fast as what is chosen so far: gains that are
# smaller than other programs' influence on the measurement are not worth its error.
FASTER = 1.15
# Mean cosine, over the pictures, between embeddings of a precision and of float32. Errors of this
# size in random directions change 7 % of the shipped student's labels of photos among 997 names,
# those that are almost ties, and leave its accuracy within half a point; twice the error takes
# more than a point. These pictures are hard: the error on photos is two to five times smaller.
MEAN_COSINE = 0.995
TRIALS = 20  # runs of each contender; the fastest run counts
HINTS = {'float32': 'f32', 'float16': 'f16', 'bfloat16': 'bf16'}
CAPABILITIES = {'float16': 'FP16', 'bfloat16': 'BF16'}  # of OpenVINO, in the order they are tried


@dataclass(frozen=True)
class Choice:
    """
    The precision of a student on a CPU.

    int8: whether its graph in 8 bits runs, with `precision` for what is not in 8 bits.
    precision: one of HINTS.
    why: what was measured, for people.
    """

    int8: bool = False
    precision: str = 'float32'
    why: str = ''

    @property
    def name(self) -> str:
        """The precision, for people."""
        return f'int8 and {self.precision}' if self.int8 else self.precision


class _Tried(NamedTuple):
    choice: Choice
    request: openvino.InferRequest


def compiled(model: openvino.Model, precision: str, threads: int) -> openvino.InferRequest:
    """
    Compile a graph; raises RuntimeError if OpenVINO cannot.

    Its threads are not pinned to CPUs, as they are by default: one that is pinned waits for what
    else runs on its CPU, even while another CPU is idle.
    """
    return core().compile_model(model, 'CPU', {
        'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': HINTS[precision],
        'INFERENCE_NUM_THREADS': threads, 'NUM_STREAMS': 1, 'ENABLE_CPU_PINNING': False,
    }).create_infer_request()


def fastest(requests: Sequence[openvino.InferRequest], trials: int = TRIALS,
            pause: float = 0.0) -> list[float]:
    """Return the time of each after pauses [s]; in turns, so that other work slows all alike."""
    times = [float('inf')] * len(requests)
    for _ in range(trials):
        for place, request in enumerate(requests):
            time.sleep(pause)
            start = time.perf_counter()
            request.infer()
            times[place] = min(times[place], time.perf_counter() - start)
    return times


def measure(weights: openvino.Model, int8: openvino.Model | None, half: bool) -> Choice:
    """
    Choose the fastest precision that this CPU has and that embeds nearly as float32 does.

    :param weights: the graph of a student's weights, for one frame.
    :param int8: the student in 8 bits, for one frame; it is tried if there is one.
    :param half: try precisions of 16 bits.
    :raises ValueError: if what the student makes is no number.
    """
    shown = pictures(weights.input().partial_shape[1].get_length())
    best = _Tried(Choice(), compiled(weights, 'float32', 1))
    wanted = _embed(best.request, shown)
    check_numbers(wanted)
    able = core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
    offered = [(weights, Choice(precision=precision)) for precision, name in CAPABILITIES.items()
               if half and name in able]
    said = [] if offered or not half else ['it has no precision of 16 bits']
    for model, choice in offered:
        best = _better(best, model, choice, shown, wanted, said)
    if int8:
        best = _better(best, int8, replace(best.choice, int8=True), shown, wanted, said)
    return replace(best.choice, why='; '.join(said))


def _better(best: _Tried, model: openvino.Model, choice: Choice, shown: np.ndarray,
            wanted: np.ndarray, said: list[str]) -> _Tried:
    """Return the better of what is chosen so far and another choice, and say why."""
    request = compiled(model, choice.precision, 1)
    used = request.get_compiled_model().get_property('INFERENCE_PRECISION_HINT')
    if used.get_type_name() != HINTS[choice.precision]:
        said.append(f'OpenVINO computes in {used.get_type_name()} if asked for {choice.name}')
        return best
    cosine = (_embed(request, shown) * wanted).sum(1).mean()
    if not cosine >= MEAN_COSINE:  # written so that NaN fails
        said.append(f'{choice.name} is too far from float32: mean cosine {cosine:.4f}')
        return best
    before, now = fastest([best.request, request])
    gain = f'{before / now:.1f} times as fast as {best.choice.name}'
    if now * FASTER > before:
        said.append(f'{choice.name} is only {gain}')
        return best
    said.append(f'{gain}, mean cosine {cosine:.4f}')
    return _Tried(choice, request)


def _embed(request: openvino.InferRequest, shown: np.ndarray) -> np.ndarray:
    rows = []
    for picture in shown:
        request.get_input_tensor().data[:] = picture
        request.infer()
        rows.append(request.get_output_tensor().data[0].astype(np.float64))
    return np.array([row / np.linalg.norm(row) for row in rows])


def read(path: Path) -> Choice | None:
    """Read a choice; None if there is none, or none of this version."""
    try:
        choice = Choice(**json.loads(path.read_text()))
        return choice if choice.precision in HINTS else None
    except (OSError, ValueError, TypeError):
        return None


def write(path: Path, choice: Choice) -> None:
    """Write a choice atomically; raises OSError."""
    write_json(path, asdict(choice))
