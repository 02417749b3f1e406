"""
Measure images per second of a training step, with and without the trainer's optimisations.

python benchmarks/learning/training_step.py

Plain and folded frozen batch norms (training/learning/frozen_norms.py) take turns round by round.
On a CPU both are measured again with the malloc settings of training/learning/malloc_settings.py.
"""
from dataclasses import dataclass
import os
from pathlib import Path
import platform
import statistics
import time

import timm
import torch
from torch import nn
from tqdm import tqdm
from training.learning import frozen_norms
from training.learning.malloc_settings import keep_memory
import tyro
from vl2v_ros.files import write_json

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Options:
    """What is measured."""

    backbone: str = 'mobilenetv2_100'  # timm model name.
    image_size: int = 112  # Side of the images [px].
    batch: int = 64  # Images per step.
    rounds: int = 5  # Number of rounds; in each, plain and folded norms are measured once.
    steps: int = 5
    """Number of training steps per round."""
    device: str = 'cuda' if torch.cuda.is_available() else 'cpu'  # Device to train on.
    out: Path = ROOT / 'docs/results/training_step.json'  # JSON file to write.


def rate(model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, steps: int
         ) -> float:
    """Return images per second of some training steps."""
    start = time.perf_counter()
    for _ in range(steps):
        with torch.autocast(images.device.type, torch.bfloat16):
            rows = model(images)
        optimizer.zero_grad()
        rows.float().square().mean().backward()
        optimizer.step()
    if images.is_cuda:
        torch.cuda.synchronize()
    return len(images) * steps / (time.perf_counter() - start)


def measure(options: Options) -> dict[str, list[float]]:
    """Return optimisation -> images per second of each round."""
    model = timm.create_model(options.backbone, num_classes=0).to(options.device).to(
        memory_format=torch.channels_last)
    for norm in model.modules():
        norm.train(not isinstance(norm, nn.BatchNorm2d))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    side = options.image_size
    images = torch.rand(options.batch, 3, side, side, device=options.device).contiguous(
        memory_format=torch.channels_last)
    found: dict[str, list[float]] = {}
    for kept in ('', ', memory kept')[:1 if images.is_cuda else 2]:
        if kept:
            keep_memory()
        for turn in tqdm(range(-1, options.rounds), unit='round'):
            plain = rate(model, optimizer, images, options.steps)
            with frozen_norms.folded(model, images[:1]):
                folded = rate(model, optimizer, images, options.steps)
            if turn >= 0:  # the first is for warming up
                found.setdefault(f'batch norms plain{kept}', []).append(plain)
                found.setdefault(f'batch norms folded{kept}', []).append(folded)
    return found


def main() -> None:
    """Measure, print the table, and write the JSON."""
    options = tyro.cli(Options, description=__doc__)
    found = measure(options)
    base = statistics.median(next(iter(found.values())))
    lines = ['| training step | images/s | times plain |', '|---|---:|---:|']
    for name, rates in found.items():
        middle = statistics.median(rates)
        lines.append(f'| {name} | {middle:.0f} ({min(rates):.0f} to {max(rates):.0f}) | '
                     f'{middle / base:.2f} |')
    table = '\n'.join(lines)
    print(table)
    write_json(options.out, {
            'machine': f'{platform.machine()}, {os.cpu_count()} cores, {options.device}',
            'images/s': found, 'table': table})


if __name__ == '__main__':
    main()
