"""State of a run: saved from time to time, so that a stopped run can be resumed."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
import io
from pathlib import Path
import pickle
import shutil

from lightning_fabric import Fabric
import torch
from torch import nn
from vl2v_ros.files import one_line, replacing


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


def check_finite(model: nn.Module) -> None:
    """Raise FloatingPointError for weights that are not finite."""
    if not all(weight.isfinite().all() for weight in model.parameters()):
        raise FloatingPointError('the weights are no longer finite')


def save(fabric: Fabric, path: Path, settings: Mapping[str, object], model: nn.Module,
         optimizer: torch.optim.Optimizer | None, progress: Progress) -> None:
    """
    Write weights, optimizer and progress atomically, by the first process.

    :param settings: what must be equal to resume the run.
    :raises FloatingPointError: for weights that are not finite; nothing is written.
    :raises OSError: such as for a full disk; the older state stays.
    """
    check_finite(model)
    if fabric.is_global_zero:
        curves = {name: torch.tensor([value for _, value in points], dtype=torch.float64)
                  for name, points in progress.curves.items()}
        content = io.BytesIO()  # torch's own writer makes a RuntimeError of a full disk
        torch.save({'shared': dict(settings), 'model': model.state_dict(),
                    'optimizer': optimizer.state_dict() if optimizer else None,
                    'precision': fabric.strategy.precision.state_dict(),
                    'progress': {**vars(progress), 'curves': curves}}, content)
        with replacing(path) as temporary:
            temporary.write_bytes(content.getbuffer())
    fabric.barrier()


def load(fabric: Fabric, path: Path, settings: Mapping[str, object], model: nn.Module
         ) -> tuple[Progress, dict[str, object] | None]:
    """
    Restore a saved run, if any; return its progress and the state of its optimizer.

    :raises ValueError: if it was written with other settings, or is damaged; or if another
        process of the run finds another state.
    """
    if fabric.is_global_zero:
        for unfinished in path.parent.glob(f'.{path.name}.*'):  # by a run that was killed
            shutil.rmtree(unfinished, ignore_errors=True)
    progress, optimizer = _read(fabric, path, settings, model) if path.is_file() else (
        Progress(), None)
    check_same(fabric, (progress.stage, progress.step), path)
    return progress, optimizer


def check_same(fabric: Fabric, found: Sequence[int], path: Path) -> None:
    """
    Check that all processes of a run found the same in its folder.

    Otherwise they would do different steps, and each would wait for the others for good.

    :raises ValueError: where they did not, as on nodes that share no disk.
    """
    if fabric.world_size == 1:
        return
    of_all = fabric.all_gather(torch.tensor(found, dtype=torch.int64))
    assert isinstance(of_all, torch.Tensor), of_all
    if (of_all != of_all[0]).any():
        raise ValueError(f'{path}: expected that all {fabric.world_size} processes find the same '
                         f'there, found {of_all.tolist()}; name a folder as --out that all nodes '
                         'share')


def _read(fabric: Fabric, path: Path, settings: Mapping[str, object], model: nn.Module
          ) -> tuple[Progress, dict[str, object]]:
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
        then = state['shared']
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise ValueError(f'{path}: damaged, or of another version ({one_line(error)}); delete it '
                         'to start again') from error
    if differ := [f'{name} {settings.get(name)!r} instead of {then.get(name)!r}'
                  for name in {**then, **settings} if settings.get(name) != then.get(name)]:
        raise ValueError(f'{path}: expected the state of a run with these settings, got that of '
                         f'another, which this one changes: {", ".join(differ)}; choose another '
                         '--out, or delete this file')
    model.load_state_dict(state['model'])
    fabric.strategy.precision.load_state_dict(state['precision'])
    progress = Progress(**state['progress'])
    progress.curves = {name: list(enumerate(values.tolist(), 1))
                       for name, values in state['progress']['curves'].items()}
    return progress, state['optimizer']
