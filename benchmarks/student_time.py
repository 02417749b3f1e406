"""
Time per image of the student, of its teacher, and of the CLIP that the teacher stands in for.

python benchmarks/student_time.py

From 640x480 pixels in memory to an embedding, one image at a time, on the CPU or on CUDA: the
student as the robot runs it; the teacher, and open_clip's ViT-B/32 image tower with random
weights (only time is measured), in PyTorch after open_clip's own transform. The three take turns
round by round, so that whatever else the machine does falls on all.
"""
from collections.abc import Callable
from dataclasses import dataclass
import json
import os
from pathlib import Path
import platform
import statistics
import time

import numpy as np
import open_clip
from PIL import Image
import torch
from tqdm import tqdm
import tyro
from vl2v_ros import checkpoint
from vl2v_ros.classifier import Classifier
from vl2v_ros.frame import Frame

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Options:
    """What is measured."""

    checkpoint: Path = ROOT / 'models/student.safetensors'
    teacher: Path = ROOT / 'models/mini_clip.json'
    """open_clip config of the teacher; only time is measured, so weights do not matter."""
    rounds: int = 5
    images: int = 20
    """Per round and model."""
    device: str = 'cuda' if torch.cuda.is_available() else 'cpu'
    out: Path = ROOT / 'docs/results/student_time.json'


def tower(name: str, device: str) -> tuple[Callable[[np.ndarray], object], int]:
    """Return what embeds an (H, W, 3) uint8 image by open_clip, and the image tower's weights."""
    model, _, transform = open_clip.create_model_and_transforms(name, device=device)
    model.eval()

    @torch.inference_mode()
    def embed(pixels: np.ndarray) -> None:
        images = transform(Image.fromarray(pixels))[None].to(device)
        model.encode_image(images, normalize=True).cpu()

    return embed, sum(weight.numel() for weight in model.visual.parameters())


def student(path: Path, device: str) -> tuple[Callable[[np.ndarray], object], int]:
    """Return what embeds an (H, W, 3) uint8 image as the robot does, and its weights."""
    model = checkpoint.load(path)
    count = sum(weight.numel() for weight in model.parameters())
    classifier = Classifier(model, device)
    return lambda pixels: classifier.embed([Frame(pixels)]), count


def measure(options: Options) -> dict[str, object]:
    """Return the result as JSON can hold it."""
    open_clip.add_model_config(options.teacher)
    models = {'student': student(options.checkpoint, options.device),
              'its teacher': tower(options.teacher.stem, options.device),
              'ViT-B/32': tower('ViT-B-32', options.device)}
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    found: dict[str, list[float]] = {name: [] for name in models}
    for turn in tqdm(range(-1, options.rounds), unit='round'):
        for name, (embed, _) in models.items():
            start = time.perf_counter()
            for _ in range(options.images):
                embed(pixels)
            if turn >= 0:  # the first is for warming up
                found[name].append(1e3 * (time.perf_counter() - start) / options.images)
    return {'machine': f'{platform.machine()}, {os.cpu_count()} cores, {options.device}',
            'milliseconds': found, 'weights': {name: count for name, (_, count) in models.items()}}


def main() -> None:
    """Measure, print the table, and write the JSON."""
    options = tyro.cli(Options, description=__doc__)
    result = measure(options)
    base = result['milliseconds']['student']
    print('| model | million weights | ms per image | by that of the student |\n'
          '|---|---:|---:|---:|')
    for name, times in result['milliseconds'].items():
        ratios = [other / own for other, own in zip(times, base)]
        print(f'| {name} | {result["weights"][name] / 1e6:.1f} | {statistics.median(times):.2f} | '
              f'{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) |')
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1))


if __name__ == '__main__':
    main()
