"""Teaching: how well things are named that were shown a few times, and what other labels lose."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from training.data.class_names import read_names
from training.measuring.photo_sets import read_photos, read_set, read_sets
from training.measuring.robot import Command, facts, Robot
from training.recipe import ROOT
from vl2v_ros.words import vocabulary
from vl2v_ros.words.labels import Entry
from vl2v_ros.words.vectors.examples import Examples, scale_of, TEXT_WEIGHT
from vl2v_ros.words.vocabulary_file import parse


@dataclass(frozen=True, kw_only=True)
class Teaching(Command):
    """Teach things by a few photos of each, and name other photos of them."""

    images: tuple[Path, ...]
    """Folders of photos, <class>/* or <domain>/<class>/*; each class is taught as a label."""
    classes: tuple[str, ...] = ()
    """Classes to teach; by default all."""
    names: Path | None = None
    """YAML file that maps classes to names, which are their texts; without it they have none."""
    words: Path = ROOT / 'config/vocabularies/everyday.yaml'
    """Vocabulary file with the labels that the taught ones are added to; what is the name of a
    taught one is left out of it."""
    list_length: int = 0
    """Number of these labels, chosen at random; 0: all."""
    sets: Path = ROOT / 'config/photo_sets.yaml'
    """File of the sets of photos that show what the other labels lose."""
    data: Path | None = None
    """Folder that holds the images of these sets; without it, they are left out."""
    others: tuple[str, ...] = ('ImageNet', 'groceries')
    """Names of these sets."""
    counts: tuple[int, ...] = (1, 2, 5, 10)
    """Numbers of examples of each class, each a row."""
    weights: tuple[float, ...] = (TEXT_WEIGHT,)
    """Weights of the text in the prototype, each a row, where there are names."""
    scale: float | None = None
    """How much examples count against texts; by default as on the robot, see `scale_of`."""
    half: Literal['all', 'first', 'second'] = 'all'
    """Which photos of each class to use, every second one from the first or the second on."""
    draws: int = 5
    """Number of times that other examples are drawn; the figures are means."""
    seed: int = 0
    """Seed of the examples and the list."""


@dataclass(frozen=True, eq=False)
class Shown:
    """
    The embeddings of what is taught.

    rows: class -> (N, D). texts: class -> (D,) of its name, for those that have one.
    """

    rows: Mapping[str, np.ndarray]
    texts: Mapping[str, np.ndarray]


def teaching(command: Teaching) -> dict[str, Any]:
    """Measure; raises ValueError for photos, names or words that cannot be used."""
    robot = Robot(command.checkpoint, command.device, command.templates)
    shown = _read(command, robot)
    scale = scale_of(robot.spec.unknown_threshold) if command.scale is None else command.scale
    called = read_names(command.names) if command.names else {}
    names = {called[name] for name in shown.rows if name in called}
    labels = [label for label in parse(str(command.words)).entries if label not in names]
    if command.list_length:
        rng = np.random.default_rng(command.seed)
        labels = [labels[number] for number in sorted(
            rng.permutation(len(labels))[:command.list_length])]
    listed = vocabulary.build({label: Entry() for label in labels}, robot.encoder, 1,
                              robot.templates).prototypes
    others = _others(command, robot, labels)
    rows = []
    for weight in [*([0.0] if 0.0 not in command.weights else []),
                   *(command.weights if shown.texts else ())]:
        for count in command.counts:
            found = [_measured(shown, listed, others, count, weight, scale, draw + command.seed)
                     for draw in range(command.draws)]
            rows.append({'examples': count, 'text weight': weight} | {
                what: round(float(np.mean([one[what] for one in found])), 1) for what in found[0]})
    return {**facts(command, robot), 'scale': scale, 'table': rows, 'notes': [
        f'{len(shown.rows)} classes are added to {len(listed)} labels; {command.draws} draws; '
        f'examples count {scale:.3f}']}


def _read(command: Teaching, robot: Robot) -> Shown:
    start, step = {'all': (0, 1), 'first': (0, 2), 'second': (1, 2)}[command.half]
    rows: dict[str, list[np.ndarray]] = {}
    for root in command.images:
        index = read_photos(root)
        for number, name in enumerate(index.class_names):
            if name in (command.classes or index.class_names):
                mine = np.flatnonzero(index.labels == number)
                rows.setdefault(name, []).append(robot.embed(index.take(mine)).numpy())
    if missing := [name for name in command.classes if name not in rows]:
        raise ValueError(f'--classes: expected classes of --images, got {missing[0]!r:.80}')
    taught = {name: np.concatenate(parts)[start::step] for name, parts in rows.items()}
    least = max(command.counts) + 1
    if few := [name for name, photos in taught.items() if len(photos) < least]:
        raise ValueError(f'--counts: expected at least {least} photos of each class, got '
                         f'{len(taught[few[0]])} of {few[0]}')
    called = read_names(command.names) if command.names else {}
    entries = {name: called[name] for name in taught if name in called}
    if not entries:
        return Shown(taught, {})
    unique = list(dict.fromkeys(entries.values()))
    words = vocabulary.build({name: Entry() for name in unique}, robot.encoder, 1, robot.templates)
    return Shown(taught, {name: words.prototypes[unique.index(called_so)]
                          for name, called_so in entries.items()})


def _others(command: Teaching, robot: Robot, labels: Sequence[str]
            ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return set -> embeddings and numbers of labels, of its photos that a label names."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name in command.others if command.data else ():
        photos = read_set(read_sets(command.sets, command.data or Path())[name], robot.encoder,
                          robot.templates)
        places = np.array([labels.index(label) if label in labels else -1
                           for label in photos.words.labels])[photos.labels]
        if (places >= 0).any():
            found[name] = robot.embed(photos.index.take(places >= 0)).numpy(), places[places >= 0]
    return found


def _measured(shown: Shown, listed: np.ndarray, others: Mapping[
        str, tuple[np.ndarray, np.ndarray]], count: int, weight: float, scale: float, seed: int
        ) -> dict[str, float]:
    """Teach once, and return percentages that are right."""
    rng, prototypes, rest, truth = np.random.default_rng(seed), [], [], []
    for number, (name, rows) in enumerate(shown.rows.items()):
        order = rng.permutation(len(rows))
        prototypes.append(Examples(rows[order[:count]], weight).prototype(
            shown.texts.get(name), scale))
        rest.append(rows[order[count:]])
        truth += [len(listed) + number] * (len(rows) - count)
    together = np.concatenate([listed, np.stack(prototypes)])
    right = (np.concatenate(rest) @ together.T).argmax(1) == truth
    result = {'right [%]': 100 * right.mean()}
    if shown.texts:  # the words alone
        texts = np.stack([shown.texts.get(name, 0 * listed[0]) for name in shown.rows])
        alone = np.concatenate([listed, texts])
        result['by text alone [%]'] = 100 * ((np.concatenate(rest) @ alone.T).argmax(1)
                                             == truth).mean()
    for what, (rows, places) in others.items():
        result[f'{what}, before [%]'] = 100 * ((rows @ listed.T).argmax(1) == places).mean()
        result[f'{what}, after [%]'] = 100 * ((rows @ together.T).argmax(1) == places).mean()
    return result
