"""
Measure the parts of a training step of the shipped student on a CPU, by their CPU time per image.

python benchmarks/learning/training_parts.py

One thread, and the backbone, size, augmentation and precision of a recipe; parts take turns.
`runtime` is the same forward pass in the robot's runtime (OpenVINO), in the precision that it
chose: what a frozen backbone could gain by it. It writes JSON.
"""
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
import statistics
import sys
import time
from typing import Any

from benchmarks import machine
import torch
from torch import nn
from tqdm import tqdm
from training.data import resident
from training.data.image_index import read_folders
from training.data.images import Preparation
from training.distill import make_fabric
from training.learning import frozen_norms
from training.learning.malloc_settings import keep_memory
from training.learning.trainee import train_part, Trainee
from training.recipe import Recipe
from training.recipe_file import read
import tyro
from vl2v_ros.files import write_json
from vl2v_ros.images.frame import Frame
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime.choose import create
from vl2v_ros.model.student import Student

ROOT = Path(__file__).resolve().parents[2]
# What a step of each kind consists of; images are read once.
STEPS = {'projector learns': ('augment', 'features', 'projector'),
         'backbone learns': ('augment', 'forward', 'backward and step')}


@dataclass(frozen=True)
class Options:
    """What is measured."""

    recipe: Path = ROOT / 'config/distill/mine.yaml'  # The recipe.
    checkpoint: Path = ROOT / 'models/student.safetensors'  # The student that it trains.
    images: Path = ROOT / 'data/ycb_sample/single'  # Folder of images, <domain>/<class>/*.
    batch: int = 16  # Images of a step.
    rounds: int = 5  # Turns of each part.
    out: Path = ROOT / 'docs/results/training_parts.json'  # JSON file to write.


class Parts:
    """The parts of a step; each is a method without parameters."""

    def __init__(self, options: Options) -> None:
        recipe: Recipe = read(options.recipe)
        self.index = read_folders(options.images).take(range(options.batch))
        self.fabric = make_fabric(recipe)
        self.how = recipe.augmentation
        student = checkpoint.load(options.checkpoint)
        self.side = student.spec.image_size
        self.model = Trainee(student).to(memory_format=torch.channels_last)
        self.pixels = resident.decode_all([self.index], self.side, torch.device('cpu'))
        self.images = resident.augment(self.pixels, self.how, [0])
        self.one_by_one = Preparation(self.side, self.how, 'shortest', 0)
        self.runtime = create(student, 'cpu')
        self.frames = [Frame(image.permute(1, 2, 0).numpy()) for image in self.pixels]
        self.features_now = self.features()
        self.loss = torch.zeros(())

    @property
    def student(self) -> Student:
        return self.model.student

    def read(self) -> None:
        resident.decode_all([self.index], self.side, torch.device('cpu'))

    def augment(self) -> None:
        resident.augment(self.pixels, self.how, [0])

    def augment_one_by_one(self) -> None:
        for number, frame in enumerate(self.frames):
            self.one_by_one(frame.pixels, str(number))

    def features(self) -> torch.Tensor:
        train_part(self.model, 'projector', True)
        with self.fabric.autocast():
            return self.student.features(self.images).float()

    def projector(self) -> None:
        train_part(self.model, 'projector', True)
        with self.fabric.autocast():
            loss = self.student.project(self.features_now).float().square().mean()
        self._learn(loss, self.student.projector)

    def forward(self) -> None:
        train_part(self.model, 'backbone', True)
        with self.fabric.autocast():
            self.loss = self.student(self.images).float().square().mean()

    def backward(self) -> None:
        self._learn(self.loss, self.student.backbone)

    def runtime_forward(self) -> None:
        self.runtime.embed(self.frames)

    def _learn(self, loss: torch.Tensor, part: nn.Module) -> None:
        optimizer = torch.optim.AdamW(part.parameters(), 1e-6)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def measure(options: Options) -> dict[str, Any]:
    """Return the result as JSON can hold it; CPU time per image [ms]."""
    parts = Parts(options)
    doing: dict[str, Callable[[], object]] = {
        'read': parts.read, 'augment': parts.augment,
        'augment one by one': parts.augment_one_by_one, 'features': parts.features,
        'runtime': parts.runtime_forward, 'projector': parts.projector,
        'forward': parts.forward, 'backward and step': parts.backward}
    found: dict[str, list[float]] = {name: [] for name in doing}
    with frozen_norms.folded(parts.student.backbone, parts.images[:1]):
        for turn in tqdm(range(-1, options.rounds), unit='round'):
            for name, do in doing.items():
                before = time.process_time()
                do()
                if turn >= 0:  # the first is for warming up
                    used = time.process_time() - before
                    found[name].append(1e3 * used / len(parts.images))
    return {'machine': machine.describe(), 'recipe': options.recipe.name,
            'batch': len(parts.images), 'runtime': parts.runtime.description,
            'CPU per image [ms]': found}


def table(result: dict[str, Any]) -> str:
    """Return Markdown."""
    middle = {name: statistics.median(used)
              for name, used in result['CPU per image [ms]'].items()}
    lines = ['| part | CPU per image [ms] | '
             + ' | '.join(f'share, {step}' for step in STEPS) + ' |', '|---|---:|---:|---:|']
    for name, used in middle.items():
        shares = [f'{used / sum(middle[part] for part in step):.0%}' if name in step else ''
                  for step in STEPS.values()]
        lines.append(f'| {name} | {used:.2f} | {" | ".join(shares)} |')
    rates = [f'{1e3 / sum(middle[part] for part in step):.0f}' for step in STEPS.values()]
    return '\n'.join([*lines, f'| images per second of CPU time | | {" | ".join(rates)} |'])


def main() -> None:
    """Measure, print the table, and write the JSON."""
    options = tyro.cli(Options, description=__doc__)
    if min(options.batch, options.rounds) < 1:
        sys.exit('training_parts: --batch, --rounds: expected at least 1, got '
                 f'{options.batch}, {options.rounds}')
    keep_memory()  # as the trainer does
    torch.set_num_threads(1)
    try:
        result = measure(options)
    except (ValueError, OSError) as error:
        sys.exit(f'training_parts: {error}')
    result['table'] = table(result)
    print(result['table'])
    write_json(options.out, result)


if __name__ == '__main__':
    main()
