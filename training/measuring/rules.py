"""
Rules for unknown frames: how well they detect frames that show none of the labels.

Lists of names are drawn at random from all known names. Half of the photos are known: their name
is in the list. The name of an unknown photo is left out of its list, with its near synonyms. Each
rule gives a frame a number; below a threshold the frame is unknown. One threshold is chosen for
one length of lists, and measured at the other lengths:

- best cosine: the rule of the node.
- best cosine, by log C: the threshold rises with the logarithm of the number of labels; the slope
  keeps the same part of the known photos at each length.
- softmax score: the score of the best label, at the checkpoint's temperature.
- over the list: best cosine minus the mean cosine to the labels of the list.
- over all names: best cosine minus the mean cosine to all known names.
- over the ten nearest: best cosine minus the mean of the ten highest cosines to all known names;
  also measured as if the names of unknown photos were not known at all.
"""
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from training.measuring import metrics

BEST, BY_LENGTH = 'best cosine', 'best cosine, by log C'
SCORE, LISTED = 'softmax score', 'over the list'
ALL, TEN, UNHEARD = 'over all names', 'over the ten nearest', 'over the ten nearest, never heard'
NEAREST = 10


class Known(NamedTuple):
    """
    N photos and their similarities to all C known names.

    similarities: (N, C). labels: (N,) int64. near: (C, C) bool, pairs of synonyms.
    """

    similarities: torch.Tensor
    labels: torch.Tensor
    near: torch.Tensor

    def take(self, rows: slice) -> 'Known':
        """Return some of the photos."""
        return Known(self.similarities[rows], self.labels[rows], self.near)


class Drawn(NamedTuple):
    """
    N photos and their similarities to a list of L names each.

    similarities: (N, L), -inf for names that were left out. own: (N,) int64, the column of a known
    photo's name. known: (N,) bool.
    """

    similarities: torch.Tensor
    own: torch.Tensor
    known: torch.Tensor


def synonyms(prototypes: torch.Tensor, cosine: float) -> torch.Tensor:
    """Return (C, C) bool: pairs of (C, D) prototypes that are near enough to be synonyms."""
    return prototypes @ prototypes.T >= cosine


def draw(photos: Known, length: int, draws: int, seed: int) -> Iterator[Drawn]:
    """Yield photos with random lists, each photo once per draw; known ones have their name."""
    count, names = photos.similarities.shape
    generator = torch.Generator().manual_seed(seed)
    labels = photos.labels[:, None]  # (N, 1)
    for _ in range(draws):
        columns = torch.randperm(names, generator=generator)[:length].repeat(count, 1)  # (N, L)
        known = torch.rand(count, generator=generator) < 0.5
        lacking = known & (columns != labels).all(1)
        columns[lacking, -1] = photos.labels[lacking]
        left_out = ~known[:, None] & (photos.near[photos.labels].gather(1, columns)
                                      | (columns == labels))
        yield Drawn(photos.similarities.gather(1, columns).masked_fill(left_out, -torch.inf),
                    (columns == labels).int().argmax(1), known)


def numbers(photos: Known, drawn: Drawn, temperature: float) -> dict[str, torch.Tensor]:
    """Return rule -> (N,) numbers, higher for known photos."""
    best = drawn.similarities.amax(1)
    listed = drawn.similarities.isfinite()
    mean = drawn.similarities.nan_to_num(neginf=0.0).sum(1) / listed.sum(1)
    nameless = photos.near[photos.labels].scatter(1, photos.labels[:, None], True)
    nameless &= ~drawn.known[:, None]
    nearest = min(NEAREST, photos.similarities.shape[1])

    def ten(similarities: torch.Tensor) -> torch.Tensor:
        return best - similarities.topk(nearest, dim=1).values.mean(1)
    return {BEST: best, BY_LENGTH: best,
            SCORE: (drawn.similarities / temperature).softmax(1).amax(1),
            LISTED: best - mean, ALL: best - photos.similarities.mean(1),
            TEN: ten(photos.similarities),
            UNHEARD: ten(photos.similarities.masked_fill(nameless, -1.0))}


