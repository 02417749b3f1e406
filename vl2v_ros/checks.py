"""Checks of value ranges, with one form of error message: of a dataclass, and of an option."""
import argparse
from collections.abc import Callable, Iterable
from operator import attrgetter


def check_ranges(holder: object, rules: Iterable[tuple[str, object, str]]) -> None:
    """
    Refuse the first invalid value of a dataclass.

    :param rules: per field its name (a dot leads into a nested dataclass), whether its value is
        valid, and what is expected.
    :raises ValueError: 'NAME: expected EXPECTED, got VALUE'.
    """
    for name, good, expected in rules:
        if not good:
            raise ValueError(f'{name}: expected {expected}, got {attrgetter(name)(holder)!r}')


def number(kind: type, low: float, high: float) -> Callable[[str], float]:
    """Return what argparse reads a number of a kind (int or float) and range with."""
    def convert(given: str) -> float:
        value = kind(given)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f'expected {low:g} to {high:g}, got {given}')
        return value
    convert.__name__ = {int: 'whole number', float: 'number'}[kind]  # argparse shows it
    return convert
