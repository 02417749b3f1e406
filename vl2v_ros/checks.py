"""Ranges of what users give, checked with one sentence for all of them."""
from collections.abc import Iterable
from operator import attrgetter


def check_ranges(holder: object, rules: Iterable[tuple[str, object, str]]) -> None:
    """
    Refuse the first value of a dataclass that is not good.

    :param rules: of each field its name (dots lead into fields of fields), whether its value is
        good, and what is expected.
    :raises ValueError: 'NAME: expected EXPECTED, got VALUE'.
    """
    for name, good, expected in rules:
        if not good:
            raise ValueError(f'{name}: expected {expected}, got {attrgetter(name)(holder)!r}')
