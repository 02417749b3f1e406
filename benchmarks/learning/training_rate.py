"""
Measure images per second of the trainer, with and without loading images, and peak memory.

python benchmarks/learning/training_rate.py

The trainer of training/distill.py learns from augmented images, loaded by several numbers of
processes, and from one batch that stays on the device. The difference is the cost of the input.
Targets are random, as only time is measured.
"""
from collections.abc import Callable
from dataclasses import dataclass, replace
import os
from pathlib import Path
import sys
from tempfile import TemporaryDirectory
import time
from typing import Any

from benchmarks import machine
from benchmarks.component import one_line
import numpy as np
import torch
from training.data.image_index import Index, read_folders
from training.distill import make_fabric
from training.learning import loop, trainer
from training.learning.batches import Batches, Drawn, index_batches
from training.learning.trainee import build
from training.recipe import Recipe, Stage, StudentSource
import tyro
from vl2v_ros.files import write_json
from vl2v_ros.model.spec import StudentSpec
from vl2v_ros.words.encoder import TextTower

ROOT = Path(__file__).resolve().parents[2]

CORES = os.cpu_count() or 1
WIDTH = 512  # of the embeddings


@dataclass(frozen=True)
class Options:
    """What is measured."""

    images: Path = ROOT / 'data/ycb_sample/single'
    """Folder of images, <domain>/<class>/*."""
    backbone: str = 'mobilenetv2_100'  # timm model name of the student's backbone.
    image_size: int = 128  # Side of the images [px].
    batch: int = 256  # Images per step.
    steps: int = 100
    """Number of steps of each run; the second half of them is timed."""
    workers: tuple[int, ...] = tuple(sorted({min(8, CORES), max(1, CORES - 1)}))
    """Numbers of processes that load images, one run each."""
    device: str = 'auto'  # Device to train on: auto, cpu or cuda.
    out: Path = ROOT / 'docs/results/training_rate.json'  # JSON file to write.


def unit_rows(*shape: int) -> np.ndarray:
    rows = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def timed(batches: Batches, moments: list[float]) -> Batches:
    """Note when each batch is asked for."""
    def draw(epoch: int, step: int) -> Drawn:
        source = batches.draw(epoch, step)
        try:
            while True:
                moments.append(time.perf_counter())
                yield next(source)
        finally:
            source.close()
    return Batches(batches.per_epoch, draw)


def repeated(batches: Batches) -> Batches:
    """Give the first batch again and again."""
    def draw(epoch: int, step: int) -> Drawn:
        source = batches.draw(epoch, step)
        first = next(source)
        source.close()
        while True:
            yield first
    return Batches(batches.per_epoch, draw)


def as_they_are(batches: Batches) -> Batches:
    return batches


def rate(options: Options, recipe: Recipe, index: Index,
         change: Callable[[Batches], Batches]) -> dict[str, float]:
    """Return images/s of a run, and the peak of GPU memory."""
    fabric = make_fabric(recipe)
    moments: list[float] = []
    spec = StudentSpec(options.backbone, WIDTH, options.image_size, TextTower('none', 'none'))
    batches = index_batches(fabric, recipe, index, unit_rows(len(index), 1, WIDTH),
                            torch.from_numpy(unit_rows(len(index.class_names), WIDTH)))
    if fabric.device.type == 'cuda':
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with TemporaryDirectory() as folder:
        trainer.train(fabric, build(recipe.student, spec, None, None), recipe,
                      timed(change(batches), moments), Path(folder))
    begin = len(moments) // 2
    found = {'images/s': recipe.batch * (len(moments) - 1 - begin)
             / (moments[-1] - moments[begin])}
    if fabric.device.type == 'cuda':
        found['GPU memory [MiB]'] = torch.cuda.max_memory_allocated() / 2**20
    return found


def measure(options: Options) -> dict[str, Any]:
    """Return the result as JSON can hold it; raises ValueError for images that do not fit."""
    index = read_folders(options.images)
    # One epoch has all steps: its end would stop the processes that load images.
    index = index.take(np.resize(np.arange(len(index)), options.batch * options.steps))
    recipe = Recipe(
        name='rate', student=StudentSource(options.backbone, '', options.image_size),
        stages=(Stage('all', 1, 1e-4),), batch=options.batch, device=options.device,
        precision='bf16-mixed', workers=0, save_every=options.steps + 1)
    runs = {'no input, bf16-mixed': (recipe, repeated),
            'no input, 32-true': (replace(recipe, precision='32-true'), repeated)}
    runs |= {f'{count} processes load, bf16-mixed': (replace(recipe, workers=count), as_they_are)
             for count in options.workers}
    found, left_out = {}, {}
    for name, (recipe, change) in runs.items():
        try:
            found[name] = rate(options, recipe, index, change)
        except (loop.Stopped, RuntimeError) as error:  # the other runs are still measured
            left_out[name] = one_line(error)
            print(f'training_rate: {name} is left out: {left_out[name]}')
    return {'machine': machine.describe() | {'device': str(make_fabric(recipe).device)},
            'backbone': options.backbone, 'image_size': options.image_size,
            'batch': options.batch, 'runs': found, 'left out': left_out}


def table(result: dict[str, Any]) -> str:
    """Return Markdown."""
    runs = result['runs']
    base = next(iter(runs.values()))['images/s'] if runs else 1
    lines = [f'{result["backbone"]} at {result["image_size"]} px, batch {result["batch"]}, on '
             f'{result["machine"]["device"]}.', '',
             '| training | images/s | of that without input | peak of GPU memory [MiB] |',
             '|---|---:|---:|---:|']
    lines += [f'| {name} | {found["images/s"]:.0f} | {found["images/s"] / base:.0%} | '
              f'{found.get("GPU memory [MiB]", 0):.0f} |' for name, found in runs.items()]
    return '\n'.join(lines)


def main() -> None:
    """Measure, print the table, and write the JSON."""
    options = tyro.cli(Options, description=__doc__)
    if options.steps < 4:
        sys.exit(f'training_rate: --steps: expected at least 4, got {options.steps}')
    try:
        result = measure(options)
    except (ValueError, OSError) as error:
        sys.exit(f'training_rate: {error}')
    result['table'] = table(result)
    print(result['table'])
    write_json(options.out, result)


if __name__ == '__main__':
    main()
