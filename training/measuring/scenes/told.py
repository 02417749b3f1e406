"""Which labels are told to be present in images of many things, by the maps of a student."""
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torchmetrics.functional.classification import binary_auroc, binary_calibration_error
from training.measuring.metrics import presence as accuracy_and_f1
from training.measuring.pages.charts import draw_reliability, drawing
from training.measuring.robot import facts, Robot
from training.measuring.scenes.known import FIRST, Known, read_scenes, Scene, SECOND
from vl2v_ros.files import replacing
from vl2v_ros.images.sources import read_image
from vl2v_ros.model import checkpoint
from vl2v_ros.model.presence import evidence, told
from vl2v_ros.model.where import maps_of, Where
from vl2v_ros.words import vocabulary
from vl2v_ros.words.labels import Entry

BINS = 10


@dataclass(frozen=True, kw_only=True)
class Presence(Known):
    """Measure the probabilities that labels are present, as the maps of a student tell them."""

    calibrate: bool = False
    """Write the line that is fitted at the last of --sizes into the checkpoint."""
    sizes: tuple[int, ...] = (896,)
    """The parameter where_size [px]."""
    lengths: tuple[int, ...] = (5, 10, 20)
    """Numbers of names in a list; the list of all is measured as well."""
    draws: int = 5
    """Number of lists of each length."""
    seed: int = 0
    """Seed of the random lists."""


def presence(command: Presence) -> dict[str, Any]:
    """
    Compare what maps tell with what images show.

    The line (StudentSpec.presence_line) is fitted on every other image, for lists of all lengths
    together, and measured on the rest, beside the student's own. Labels of things that are too
    small or too hidden count neither way. A picture goes to --out/presence.svg.

    :raises ValueError: if annotations or names cannot be used, or for a student without cells.
    """
    robot = Robot(command.checkpoint, command.device, command.templates)
    scenes, names = read_scenes(command)
    if not all(1 < length < len(names) for length in command.lengths):
        raise ValueError(f'expected --lengths from 2 to {len(names) - 1} names, got '
                         f'{", ".join(map(str, command.lengths))}')
    truth = _matrix(scenes, names, 'objects')
    counted = truth | ~_matrix(scenes, names, 'others')
    rng = np.random.default_rng(command.seed)
    lists = {length: [rng.choice(len(names), length, replace=False) for _ in range(command.draws)]
             for length in command.lengths} | {len(names): [np.arange(len(names))]}
    rows: list[dict[str, object]] = []
    for size in command.sizes:
        found = _evidence(robot, scenes, names, size, lists)
        first, second = ({length: _pairs(found[length], truth, counted, drawn, half)
                          for length, drawn in lists.items()} for half in (FIRST, SECOND))
        fitted = fit(*(np.concatenate(part) for part in zip(*first.values(), strict=True)))
        for name, line in {"the student's": robot.spec.presence_line, 'fitted': fitted}.items():
            for length, (given, shown) in second.items():
                probability, there = torch.from_numpy(told(given, line)), torch.from_numpy(shown)
                rows.append({'size [px]': size, 'line': name, 'names': length,
                             **_figures(probability, there)})
    command.out.mkdir(parents=True, exist_ok=True)
    with replacing(command.out / 'presence.svg') as temporary, drawing():
        draw_reliability(bins(probability, there), BINS, ('present', 'probability', 'labels')
                         ).savefig(temporary, format='svg', facecolor='white')
    if command.calibrate:
        student = checkpoint.load(command.checkpoint)
        student.spec = replace(student.spec, presence_line=fitted)
        checkpoint.save(student.half(), command.checkpoint, student.int8)  # its weights stayed
    return {**facts(command, robot), 'table': rows, 'line': fitted, 'notes': [
        f'{len(scenes[SECOND])} of {len(scenes)} images were measured; of all their labels '
        f'{100 * truth[SECOND][counted[SECOND]].mean():.1f} % are present',
        f'fitted at {command.sizes[-1]} px: {", ".join(f"{value:.4f}" for value in fitted)}']}


def _matrix(scenes: Sequence[Scene], names: Sequence[str], what: str) -> np.ndarray:
    """Return (N, C) bool: which names are among the objects, or the others, of each scene."""
    shown = [{one.label for one in getattr(scene, what)} for scene in scenes]
    return np.array([[name in labels for name in names] for labels in shown])


def _evidence(robot: Robot, scenes: Sequence[Scene], names: Sequence[str], size: int,
              lists: dict[int, list[np.ndarray]]) -> dict[int, np.ndarray]:
    """Return, by length, (N, draws, length, 2): see `evidence`."""
    words = {length: [vocabulary.build(dict.fromkeys([names[one] for one in drawn], Entry()),
                                       robot.encoder, 1, robot.templates) for drawn in several]
             for length, several in lists.items()}
    finder = Where(robot.classifier, robot.classifier.open_cells())
    found: dict[int, list[np.ndarray]] = {length: [] for length in lists}
    for scene in scenes:
        cells = finder.look(read_image(scene.path), size)
        for length, several in words.items():
            found[length].append(np.array([evidence(maps_of(cells, one)) for one in several]))
    return {length: np.array(several) for length, several in found.items()}


def _pairs(found: np.ndarray, truth: np.ndarray, counted: np.ndarray,
           drawn: Sequence[np.ndarray], half: slice) -> tuple[np.ndarray, np.ndarray]:
    """Return the evidence of all labels that count, (M, 2), and whether each is present, (M,)."""
    columns = np.array(drawn)  # (draws, length)
    used = counted[half][:, columns]
    return found[half][used], truth[half][:, columns][used]


def fit(found: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """
    Return the most likely line of `told` (after Platt, 1999).

    :param found: (M, 2), see `evidence`. truth: (M,) bool.
    :raises ValueError: if none, or all, are present: there is no best line then.
    """
    if truth.all() or not truth.any():
        raise ValueError('expected labels that are present and others that are not, got '
                         f'{truth.sum()} of {len(truth)} that are')
    middle, scale = found.mean(0), found.std(0) + 1e-6
    given, wanted = torch.from_numpy((found - middle) / scale), torch.from_numpy(truth).double()
    line = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([line], max_iter=200, line_search_fn='strong_wolfe')

    def loss() -> torch.Tensor:
        search.zero_grad()
        # A little weight on the line, as one through values that are apart would be endless.
        value = functional.binary_cross_entropy_with_logits(
            given @ line[:2] + line[2], wanted) + 1e-4 * line.square().sum()
        value.backward()
        return value

    search.step(loss)
    *slopes, offset = line.tolist()
    a, b = (np.array(slopes) / scale).tolist()
    return a, b, offset - a * middle[0].item() - b * middle[1].item()


def _figures(probability: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    accuracy, f1 = accuracy_and_f1(probability[None], truth[None], range(len(probability)))
    return {'AUROC [%]': 100 * binary_auroc(probability, truth.long()).item(),
            'ECE [%]': 100 * binary_calibration_error(probability, truth.long(), BINS).item(),
            'accuracy [%]': 100 * accuracy, 'F1 [%]': 100 * f1}


def bins(probability: torch.Tensor, truth: torch.Tensor) -> list[tuple[float, float, int]]:
    """Return mean probability, part that is present, and count of each bin that has any."""
    places = (probability * BINS).long().clamp(max=BINS - 1)
    chosen = [places == number for number in range(BINS)]
    return [(probability[one].mean().item(), truth[one].double().mean().item(), int(one.sum()))
            for one in chosen if one.any()]
