"""
Measure the time of each step of a frame, from host memory to its labels in host memory.

python benchmarks/frame_profile.py

The student runs as on the robot. Whole frames are timed one by one, stages with a wait for the
device after each, copies alone, and kernels and calls by torch's profiler.
"""
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
import sys
import time
from typing import Any

from benchmarks import machine
from benchmarks.component import pick_device, vocabulary
import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import profile, ProfilerActivity
import tyro
from vl2v_ros import frame_profile
from vl2v_ros.files import write_json
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.preprocess import crop
from vl2v_ros.model import checkpoint
from vl2v_ros.model.classifier import Classifier

ROOT = Path(__file__).resolve().parent.parent
MOST = 15  # rows of the table of kernels and calls, each


@dataclass(frozen=True)
class Options:
    """What is measured."""

    checkpoint: Path = ROOT / 'models/student.safetensors'  # The student to measure.
    width: int = 1280  # Width of the frames [px].
    height: int = 720  # Height of the frames [px].
    labels: int = 100  # Number of labels in the vocabulary.
    top_k: int = 5  # Number of labels per result.
    frames: int = 1000
    """Number of frames that are timed one by one."""
    profiled: int = 20
    """Number of frames whose kernels and calls are profiled."""
    device: str = 'auto'  # Device to measure on: auto, cpu, cuda or cuda:N.
    out: Path = ROOT / 'build/benchmarks/frame_profile.json'  # JSON file to write.


def times(do: Callable[[], object], count: int) -> dict[str, float]:
    """Return percentiles of the time of a call [ms]."""
    passed = []
    for _ in range(count):
        start = time.perf_counter()
        do()
        passed.append(1e3 * (time.perf_counter() - start))
    return {'p50': float(np.percentile(passed, 50)), 'p90': float(np.percentile(passed, 90)),
            'p99': float(np.percentile(passed, 99)), 'least': min(passed)}


def stage_times(label: Callable[[], object], count: int) -> dict[str, float]:
    """Return the median of each stage of the frame path [ms]."""
    frame_profile.recorder = recorder = frame_profile.Recorder()
    try:
        for _ in range(count):
            recorder.begin((time.perf_counter_ns(),))
            label()
    finally:
        frame_profile.recorder = None
    return {stage: found['p50'] / 1e3 for stage, found in recorder.summary()['stages'].items()
            if stage != 'wait'}


def copy_times(frames: Iterator[Frame], mode: str, device: torch.device, count: int
               ) -> dict[str, dict[str, float]]:
    """Return the times to copy the visible part of a frame, and to upload it [ms]."""
    size = crop(next(frames).pixels, mode).shape
    staged = torch.empty(size, dtype=torch.uint8, pin_memory=device.type == 'cuda')
    found = {'copy into pinned memory': times(
        lambda: np.copyto(staged.numpy(), crop(next(frames).pixels, mode)), count)}
    if device.type == 'cuda':
        uploaded = staged.to(device)

        def upload() -> None:
            uploaded.copy_(staged, non_blocking=True)
            torch.cuda.synchronize(device)

        found['upload from there'] = times(upload, count)
    return found


def profiled(label: Callable[[], object], count: int, device: torch.device
             ) -> list[dict[str, Any]]:
    """Return the kernels (GPU) and calls (CPU) of a frame, sorted by their own time."""
    activities = [ProfilerActivity.CPU]
    if device.type == 'cuda':
        activities.append(ProfilerActivity.CUDA)
    for _ in range(2):  # the first is slowed down by the profiler's own start
        with profile(activities=activities) as seen:
            for _ in range(count):
                label()
            if device.type == 'cuda':
                torch.cuda.synchronize(device)
    rows = []
    for event in seen.key_averages():
        gpu = event.device_type == DeviceType.CUDA
        own = event.self_device_time_total if gpu else event.self_cpu_time_total
        rows.append({'name': event.key, 'where': 'GPU' if gpu else 'CPU',
                     'calls': event.count / count, 'us': own / count})
    return sorted(rows, key=lambda row: -row['us'])


def measure(options: Options, device: str) -> dict[str, Any]:
    """Return the result as JSON can hold it."""
    classifier = Classifier(checkpoint.load(options.checkpoint), device)
    words = vocabulary(options.labels, classifier.spec.width)
    pixels = np.random.default_rng(0).integers(0, 256, (8, options.height, options.width, 3),
                                               np.uint8)
    frames = cycle([Frame(one) for one in pixels])  # others each time, as from a camera

    def label() -> None:
        classifier.classify([next(frames)], words, options.top_k)

    times(label, min(50, options.frames))  # for warming up
    where = torch.device(device)
    result: dict[str, Any] = {
        'machine': machine.describe() | {'device': device},
        'runs on': classifier.runtime.description, 'frame [ms]': times(label, options.frames),
        'stages [ms]': stage_times(label, options.frames),
        'copies [ms]': copy_times(frames, classifier.spec.resize_mode, where, options.frames),
        'profile [us]': profiled(label, options.profiled, where)}
    if where.type == 'cuda':
        result['GPU memory [MiB]'] = torch.cuda.max_memory_allocated() / 2**20
    return result


def listed(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [f'| `{row["name"][:90].replace("|", "/")}` | {row["calls"]:.1f} | {row["us"]:.1f} |'
            for row in rows[:MOST]]


def table(result: dict[str, Any]) -> str:
    """Return Markdown."""
    whole = result['frame [ms]']
    lines = [f'Runs on {result["runs on"]}.', '',
             '| | median [ms] | p99 [ms] |', '|---|---:|---:|',
             f'| **whole frame** | **{whole["p50"]:.3f}** | {whole["p99"]:.3f} |']
    lines += [f'| stage {stage}, waited for | {passed:.3f} | |'
              for stage, passed in result['stages [ms]'].items()]
    lines += [f'| {name}, alone | {passed["p50"]:.3f} | {passed["p99"]:.3f} |'
              for name, passed in result['copies [ms]'].items()]
    for where in ('GPU', 'CPU'):
        rows = [row for row in result['profile [us]'] if row['where'] == where]
        if rows:
            lines += ['', f'| on the {where}: {sum(row["us"] for row in rows):.0f} µs a frame '
                      '| calls | µs |', '|---|---:|---:|', *listed(rows)]
    if 'GPU memory [MiB]' in result:
        lines += ['', f'Peak of GPU memory: {result["GPU memory [MiB]"]:.0f} MiB.']
    return '\n'.join(lines)


def main() -> None:
    """Measure, print the table, and write the JSON."""
    options = tyro.cli(Options, description=__doc__)
    try:
        device = pick_device(options.device)
    except ValueError as error:
        sys.exit(f'frame_profile: {error}')
    result = measure(options, device)
    result['table'] = table(result)
    print(result['table'])
    write_json(options.out, result)


if __name__ == '__main__':
    main()
