"""
The training loop: stages of steps, on any number of processes, resumed where they stopped.

A stage computes the loss of each step. The loop does the rest: it learns from the loss at the rate
of the schedule, averages the weights, shows and logs the progress, saves the state from time to
time, and stops for a signal or a loss that is not finite.
"""
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
import math
from pathlib import Path
import signal
from types import FrameType

from lightning_fabric import Fabric
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from training.learning.malloc_settings import keep_memory
from training.learning.run_state import check_finite, load, Progress, save
from vl2v_ros.files import one_line

WARM_UP = 0.1  # of a stage
TOTAL = 'loss'  # name of the sum of all terms

# For each step, without end: the optimizer, and the loss: name -> (), the sum as TOTAL, its terms.
Losses = Generator[tuple[torch.optim.Optimizer, Mapping[str, torch.Tensor]], None, None]


class Stopped(Exception):
    """Training has stopped; the message says why and what to do."""


@dataclass(frozen=True, eq=False)
class StageLosses:
    """
    A stage: its name in messages, its number of steps, and its peak learning rate.

    losses: first step, from 0 -> the losses of the stage from there on. The loop closes them.
    """

    title: str
    steps: int
    rate: float
    losses: Callable[[int], Losses]


@dataclass(eq=False)
class Loop:
    """
    The training of a model, in place.

    name: what the progress bar shows.
    state: file that the run is saved in, every `save_every` steps.
    settings: what must be equal to resume it: name -> a number, text or list.
    average: the weights are averaged over this last fraction of each stage; 0: no average.
    log: folder for TensorBoard logs; None: no logs.
    """

    fabric: Fabric
    model: nn.Module
    name: str
    stages: Sequence[StageLosses]
    state: Path
    settings: Mapping[str, object]
    save_every: int
    average: float = 0.0
    log: Path | None = None
    _progress: Progress = field(init=False)
    _signals: list[int] = field(init=False, default_factory=list)  # that were received
    _bar: tqdm = field(init=False)
    _writer: SummaryWriter | None = field(init=False, default=None)

    def run(self) -> Progress:
        """
        Train through all stages that are not done yet, and return the progress.

        :raises ValueError: if the state is that of other settings, or damaged; or from a stage.
        :raises Stopped: for a loss that is not finite, naming step and term, when interrupted
            (by SIGINT or SIGTERM, after the current step), or if a process that loads images or
            another one of the run has ended; the last saved state stays.
        :raises OSError: if the state cannot be saved, such as on a full disk; the last one stays.
        """
        keep_memory()
        self.model.to(self.fabric.device)  # before its optimizer's state is loaded
        self._progress, kept = load(self.fabric, self.state, self.settings, self.model)
        first, done = self.fabric.is_global_zero, self._done()
        if self.log and first:  # what a killed run logged after its last saved state comes again
            self._writer = SummaryWriter(str(self.log), purge_step=done + 1)
        try:
            with _noting(self._signals), tqdm(
                    total=sum(stage.steps for stage in self.stages), initial=done, unit='step',
                    disable=not first) as self._bar, self._writer or nullcontext():
                while self._progress.stage < len(self.stages):
                    self._stage(self.stages[self._progress.stage], kept)
                    kept = None
        # What torch raises at any place, also behind the error of a queue that was cut off.
        except (RuntimeError, ConnectionError, EOFError) as error:
            lost = is_of_peer(error)
            if isinstance(error, RuntimeError) and not lost and 'DataLoader worker' not in str(
                    error):
                raise
            stage = self.stages[min(self._progress.stage, len(self.stages) - 1)]
            who = ('another process of this run ended, or its node is out of reach' if lost else
                   'a process that loads images ended')
            raise Stopped(f'{stage.title}, step {self._progress.step + 1}: {who}: '
                          f'{one_line(error)}; the same command{" on all nodes" if lost else ""} '
                          f'resumes from the last saved state in {self.state}') from error
        return self._progress

    def _done(self) -> int:
        """Return how many steps of all stages are done."""
        return self._progress.step + sum(
            stage.steps for stage in self.stages[:self._progress.stage])

    def _stage(self, stage: StageLosses, kept: dict[str, object] | None) -> None:
        """Do the rest of a stage; `kept` is the state of the optimizer to resume with."""
        progress = self._progress
        self._bar.set_description(f'{self.name}, {stage.title}', refresh=False)
        try:
            with closing(stage.losses(progress.step)) as losses:
                while progress.step < stage.steps:
                    self._step(stage, losses, kept)
                    kept = None
            if progress.averaged:
                self.model.load_state_dict({
                    name: value / progress.averaged if value.is_floating_point() else value
                    for name, value in progress.average.items()})
            check_finite(self.model)
        except FloatingPointError as error:
            raise Stopped(f'{stage.title}, step {progress.step + 1}: {error}; the last good state '
                          f'is kept in {self.state}. Lower the rate of the stage, or check the '
                          'images') from error
        progress.stage, progress.step = progress.stage + 1, 0
        progress.average, progress.averaged = {}, 0
        self._save(None)

    def _step(self, stage: StageLosses, losses: Losses, kept: dict[str, object] | None) -> None:
        """Learn from the next loss; raises Stopped if a process was asked to stop."""
        progress = self._progress
        optimizer, loss = next(losses)
        if kept:
            optimizer.load_state_dict(kept)
        rate = rate_at(stage.rate, progress.step, stage.steps)
        for group in optimizer.param_groups:
            group['lr'] = rate
        stop, terms = self._reduce(loss)
        optimizer.zero_grad()
        self.fabric.backward(loss[TOTAL])
        optimizer.step()
        progress.step += 1
        self._note(terms, rate)
        if self.average and progress.step > (1 - self.average) * stage.steps:
            add_weights(progress, self.model)
        if stop or progress.step % self.save_every == 0:
            self._save(optimizer)
        if stop:
            raise Stopped(f'interrupted in {stage.title} at step {progress.step} of '
                          f'{stage.steps}; saved in {self.state}: the same command resumes it')

    def _reduce(self, loss: Mapping[str, torch.Tensor]) -> tuple[bool, dict[str, float]]:
        """
        Return if a process was asked to stop, and the terms' means over all processes.

        So all processes learn of a signal or a broken loss in the same step, and none waits alone.
        """
        reduced = self.fabric.all_reduce(torch.stack([
            loss[TOTAL].new_tensor(bool(self._signals)),
            *(term.detach() for term in loss.values())]))
        assert isinstance(reduced, torch.Tensor), reduced
        stop, *values = reduced.tolist()
        terms = dict(zip(loss, values, strict=True))
        if broken := [name for name, value in terms.items() if not math.isfinite(value)]:
            parts = [name for name in broken if name != TOTAL] or broken
            raise FloatingPointError(f'expected a finite loss, got {", ".join(parts)} that is '
                                     'not finite')
        return stop > 0, terms

    def _note(self, terms: Mapping[str, float], rate: float) -> None:
        """Show and log a step that is done."""
        step = self._done()
        for name, value in terms.items():
            self._progress.curves.setdefault(name, []).append((step, value))
            if self._writer:
                self._writer.add_scalar(name if name == TOTAL else f'{TOTAL}/{name}', value, step)
        if self._writer:
            self._writer.add_scalar('rate', rate, step)
        self._bar.set_postfix_str(' '.join(
            f'{name} {value:.3f}' for name, value in terms.items()), refresh=False)
        self._bar.update()

    def _save(self, optimizer: torch.optim.Optimizer | None) -> None:
        if self._writer:
            self._writer.flush()  # so that a resumed run has the curve up to its saved state
        save(self.fabric, self.state, self.settings, self.model, optimizer, self._progress)


def is_of_peer(error: Exception) -> bool:
    """Return whether an error is that of another process of the run (of gloo or NCCL)."""
    return isinstance(error, torch.distributed.DistError) or isinstance(
        error, RuntimeError) and 'gloo' in str(error)


def rate_at(peak: float, step: int, steps: int) -> float:
    """Return the learning rate: it rises over WARM_UP of the steps and falls along a cosine."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def add_weights(progress: Progress, model: nn.Module) -> None:
    """Add the weights to the sum (SWAD without its search for the best part)."""
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            progress.average[name] = value.clone()
            continue
        # Where there is no float64 (MPS), float32 has to do.
        value = value.to(torch.float32 if value.device.type == 'mps' else torch.float64)
        before = progress.average[name].to(value.device) if progress.averaged else 0
        progress.average[name] = value + before
    progress.averaged += 1


@contextmanager
def _noting(signals: list[int]) -> Iterator[None]:
    """
    Add the signals that ask to stop to a list, so that each step is completed.

    One Ctrl-C reaches a process of torchrun twice, so only the third ends it at once.
    """
    def note(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        if len(signals) > 2:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
