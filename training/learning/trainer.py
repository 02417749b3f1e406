"""
Trainer: the stages of a recipe, step by step, on any number of processes.

The input of a step depends on the seed, the stage and the step alone: a run that was stopped and
resumed from its last saved state ends with the same weights as one that was not stopped (on one
kind of machine, with as many processes and threads).
"""
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
import math
from pathlib import Path
import signal
from types import FrameType
from typing import Any
import zlib

from lightning_fabric import Fabric
from timm.optim import create_optimizer_v2
import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from training.learning import frozen_norms, losses, run_state
from training.learning.batches import Batches
from training.learning.loss_inputs import Batch
from training.learning.malloc_settings import keep_memory
from training.learning.memory import Memory, recall
from training.learning.run_state import Progress, save
from training.learning.trainee import train_part, Trainee
from training.recipe import Recipe, Stage

STATE = run_state.STATE
LOG = 'tensorboard'
WARM_UP = 0.1  # of a stage


class Stopped(Exception):
    """Training has stopped; the message says why and what to do."""


@dataclass(frozen=True, eq=False)
class Run:
    """
    State shared by all training steps.

    shared: the fingerprint of the run, see run_state.
    signals: numbers of the received signals, see _signals.
    """

    fabric: Fabric
    trainee: Trainee
    recipe: Recipe
    batches: Batches
    memory: Memory | None
    folder: Path
    shared: dict[str, object]
    progress: Progress
    signals: list[int]
    bar: tqdm
    log: SummaryWriter | None


def rate_at(peak: float, step: int, steps: int) -> float:
    """Return the learning rate: it rises over WARM_UP of the steps and falls along a cosine."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def train(fabric: Fabric, trainee: Trainee, recipe: Recipe, batches: Batches, folder: Path,
          memory: Memory | None = None) -> Progress:
    """
    Train through all stages that are not done yet; TensorBoard logs go into folder/tensorboard.

    :param memory: the backbone's own classifier, for the terms keep and stand_in.
    :raises ValueError: if the folder holds the state of another recipe, or a damaged one.
    :raises Stopped: for a loss that is not finite, naming step and term, or when interrupted (by
        SIGINT or SIGTERM, after the current step); the last saved state stays.
    :raises OSError: if the state cannot be saved, such as on a full disk; the last one stays.
    """
    keep_memory()
    trainee.to(fabric.device)  # before its optimizer's state is loaded
    if memory:
        memory.to(fabric.device).to(memory_format=torch.channels_last)
    shared = run_state.fingerprint(recipe, batches.per_epoch)
    progress, kept = run_state.load(fabric, folder, shared, trainee)
    lengths = [stage.epochs * batches.per_epoch for stage in recipe.stages]
    done = sum(lengths[:progress.stage]) + progress.step
    first = fabric.is_global_zero
    # What a killed run logged after its last saved point is logged again.
    log = SummaryWriter(str(folder / LOG), purge_step=done + 1) if first else None
    try:
        with _signals() as signals, tqdm(total=sum(lengths), initial=done, unit='step',
                                         disable=not first, desc=recipe.name) as bar:
            run = Run(fabric, trainee, recipe, batches, memory, folder, shared, progress, signals,
                      bar, log)
            while progress.stage < len(recipe.stages):
                try:
                    _stage(run, kept)
                    progress.stage, progress.step, kept = progress.stage + 1, 0, None
                    progress.average, progress.averaged = {}, 0
                    _keep(run, None)
                except FloatingPointError as error:
                    raise Stopped(
                        f'stage {progress.stage + 1}, step {progress.step + 1}: {error}; the last '
                        f'good state is kept in {folder}. Lower the rate of the stage, or check '
                        'the images') from error
    finally:
        if log:
            log.close()
    return progress


@contextmanager
def _signals() -> Iterator[list[int]]:
    """
    Collect the signals that ask to stop, so that each step is completed.

    One Ctrl-C reaches a process of torchrun twice, so only the third ends it at once.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 2:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stage(run: Run, kept: dict[str, object] | None) -> None:
    """Do the rest of a stage; `kept` is the state of the optimizer to resume with."""
    fabric, recipe, progress = run.fabric, run.recipe, run.progress
    stage = recipe.stages[progress.stage]
    before = sum(earlier.epochs for earlier in recipe.stages[:progress.stage])  # epochs
    train_part(run.trainee, stage.train, recipe.student.freeze_batch_norm)
    try:
        optimizer = create_optimizer_v2(run.trainee, recipe.optimizer, lr=stage.rate,
                                        weight_decay=recipe.weight_decay)
    except ValueError as error:
        raise ValueError(f"optimizer: expected one of timm's, got {recipe.optimizer!r}: {error}; "
                         'timm.optim.list_optimizers() lists them') from error
    if kept:
        optimizer.load_state_dict(kept)
    model, optimizer = fabric.setup(run.trainee, optimizer)
    side = recipe.student.image_size
    # A GPU does the norms faster than the products that would do their work (docs/speed.md).
    folding = nullcontext() if fabric.device.type == 'cuda' else frozen_norms.folded(
        run.trainee.student.backbone, torch.rand(1, 3, side, side, device=fabric.device))
    try:
        with folding:
            _steps(run, stage, before, model, optimizer)
    except RuntimeError as error:
        if 'DataLoader worker' not in str(error):
            raise
        raise Stopped(f'stage {progress.stage + 1}, step {progress.step + 1}: a process that '
                      f'loads images ended: {error}; the same command resumes from the last '
                      f'saved state in {run.folder}') from error
    if progress.averaged:
        run.trainee.load_state_dict({
            name: value / progress.averaged if value.is_floating_point() else value
            for name, value in progress.average.items()})
    run_state.check_finite(run.trainee)


