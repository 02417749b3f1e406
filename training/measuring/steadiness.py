"""A student on sequences: how steady its labels are, and how soon they follow a change."""
from collections.abc import Iterable, Sequence
import csv
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
import numpy as np
from training.measuring.pages.charts import BLUE, drawing, ORANGE
from training.measuring.photo_sets import PhotoSet, read_set
from training.measuring.robot import Command, facts, Robot
from training.recipe import ROOT
from training.rendering.moving_camera import moved
from vl2v_ros.files import replacing
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.videos import Video
from vl2v_ros.model.smoothing import ALIKE, Smoother, Track
from vl2v_ros.words import vocabulary
from vl2v_ros.words.vocabulary import Vocabulary
from vl2v_ros.words.vocabulary_file import parse

RATE = 30.0  # [Hz]
SIZE = 480, 360  # of the views [px]


@dataclass(frozen=True, kw_only=True)
class Steadiness(Command):
    """Measure flicker and delay of the labels of a moving camera, smoothed in several ways."""

    data: Path
    """Folder that holds photos/grocery/val of the Grocery Store Dataset."""
    photos: int = 100
    """Number of photos of it that are shown one after another."""
    seconds: float = 2.0
    """Time for which each is shown [s]."""
    seed: int = 0
    """Seed of the choice of photos and of the movements."""
    smoothing: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)
    """Values of the parameter smoothing [s]."""
    hysteresis: tuple[float, ...] = (0.0, 0.25)
    """Values of the parameter hysteresis."""
    alike: tuple[float, ...] = (ALIKE,)
    """Cosines with the average below which an image is taken for something else; -1: never."""


class Scene(NamedTuple):
    """
    What a camera saw at RATE.

    rows: (N, D) embeddings.
    things: (N,) int64, the number of the thing that is shown; it rises from 0.
    right: the labels that are right for each thing.
    """

    rows: np.ndarray
    things: np.ndarray
    right: Sequence[frozenset[str]]
    words: Vocabulary


def steadiness(command: Steadiness) -> dict[str, Any]:
    """
    Label the sequences with each pair of values, and draw flicker over delay to --out/steady.svg.

    :raises ValueError: if photos, names or the shipped sequence cannot be used.
    """
    robot = Robot(command.checkpoint, command.device, command.templates)
    rows: list[dict[str, object]] = []
    notes = []
    for name, scene in (('sequence', _sample(robot)), ('groceries', _groceries(robot, command))):
        settings = list(product(command.alike, command.smoothing, command.hysteresis))
        said = [answers(robot, scene, *values) for values in settings]
        counted, measured = figures(scene, said)
        rows += [{'sequence': name, 'alike': values[0], 'smoothing [s]': values[1],
                  'hysteresis': values[2], **one}
                 for values, one in zip(settings, measured, strict=True)]
        notes.append(f'{name}: {len(scene.right)} things in {len(scene.rows) / RATE:.0f} s, '
                     f'{len(scene.words.labels)} names; the delay is over the {counted} changes '
                     'after which the right label comes in all rows')
    command.out.mkdir(parents=True, exist_ok=True)
    with replacing(command.out / 'steady.svg') as temporary, drawing():
        _draw(rows).savefig(temporary, format='svg', facecolor='white')
    return {**facts(command, robot), 'table': rows, 'notes': notes}


def answers(robot: Robot, scene: Scene, alike: float, smoothing: float, hysteresis: float
            ) -> list[str]:
    """Return what the node would say of each image: its first label, '' if it is unknown."""
    smoother, said = Smoother(robot.classifier, alike), []
    for number, row in enumerate(scene.rows):
        time = round(number / RATE * 1e9)
        prediction, = smoother.label(
            row[None].copy(), [Track('camera', time, time)], scene.words, 1,
            robot.spec.unknown_threshold, smoothing, hysteresis)
        said.append('' if prediction.unknown else prediction.labels[0])
    return said


