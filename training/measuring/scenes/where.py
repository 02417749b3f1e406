"""Where a student finds things by itself: its maps and boxes, against a grid of crops."""
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
import time
from typing import Any, Literal

import numpy as np
from training.measuring.robot import facts, Robot
from training.measuring.scenes.average_precision import Boxed, mean_average_precision, overlaps
from training.measuring.scenes.known import FIRST, Known, read_scenes, Scene, SECOND
from vl2v_ros.drawing.where_picture import write_picture
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.regions import Box, cut
from vl2v_ros.images.sources import read_image
from vl2v_ros.model.where import certainty, Found, Where, without_doubles
from vl2v_ros.words import vocabulary
from vl2v_ros.words.labels import Entry
from vl2v_ros.words.vocabulary import Vocabulary

MARGIN = 0.1  # the default of the parameter region_margin
RESAMPLES = 100  # of the images, for the spread of mAP


@dataclass(frozen=True, kw_only=True)
class WhereIs(Known):
    """Find things in images of which the boxes are known."""

    sizes: tuple[int, ...] = (448, 640, 896)
    """The parameter where_size, each a row [px]."""
    grids: tuple[int, ...] = (3, 5)
    """Squares along the shorter side of an image, which overlap by half: the crops to compare
    with; empty for none."""
    half: Literal['all', 'first', 'second'] = 'all'
    """Which images to use, every second one from the first or from the second on."""
    draw: tuple[str, ...] = ()
    """Images, relative to --images, to draw with their boxes and maps into --out/where.jpg."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found in one image; `peaks`: per label of it the surest place [px]."""

    found: list[Boxed]
    peaks: dict[str, tuple[float, float]]


Finder = Callable[[Frame, Sequence[str]], Answer]


def where(command: WhereIs) -> dict[str, Any]:
    """
    Find things; a table with a row per way and size.

    :raises ValueError: if annotations or names cannot be used.
    """
    robot = Robot(command.checkpoint, command.device, command.templates)
    scenes, names = read_scenes(command)
    scenes = scenes[{'all': slice(None), 'first': FIRST, 'second': SECOND}[command.half]]
    words = vocabulary.build(dict.fromkeys(names, Entry()), robot.encoder, 1, robot.templates)
    ways: dict[str, Finder] = {}
    if command.grids:
        shown = ' and '.join(f'{count} x {count}' for count in command.grids)
        ways[f'crops, {shown}'] = _by_grid(robot, words, command.grids)
    cells = robot.classifier.open_cells()
    for size in command.sizes:
        ways[f'maps, {size} px'] = _by_maps(Where(robot.classifier, cells), words, size)
    if command.draw and command.sizes:
        command.out.mkdir(parents=True, exist_ok=True)
        write_picture(Where(robot.classifier, cells), [command.images / name
                                                       for name in command.draw], words,
                      command.sizes[-1], MARGIN, command.out / 'where.jpg')
    rows = [{'way': name, **_measured(scenes, way)} for name, way in ways.items()]
    count = sum(len(scene.objects) for scene in scenes)
    return {**facts(command, robot), 'table': rows, 'notes': [
        f'{len(scenes)} images, {count} boxes, over {len(words.labels)} names; the spread of mAP '
        f'is that of {RESAMPLES} resamples of the images']}


def _boxed(found: Sequence[Found]) -> list[Boxed]:
    return [Boxed(one.prediction.labels[0], one.box.upright(), one.certainty) for one in found]


def _by_maps(finder: Where, words: Vocabulary, size: int) -> Finder:
    def find(frame: Frame, labels: Sequence[str]) -> Answer:
        maps = finder.maps(frame, words, size)
        height, width = frame.pixels.shape[:2]
        rows, columns, _ = maps.fine.shape
        peaks = {}
        for label in labels:
            row, column = np.unravel_index(maps.fine[..., words.labels.index(label)].argmax(),
                                           (rows, columns))
            peaks[label] = (column + 0.5) / columns * width, (row + 0.5) / rows * height
        return Answer(_boxed(finder.boxes(frame, maps, words, MARGIN,
                                          unknown_threshold=-1)), peaks)
    return find


def _by_grid(robot: Robot, words: Vocabulary, grids: Sequence[int]) -> Finder:
    def find(frame: Frame, labels: Sequence[str]) -> Answer:
        height, width = frame.pixels.shape[:2]
        boxes = [box for count in grids for box in _squares(width, height, count)]
        predictions = robot.classifier.classify(
            [cut(frame, box, 0, 0) for box in boxes], words, len(words.labels), -1)
        peaks = {}
        for label in labels:
            best = max(range(len(boxes)), key=lambda place: dict(zip(
                predictions[place].labels, predictions[place].scores, strict=True))[label])
            peaks[label] = boxes[best].x, boxes[best].y
        return Answer(_boxed(without_doubles(
            [Found(box, prediction, certainty(prediction.similarities))
             for box, prediction in zip(boxes, predictions, strict=True)])), peaks)
    return find


def _squares(width: int, height: int, count: int) -> Iterator[Box]:
    """Yield squares that overlap by half, `count` along the shorter side."""
    side = min(width, height) * 2 / (count + 1)
    starts = [np.linspace(0, length - side, round((length - side) / (side / 2)) + 1)
              for length in (height, width)]
    for top in starts[0].tolist():
        for left in starts[1].tolist():
            yield Box(left + side / 2, top + side / 2, side, side)


def _measured(scenes: Sequence[Scene], find: Finder) -> dict[str, object]:
    """Return a row: all but boxes and time in percent."""
    answers, hits, best, seconds = [], [], [], []
    for scene in scenes:
        frame, labels = read_image(scene.path), sorted({one.label for one in scene.objects})
        start = time.perf_counter()
        answer = find(frame, labels)
        seconds.append(time.perf_counter() - start)
        answers.append(answer.found)
        for label in labels:
            x, y = answer.peaks[label]
            hits.append(any(left <= x < right and top <= y < bottom
                            for one in (*scene.objects, *scene.others) if one.label == label
                            for left, top, right, bottom in [one.corners]))
        for one in scene.objects:
            same = [other for other in answer.found if other.label == one.label]
            best.append(overlaps([one], same).max(initial=0))
    truth = [(scene.objects, scene.others) for scene in scenes]
    rng = np.random.default_rng(0)
    spread = np.std([mean_average_precision(answers, truth, rng.integers(0, len(scenes), len(
        scenes))) for _ in range(RESAMPLES)])
    return {'peak is inside [%]': 100 * float(np.mean(hits)),
            'mean IoU [%]': 100 * float(np.mean(best)),
            'mAP at 0.5 [%]': 100 * mean_average_precision(answers, truth),
            'spread [%]': 100 * float(spread),
            'boxes found': float(np.mean([len(found) for found in answers])),
            'time [ms]': 1000 * float(np.median(seconds))}