class Both(NamedTuple):
    """The numbers of known photos, and of unknown ones."""

    known: torch.Tensor
    unknown: torch.Tensor


def gather(photos: Known, lengths: Sequence[int], draws: int, seed: int, temperature: float
           ) -> dict[str, dict[int, Both]]:
    """Return the numbers of each rule at each length of lists."""
    found: dict[str, dict[int, Both]] = {}
    for length in lengths:
        parts = [(one, numbers(photos, one, temperature))
                 for one in draw(photos, length, draws, seed)]
        for rule in parts[0][1]:
            found.setdefault(rule, {})[length] = Both(*(
                torch.cat([values[rule][one.known == known] for one, values in parts])
                for known in (True, False)))
    return found


def threshold(known: torch.Tensor, keep: float) -> float:
    """Return the number that the given part of the known photos reaches."""
    return known.double().quantile(1 - keep, interpolation='lower').item()


def thresholds(found: Mapping[str, Mapping[int, Both]], keep: float, length: int
               ) -> dict[str, tuple[float, float]]:
    """
    Choose the threshold of each rule that keeps a part of the known photos at one length.

    :return: rule -> threshold at that length, and its increase per unit of log C.
    """
    chosen = {rule: (threshold(of[length].known, keep), 0.0) for rule, of in found.items()}
    lengths = np.log(list(found[BEST]))
    wanted = [threshold(both.known, keep) for both in found[BEST].values()]
    slope = float(np.polyfit(lengths, wanted, 1)[0]) if len(lengths) > 1 else 0.0
    return {**chosen, BY_LENGTH: (chosen[BEST][0], slope)}


def by_rule(found: Mapping[str, Mapping[int, Both]], chosen: Mapping[str, tuple[float, float]],
            length: int) -> list[dict[str, object]]:
    """
    Return a row per rule, with AUROC, FPR95 and the effect of its threshold at each length.

    All but AUROC are in percent. FPR95: unknown photos that pass where 95 % of the known ones do;
    known kept, unknown caught: effect of the threshold.

    :param length: length of lists for which the thresholds were chosen.
    """
    rows = []
    for rule, of in found.items():
        start, slope = chosen[rule]
        row: dict[str, list[float]] = {name: [] for name in ('AUROC', 'FPR95', 'kept', 'caught')}
        for size, (known, unknown) in of.items():
            needed = start + slope * float(np.log(size / length))
            detected = metrics.unknown_detection(known, unknown)
            row['AUROC'].append(detected.auroc)
            row['FPR95'].append(100 * detected.fpr95)
            row['kept'].append(100 * (known >= needed).double().mean().item())
            row['caught'].append(100 * (unknown < needed).double().mean().item())
        rows.append({'rule': rule, 'threshold': start, 'slope': slope, **row})
    return rows


def temperatures(photos: Known, lengths: Sequence[int], draws: int, seed: int
                 ) -> dict[int, float]:
    """Return the temperature that fits known photos best, at each length of lists."""
    return {length: metrics.fit_temperature(*_known(photos, length, draws, seed))
            for length in lengths}


def calibration_errors(photos: Known, lengths: Sequence[int], draws: int, seed: int,
                       temperature: float) -> dict[int, float]:
    """Return the expected calibration error of known photos, at each length of lists."""
    errors = {}
    for length in lengths:
        similarities, own = _known(photos, length, draws, seed)
        errors[length] = metrics.calibration((similarities / temperature).softmax(1), own)[0]
    return errors


def _known(photos: Known, length: int, draws: int, seed: int
           ) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the similarities (M, L) of known photos to their lists, and their own columns."""
    parts = list(draw(photos, length, draws, seed))
    return (torch.cat([one.similarities[one.known] for one in parts]),
            torch.cat([one.own[one.known] for one in parts]))
