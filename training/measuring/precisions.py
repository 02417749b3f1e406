"""A student in each precision of this CPU: its time, its error and its accuracy on photos."""
from dataclasses import dataclass
import statistics
import time
from typing import Any, TYPE_CHECKING

import numpy as np
import torch
from training.measuring.photo_sets import accuracies, PhotoSet, read_set, Sets, sets_of
from training.measuring.robot import BATCH, facts, Robot
from vl2v_ros.images.frame import Frame
from vl2v_ros.model import checkpoint
from vl2v_ros.model.checkpoint import StoredStudent
from vl2v_ros.model.runtime.pictures import pictures
from vl2v_ros.words.cached_text import default_cache_dir

if TYPE_CHECKING:
    from vl2v_ros.model.runtime.openvino_runtime import OpenVinoRuntime

FRAME = (720, 1280, 3)  # that is timed


@dataclass(frozen=True, kw_only=True)
class Precisions(Sets):
    """Compare the precisions of this CPU: time, error, and accuracy on labelled photos."""

    rounds: int = 5
    """Number of rounds; in each, every precision is timed once."""
    frames: int = 100
    """Number of frames per round and precision."""


def precisions(command: Precisions) -> dict[str, Any]:
    """
    Measure what the choice at the start chooses from, see vl2v_ros/model/runtime/precision.py.

    :raises ValueError: if photos or names cannot be used, or the student is damaged.
    """
    robot = Robot(command.checkpoint, 'cpu', command.templates)
    found = runtimes(checkpoint.open_stored(command.checkpoint, default_cache_dir() / 'graphs'))
    milliseconds = timed(found, command.rounds, command.frames)
    drawn = [Frame(picture) for picture in pictures(robot.spec.image_size)]
    rows: dict[str, dict[str, object]] = {}
    for name, runtime in found.items():
        times = milliseconds[name]
        cosines = (embed(runtime, drawn) * embed(found['float32'], drawn)).sum(1)
        rows[name] = {'precision': name, 'threads': runtime.threads,
                      'frame [ms]': f'{statistics.median(times):.2f} ({min(times):.2f} to '
                                    f'{max(times):.2f})',
                      'pictures: cosine': _shown(cosines)}
    for title, photo_set in sets_of(command).items():
        for name, figures in photo_figures(photo_set, robot, found).items():
            rows[name] |= {f'{title}: {what}': value for what, value in figures.items()}
    return {**facts(command, robot), 'table': list(rows.values()), 'notes': [],
            'milliseconds': milliseconds}


def runtimes(student: StoredStudent) -> dict[str, 'OpenVinoRuntime']:
    """Return the name of each precision and a runtime that computes in it; float32 first."""
    from vl2v_ros.model.runtime import graphs
    from vl2v_ros.model.runtime.openvino_runtime import OpenVinoRuntime
    from vl2v_ros.model.runtime.precision import CAPABILITIES, Choice
    able = graphs.core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
    names = ['float32', *(name for name, said in CAPABILITIES.items() if said in able)]
    choices = [Choice(int8, name) for int8 in (False, True)[:1 + student.has_int8]
               for name in names]
    models = {False: graphs.of_weights(student), True: graphs.of_int8(student)}
    return {choice.name: OpenVinoRuntime(student.spec, models[choice.int8], choice, 'measured')
            for choice in choices}


def timed(found: dict[str, 'OpenVinoRuntime'], rounds: int, count: int) -> dict[str, list[float]]:
    """Return, per precision, the fastest time from a frame to its row of each round [ms]."""
    frames = [Frame(pixels) for pixels in np.random.default_rng(0).integers(
        0, 256, (8, *FRAME), np.uint8)]
    measured: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(rounds):
        for name, runtime in found.items():
            fastest = float('inf')
            for number in range(count):
                start = time.perf_counter()
                runtime.embed([frames[number % len(frames)]])
                fastest = min(fastest, 1e3 * (time.perf_counter() - start))
            measured[name].append(fastest)
    return measured


def embed(runtime: 'OpenVinoRuntime', frames: list[Frame]) -> np.ndarray:
    """Return (N, D) unit rows."""
    return np.concatenate([runtime.embed(frames[start:start + BATCH])
                           for start in range(0, len(frames), BATCH)])


def photo_figures(photo_set: PhotoSet, robot: Robot, found: dict[str, 'OpenVinoRuntime']
                  ) -> dict[str, dict[str, object]]:
    """Return, per precision, its cosines with float32, changed labels and accuracy [%]."""
    shown = read_set(photo_set, robot.encoder, robot.templates)
    frames = [Frame(shown.index.read(row)) for row in range(len(shown.index))]
    figures: dict[str, dict[str, object]] = {}
    plain = embed(found['float32'], frames)
    best = (plain @ shown.words.prototypes.T).argmax(1)
    for name, runtime in found.items():
        rows = embed(runtime, frames)
        similarities = rows @ shown.words.prototypes.T
        top = accuracies(torch.from_numpy(similarities), torch.from_numpy(shown.labels),
                         shown.index)['top-1']
        figures[name] = {
            'cosine': _shown((rows * plain).sum(1)),
            'other labels [%]': 100 * float((similarities.argmax(1) != best).mean()),
            'top-1 [%]': top}
    return figures


def _shown(cosines: np.ndarray) -> str:
    """Return mean and lowest cosine."""
    return f'{cosines.mean():.4f}, {cosines.min():.4f}'