def figures(scene: Scene, said: Sequence[Sequence[str]]
            ) -> tuple[int, list[dict[str, object]]]:
    """
    Return what several settings make of a scene, from what each says of its images.

    :return: the number of changes of the thing after which all settings find the right label;
        and per setting, changes of the label per second beyond one per change of the thing, the
        mean and the longest delay of the right label [s], NaN without such a change, and the part
        of right images [%].
    """
    right = np.array([[label in scene.right[thing] for label, thing in zip(
        row, scene.things, strict=True)] for row in said])  # (settings, N)
    words = np.array(said)
    changes = np.pad(words[:, 1:] != words[:, :-1], ((0, 0), (1, 0)))
    starts = np.flatnonzero(np.diff(scene.things, prepend=-1))
    ends = [*starts[1:], len(scene.things)]
    spans = [slice(*span) for span in zip(starts, ends, strict=True)]
    more = [np.maximum(changes[:, span].sum(1) - (span.start > 0), 0) for span in spans]
    found = [span for span in spans[1:] if right[:, span].any(1).all()]
    delays = np.array([right[:, span].argmax(1) for span in found]
                      or np.full((1, len(said)), np.nan)) / RATE  # (changes, settings)
    return len(found), [
        {'flicker [1/s]': float(count * RATE / len(scene.things)),
         'mean delay [s]': float(delay.mean()), 'longest delay [s]': float(delay.max()),
         'right [%]': 100 * float(ok.mean())}
        for count, delay, ok in zip(np.sum(more, 0), delays.T, right, strict=True)]


def _sample(robot: Robot) -> Scene:
    """Return the shipped sequence, a second per photo, among the shipped everyday names."""
    folder = ROOT / 'data/photos_sample'
    with (folder / 'sequence.csv').open(encoding='utf-8') as file:
        right = [frozenset((row['label'], row['also'])) - {''} for row in csv.DictReader(file)]
    words = parse(str(ROOT / 'config/vocabularies/everyday.yaml'))
    shots = [Frame(shot.pixels, 'bgr') for shot in Video(folder / 'sequence.mp4').shots()]
    return Scene(_embed(robot, shots), np.arange(len(shots)) // round(RATE), right,
                 vocabulary.build(words.entries, robot.encoder, 1, robot.templates))


def _groceries(robot: Robot, command: Steadiness) -> Scene:
    """Return photos of groceries, no two in a row of one name, as a moving camera sees them."""
    shown = read_set(PhotoSet(command.data / 'photos/grocery/val',
                              ROOT / 'config/names/grocery.yaml'), robot.encoder, robot.templates)
    order: list[int] = []
    for row in np.random.default_rng(command.seed).permutation(len(shown.index)).tolist():
        if len(order) < command.photos and (
                not order or shown.labels[row] != shown.labels[order[-1]]):
            order.append(row)
    frames = round(command.seconds * RATE)
    views = (Frame(view) for row in order for view in moved(
        shown.index.read(row), SIZE, frames, RATE, np.random.default_rng([command.seed, row])))
    return Scene(_embed(robot, views), np.arange(len(order)).repeat(frames),
                 [frozenset({shown.words.labels[shown.labels[row]]}) for row in order],
                 shown.words)


def _embed(robot: Robot, frames: Iterable[Frame]) -> np.ndarray:
    return np.concatenate([robot.runtime.embed([frame]) for frame in frames])


def _draw(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw flicker over the mean delay, a line per hysteresis and alike."""
    names = list(dict.fromkeys(row['sequence'] for row in rows))
    figure = Figure((4 * len(names), 3.2), layout='constrained')
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        mine = [row for row in rows if row['sequence'] == name]
        kinds = dict.fromkeys((row['alike'], row['hysteresis']) for row in mine)
        for (alike, held), colour in zip(kinds, cycle((BLUE, ORANGE, 'C2', 'C4')), strict=False):
            line = [row for row in mine if (row['alike'], row['hysteresis']) == (alike, held)]
            x, y = ([row[key] for row in line] for key in ('mean delay [s]', 'flicker [1/s]'))
            axes.plot(x, y, 'o-', color=colour, markersize=4,
                      label=f'hysteresis {held:g}, alike {alike:g}')
            for row, *place in zip(line, x, y, strict=True):
                axes.annotate(f'{row["smoothing [s]"]:g}', place, xytext=(4, 3),
                              textcoords='offset points', fontsize=7)
        axes.set(title=name, xlabel='mean delay [s]', ylabel='flicker [1/s]', yscale='log')
        axes.legend()
        axes.grid()
    return figure
