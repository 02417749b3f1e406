"""State of a run: saved from time to time, so that a stopped run can be resumed."""
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
import io
from pathlib import Path
import pickle
import shutil

from lightning_fabric import Fabric
import torch
from training.learning.trainee import Trainee
from training.recipe import Recipe
from training.recipe_file import plain
from vl2v_ros.files import replacing

STATE = 'state.pt'
PASSING = ('out', 'workers', 'device', 'save_every')  # may differ when a run is resumed


@dataclass
class Progress:
    """
    The progress of a run, saved beside the weights.

    average: float64 sum of the weights over the last part of the stage.
    averaged: number of weights in that sum.
    curves: term -> [(step over all stages, from 1; value)], the mean over the whole batch.
    """

    stage: int = 0
    step: int = 0
    average: dict[str, torch.Tensor] = field(default_factory=dict)
    averaged: int = 0
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


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


def check_finite(trainee: Trainee) -> None:
    """Raise FloatingPointError for weights that are not finite."""
    if not all(weight.isfinite().all() for weight in trainee.parameters()):
        raise FloatingPointError('the weights are no longer finite')


def save(fabric: Fabric, folder: Path, shared: Mapping[str, object], trainee: Trainee,
         optimizer: torch.optim.Optimizer | None, progress: Progress) -> None:
    """
    Write weights, optimizer and progress atomically, by the first process.

    :param shared: what `fingerprint` returned.
    :raises FloatingPointError: for weights that are not finite; nothing is written.
    :raises OSError: such as for a full disk; the older state stays.
    """
    check_finite(trainee)
    if fabric.is_global_zero:
        curves = {name: torch.tensor([value for _, value in points], dtype=torch.float64)
                  for name, points in progress.curves.items()}
        content = io.BytesIO()  # torch's own writer makes a RuntimeError of a full disk
        torch.save({'shared': dict(shared), 'model': trainee.state_dict(),
                    'optimizer': optimizer.state_dict() if optimizer else None,
                    'precision': fabric.strategy.precision.state_dict(),
                    'progress': {**vars(progress), 'curves': curves}}, content)
        with replacing(folder / STATE) as temporary:
            temporary.write_bytes(content.getbuffer())
    fabric.barrier()


def load(fabric: Fabric, folder: Path, shared: Mapping[str, object], trainee: Trainee
         ) -> tuple[Progress, dict[str, object] | None]:
    """
    Restore a saved run, if any; return its progress and the state of its optimizer.

    :raises ValueError: if it was written by another recipe, or is damaged.
    """
    path = folder / STATE
    if fabric.is_global_zero:
        for unfinished in folder.glob(f'.{STATE}.*'):  # by a run that was killed
            shutil.rmtree(unfinished, ignore_errors=True)
    if not path.is_file():
        return Progress(), None
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f'{path}: damaged ({error}); delete it to start again') from error
    then = state['shared']
    if differ := [f'{name} {shared.get(name)!r} instead of {then.get(name)!r}'
                  for name in {**then, **shared} if shared.get(name) != then.get(name)]:
        raise ValueError(f'{path}: expected the state of this recipe, got that of another one, '
                         f'which this one changes: {", ".join(differ)}; choose another --out or '
                         '--name, or delete the folder')
    trainee.load_state_dict(state['model'])
    fabric.strategy.precision.load_state_dict(state['precision'])
    progress = Progress(**state['progress'])
    progress.curves = {name: list(enumerate(values.tolist(), 1))
                       for name, values in state['progress']['curves'].items()}
    return progress, state['optimizer']
