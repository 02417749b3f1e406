"""
Measure what open_clip's models cost on a CPU, as students without distillation.

taskset -c 0 python -m benchmarks.choices.clip_times

The weights are random, which changes neither size nor time. Each model embeds 1280x720 frames in
the precision that is chosen for this CPU. What counts is the time on the CPU; on one core, that is
the time a frame takes where nothing else runs. The shipped student comes first.
"""
from dataclasses import dataclass
import math
from pathlib import Path
import statistics
from tempfile import TemporaryDirectory
import time
from typing import Any

from benchmarks import machine
import numpy as np
import open_clip
from safetensors import safe_open
from training.exporting import from_clip
import tyro
from vl2v_ros.files import share, write_json
from vl2v_ros.images.frame import Frame
from vl2v_ros.model import checkpoint
from vl2v_ros.model.classifier import Classifier
from vl2v_ros.words.encoder import TextTower

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Options:
    """What is measured."""

    out: Path = ROOT / 'build/benchmarks/clip_times.json'  # JSON file to write.
    models: tuple[str, ...] = (
        'MobileCLIP2-S0', 'MobileCLIP-S1', 'MobileCLIP-S2', 'RN50', 'ViT-B-32', 'ViT-B-32-256',
        'ViT-B-16', 'EVA02-B-16', 'ViT-B-16-SigLIP', 'ViT-L-14')
    """Names of open_clip models."""
    frames: int = 10  # Frames that each model embeds.


def write(name: str, path: Path) -> None:
    """Write a model of open_clip with random weights as a student."""
    model = open_clip.create_model(name, load_weights=False, pretrained_image=False).eval()
    student, _ = from_clip.to_student(from_clip.Source(
        name, model, open_clip.get_model_config(name), TextTower('', ''), ''))
    checkpoint.save(student, path)


def millions(path: Path) -> float:
    """Return how many million weights a student has, in float."""
    with safe_open(path, 'np') as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys()
                   if name not in checkpoint.INT8.values()) / 1e6


def measure(path: Path, frames: int, graphs: Path) -> dict[str, Any]:
    """Return the input side of a student [px] and its time of a frame on the CPU [ms]."""
    classifier = Classifier(checkpoint.open_stored(path, graphs), 'cpu')
    frame = Frame(np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8))
    classifier.embed([frame])
    times = []
    for _ in range(frames):
        start = time.process_time()
        classifier.embed([frame])
        times.append(1e3 * (time.process_time() - start))
    return {'side [px]': classifier.spec.image_size, 'time [ms]': statistics.median(times),
            'runs on': classifier.runtime.description}


def main(options: Options) -> None:
    """Measure each model, print a table and write the figures."""
    found = {}
    print('| model | million weights | side [px] | a frame on one core [ms] |')
    print('|---|---:|---:|---:|')
    for name in ('shipped', *options.models):
        with TemporaryDirectory() as folder:
            path = share() / 'models/student.safetensors'
            if name != 'shipped':
                path = Path(folder, 'student.safetensors')
                write(name, path)
            one = measure(path, options.frames, Path(folder, 'graphs'))
            found[name] = one | {'million weights': millions(path)}
        print(f'| {name} | {found[name]["million weights"]:.1f} | {one["side [px]"]} | '
              f'{one["time [ms]"]:.1f} |', flush=True)
    write_json(options.out, {'machine': machine.describe(), 'models': found})


if __name__ == '__main__':
    main(tyro.cli(Options))