def _steps(run: Run, stage: Stage, before: int, model: torch.nn.Module,
           optimizer: torch.optim.Optimizer) -> None:
    """Do the steps that are left of a stage, `before` epochs into the run."""
    recipe, progress, per_epoch = run.recipe, run.progress, run.batches.per_epoch
    steps = stage.epochs * per_epoch
    epoch, offset = divmod(progress.step, per_epoch)
    source = run.batches.draw(before + epoch, offset)
    try:
        while progress.step < steps:
            rate = rate_at(stage.rate, progress.step, steps)
            for group in optimizer.param_groups:
                group['lr'] = rate
            batch = next(source)  # first, as loaders draw random numbers, too
            # For dropout; the seed counts steps, so that a resumed run draws the same numbers.
            torch.manual_seed(zlib.crc32(f'{recipe.seed} {progress.stage} {progress.step} '
                                         f'{run.fabric.global_rank}'.encode()))
            stop, terms = _step(run, model, optimizer, *batch)
            progress.step += 1
            _note(run, before * per_epoch + progress.step, terms, rate)
            if recipe.average and progress.step > (1 - recipe.average) * steps:
                _add(progress, run.trainee)
            if stop or progress.step % recipe.save_every == 0:
                _keep(run, optimizer)
            if stop:
                raise Stopped(f'interrupted in stage {progress.stage + 1} at step '
                              f'{progress.step} of {steps}; saved in {run.folder}: the same '
                              'command resumes it')
    finally:
        source.close()


def _step(run: Run, model: torch.nn.Module, optimizer: torch.optim.Optimizer,
          images: torch.Tensor, parts: Mapping[str, Any]
          ) -> tuple[bool, dict[str, float]]:
    """Learn from a batch; return if a process was asked to stop, and the terms over all."""
    if run.memory:
        with run.fabric.autocast():
            features = run.memory.features(images)
        untouched = all(stage.train == 'projector'
                        for stage in run.recipe.stages[:run.progress.stage + 1])
        # Only a projector can learn from stand-ins: no image of them goes through the backbone.
        more = run.recipe.loss.stand_in and run.trainee.student.projector.training
        embeddings, recalled = recall(run.memory, model, features, None if untouched else images,
                                      bool(more))
        parts, logits = {**parts, 'memory': recalled}, None
    else:
        embeddings, logits = model(images)
    loss, terms = losses.total(
        run.recipe.loss.weights, Batch(student=embeddings, logits=logits, **parts),
        losses.LossSettings(run.recipe.temperature, run.recipe.k),
        lambda rows: gather(run.fabric, rows))
    # All processes learn of a broken loss or a signal in the same step, so that none waits alone.
    reduced = run.fabric.all_reduce(torch.stack(
        [loss.new_tensor(bool(run.signals)), loss.detach(), *terms.values()]))
    assert isinstance(reduced, torch.Tensor), reduced
    stop, *values = reduced.tolist()
    named = dict(zip(('loss', *terms), values, strict=True))
    if broken := [name for name, value in named.items() if not math.isfinite(value)]:
        raise FloatingPointError(f'expected a finite loss, got {", ".join(broken[1:] or broken)} '
                                 'that is not finite')
    optimizer.zero_grad()
    run.fabric.backward(loss)
    optimizer.step()
    return stop > 0, named


def gather(fabric: Fabric, rows: torch.Tensor) -> torch.Tensor:
    """Return the rows of all processes, through which gradients flow back to each."""
    if fabric.world_size == 1:
        return rows
    gathered = fabric.all_gather(rows, sync_grads=True)
    assert isinstance(gathered, torch.Tensor), gathered
    return gathered.flatten(0, 1)


def _note(run: Run, step: int, terms: Mapping[str, float], rate: float) -> None:
    for name, value in terms.items():
        run.progress.curves.setdefault(name, []).append((step, value))
        if run.log:
            run.log.add_scalar(name if name == 'loss' else f'loss/{name}', value, step)
    if run.log:
        run.log.add_scalar('rate', rate, step)
    run.bar.set_postfix_str(' '.join(f'{name} {value:.3f}' for name, value in terms.items()),
                            refresh=False)
    run.bar.update()


def _keep(run: Run, optimizer: torch.optim.Optimizer | None) -> None:
    if run.log:
        run.log.flush()  # so that a resumed run has the curve up to its saved state
    save(run.fabric, run.folder, run.shared, run.trainee, optimizer, run.progress)


def _add(progress: Progress, trainee: Trainee) -> None:
    """Add the weights to the sum (SWAD without its search for the best part)."""
    for name, value in trainee.state_dict().items():
        if not value.is_floating_point():
            progress.average[name] = value.clone()
            continue
        # Where there is no float64 (MPS), float32 has to do.
        value = value.to(torch.float32 if value.device.type == 'mps' else torch.float64)
        before = progress.average[name].to(value.device) if progress.averaged else 0
        progress.average[name] = value + before
    progress.averaged += 1
