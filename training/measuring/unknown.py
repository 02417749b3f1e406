"""Unknown: the command that measures how well unknown photos are detected."""
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from training.measuring import rules
from training.measuring.photo_sets import known_names, read_set, Sets, sets_of
from training.measuring.robot import facts, prototypes, Robot
from vl2v_ros.model import checkpoint


@dataclass(frozen=True, kw_only=True)
class Unknown(Sets):
    """Measure how well photos are found unknown whose names are not in the list."""

    calibrate: bool = False
    """Write unknown threshold and temperature into the checkpoint."""
    keep: float = 0.925
    """Fraction of the known photos that the threshold must not call unknown, at length --at."""
    lengths: tuple[int, ...] = (10, 50, 300)
    """Numbers of names in a list; a list of all known names is measured as well."""
    at: int = 300
    """Length of the lists that threshold and temperature are chosen for."""
    synonym: float = 0.9
    """Names whose prototypes have at least this cosine count as synonyms: they are left out of a
    list together."""
    draws: int = 5
    """Number of lists of each length."""
    seed: int = 0
    """Seed of the random lists."""


def unknown(command: Unknown) -> dict[str, Any]:
    """
    Measure how well photos are found unknown whose names are not in the list.

    Thresholds and temperature are chosen on every other photo of the first set, and measured on
    the rest of it and on the other sets.

    :raises ValueError: for photos or names that cannot be used, and for lengths that do not fit.
    """
    robot = Robot(command.checkpoint, command.device, command.templates)
    total, rows, errors = len(prototypes(robot)), [], {}
    chosen: dict[str, tuple[float, float]] = {}
    lengths = [length for length in command.lengths if length < total] + [total]
    if command.at not in lengths or not 0 < command.keep <= 1 or min(lengths) < 2:
        raise ValueError(f'expected --at among the lengths {lengths}, all at least 2, and --keep '
                         f'in (0, 1], got {command.at} and {command.keep}')
    draws = command.draws, command.seed
    for name, one in sets_of(command).items():
        shown = read_set(one, robot.encoder, robot.templates)
        words, places = known_names(robot.encoder, shown.words, robot.templates)
        among = torch.tensor(words.prototypes)
        photos = rules.Known(robot.embed(shown.index) @ among.T,
                             torch.from_numpy(places[shown.labels]),
                             rules.synonyms(among, command.synonym))
        if not chosen:
            first, photos = photos.take(slice(0, None, 2)), photos.take(slice(1, None, 2))
            fitting = rules.temperatures(first, lengths, *draws)
            warmth = fitting[command.at]
            chosen = rules.thresholds(rules.gather(first, lengths, *draws, warmth),
                                      command.keep, command.at)
        rows += [{'photos': name, 'count': len(photos.labels), **row} for row in rules.by_rule(
            rules.gather(photos, lengths, *draws, warmth), chosen, command.at)]
        errors[name] = rules.calibration_errors(photos, lengths, *draws, warmth)
    best = chosen[rules.BEST][0]
    if command.calibrate:
        student = checkpoint.load(command.checkpoint)
        student.spec = replace(student.spec, temperature=warmth, unknown_threshold=best)
        checkpoint.save(student.half(), command.checkpoint, student.int8)  # its weights stayed
    notes = [f'lists of {", ".join(map(str, lengths))} names; chosen at {command.at}: threshold '
             f'{best:.4f}, temperature {warmth:.4f}',
             f'temperatures that fit: {joined(fitting)}',
             *(f'{name}: expected calibration error {joined(of)}' for name, of in errors.items())]
    return {**facts(command, robot), 'lengths': lengths, 'table': rows, 'temperatures': fitting,
            'ECE': errors, 'notes': notes}


def joined(values: Mapping[int, float]) -> str:
    """Return the values as one text."""
    return ', '.join(f'{value:.4f}' for value in values.values())
