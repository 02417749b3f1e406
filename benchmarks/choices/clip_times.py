"""
Measure what open_clip's models cost on a CPU, as students without distillation.

python -m benchmarks.choices.clip_times

The weights are random, which changes neither size nor time. Each model embeds 1280x720 frames in
the precision that is chosen for this CPU; int8 is left out.
"""
from dataclasses import dataclass
import json
from pathlib import Path
import statistics
from tempfile import TemporaryDirectory
import time
from typing import Any

from benchmarks import machine
import numpy as np
import open_clip
from training.exporting import from_clip
import tyro
from vl2v_ros.files import replacing
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
        'MobileCLIP2-S0', 'RN50', 'ViT-B-32', 'ViT-B-32-256', 'MobileCLIP2-S2', 'coca_ViT-B-32',
        'ViT-B-16', 'ViT-B-16-SigLIP', 'EVA02-B-16', 'convnext_base_w', 'ViT-L-14')
    """Names of open_clip models."""
    frames: int = 20  # Frames that each model embeds.


def measure(name: str, frames: int) -> dict[str, Any]:
    """Return the size [million weights] and the time of a frame [ms] of a model."""
    model = open_clip.create_model(name, load_weights=False).eval()
    config = open_clip.get_model_config(name)
    student, _ = from_clip.to_student(from_clip.Source(name, model, config, TextTower('', ''), ''))
    weights = sum(weight.numel() for weight in student.parameters()) / 1e6
    del model
    with TemporaryDirectory() as folder:
        path = Path(folder, 'student.safetensors')
        checkpoint.save(student, path)
        del student
        stored = checkpoint.open_stored(path, Path(folder, 'graphs'))
        classifier = Classifier(stored, 'cpu')
        frame = Frame(np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8))
        classifier.embed([frame])
        times = []
        for _ in range(frames):
            start = time.perf_counter()
            classifier.embed([frame])
            times.append(1e3 * (time.perf_counter() - start))
        outlines = [one.stat().st_size / 1e6 for one in Path(folder).rglob('*.graph')]
    return {'million weights': round(weights, 1), 'side [px]': stored.spec.image_size,
            'p50 [ms]': round(statistics.median(times), 1), 'graph [MB]': round(sum(outlines), 1),
            'runs': classifier.runtime.description}


def main(options: Options) -> None:
    """Measure each model, print a table and write the figures."""
    found = {}
    print('| model | million weights | side [px] | a frame, p50 [ms] |\n|---|---:|---:|---:|')
    for name in options.models:
        found[name] = one = measure(name, options.frames)
        print(f'| {name} | {one["million weights"]} | {one["side [px]"]} | {one["p50 [ms]"]} |',
              flush=True)
    with replacing(options.out) as temporary:
        temporary.write_text(json.dumps({'machine': machine.describe(), 'models': found},
                                        indent=1))


if __name__ == '__main__':
    main(tyro.cli(Options))
