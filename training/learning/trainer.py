"""
Trainer: what a student learns in each step of a recipe.

The input of a step depends on the seed, the stage and the step alone: a run that was stopped and
resumed from its last saved state ends with the same weights as one that was not stopped (on one
kind of machine, with as many processes and threads).
"""
from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
import itertools
from pathlib import Path
from typing import Any
import zlib

from lightning_fabric import Fabric
from timm.optim import create_optimizer_v2
import torch
from training.learning import frozen_norms, loop, losses
from training.learning.batches import Batches
from training.learning.loss_inputs import Batch
from training.learning.memory import Memory, recall
from training.learning.run_state import Progress
from training.learning.trainee import train_part, Trainee
from training.recipe import Recipe
from training.recipe_file import plain

STATE = 'state.pt'
LOG = 'tensorboard'
PASSING = ('out', 'workers', 'device', 'save_every')  # may differ when a run is resumed


@dataclass(frozen=True, eq=False)
class Lessons:
    """What all steps of a recipe share; see train."""

    fabric: Fabric
    trainee: Trainee
    recipe: Recipe
    batches: Batches
    memory: Memory | None


def train(fabric: Fabric, trainee: Trainee, recipe: Recipe, batches: Batches, folder: Path,
          memory: Memory | None = None) -> Progress:
    """
    Train through all stages that are not done yet; TensorBoard logs go into folder/tensorboard.

    :param memory: the backbone's own classifier, for the terms keep and stand_in.
    :raises ValueError: if the folder holds the state of another recipe, or a damaged one; or for
        an unknown optimizer.
    :raises loop.Stopped, OSError: as Loop.run does.
    """
    if memory:
        memory.to(fabric.device).to(memory_format=torch.channels_last)
    lessons = Lessons(fabric, trainee, recipe, batches, memory)
    stages = [loop.StageLosses(f'stage {number + 1}', stage.epochs * batches.per_epoch, stage.rate,
                               partial(_losses, lessons, number))
              for number, stage in enumerate(recipe.stages)]
    return loop.Loop(fabric, trainee, recipe.name, stages, folder / STATE,
                     fingerprint(recipe, batches.per_epoch), recipe.save_every, recipe.average,
                     folder / LOG).run()


def fingerprint(recipe: Recipe, per_epoch: int) -> dict[str, object]:
    """Return the settings that must be equal to resume a run."""

    def flat(value: object, where: str) -> Iterator[tuple[str, object]]:
        if isinstance(value, Mapping):
            for key, entry in value.items():
                yield from flat(entry, f'{where}.{key}'.lstrip('.'))
        else:
            yield where, value

    # The order of images from shards depends on who reads them.
    passing = [name for name in PASSING if not (name == 'workers' and recipe.data.shards)]
    fixed = {name: value for name, value in flat(plain(recipe), '') if name not in passing}
    return {**fixed, 'steps per epoch': per_epoch}


def _losses(lessons: Lessons, number: int, first: int) -> loop.Losses:
    """Yield the losses of a stage, by its number; raises ValueError for an unknown optimizer."""
    fabric, recipe, trainee = lessons.fabric, lessons.recipe, lessons.trainee
    stage, per_epoch = recipe.stages[number], lessons.batches.per_epoch
    train_part(trainee, stage.train, recipe.student.freeze_batch_norm)
    try:
        optimizer = create_optimizer_v2(trainee, recipe.optimizer, lr=stage.rate,
                                        weight_decay=recipe.weight_decay)
    except ValueError as error:
        raise ValueError(f"optimizer: expected one of timm's, got {recipe.optimizer!r}: {error}; "
                         'timm.optim.list_optimizers() lists them') from error
    model, optimizer = fabric.setup(trainee, optimizer)
    side = recipe.student.image_size
    # A GPU does the norms faster than the products that would do their work (docs/speed.md).
    folding = nullcontext() if fabric.device.type == 'cuda' else frozen_norms.folded(
        trainee.student.backbone, torch.rand(1, 3, side, side, device=fabric.device))
    before = sum(earlier.epochs for earlier in recipe.stages[:number])  # epochs
    epoch, offset = divmod(first, per_epoch)
    with folding, closing(lessons.batches.draw(before + epoch, offset)) as source:
        for step in itertools.count(first):
            batch = next(source)  # first, as loaders draw random numbers, too
            # For dropout; the seed counts steps, so that a resumed run draws the same numbers.
            torch.manual_seed(zlib.crc32(
                f'{recipe.seed} {number} {step} {fabric.global_rank}'.encode()))
            yield optimizer, _loss(lessons, number, model, *batch)


def _loss(lessons: Lessons, number: int, model: torch.nn.Module, images: torch.Tensor,
          parts: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the loss of a batch, and its terms, in the stage of this number."""
    fabric, recipe, memory = lessons.fabric, lessons.recipe, lessons.memory
    if memory:
        with fabric.autocast():
            features = memory.features(images)
        untouched = all(stage.train == 'projector' for stage in recipe.stages[:number + 1])
        # Only a projector can learn from stand-ins: no image of them goes through the backbone.
        more = recipe.loss.stand_in and lessons.trainee.student.projector.training
        embeddings, recalled = recall(memory, model, features, None if untouched else images,
                                      bool(more))
        parts, logits = {**parts, 'memory': recalled}, None
    else:
        embeddings, logits = model(images)
    loss, terms = losses.total(
        recipe.loss.weights, Batch(student=embeddings, logits=logits, **parts),
        losses.LossSettings(recipe.temperature, recipe.k), lambda rows: gather(fabric, rows))
    return {loop.TOTAL: loss, **terms}


def gather(fabric: Fabric, rows: torch.Tensor) -> torch.Tensor:
    """Return the rows of all processes, through which gradients flow back to each."""
    if fabric.world_size == 1:
        return rows
    gathered = fabric.all_gather(rows, sync_grads=True)
    assert isinstance(gathered, torch.Tensor), gathered
    return gathered.flatten(0, 1)
