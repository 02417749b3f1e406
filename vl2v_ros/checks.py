"""One check of value ranges, with one form of error message for all of them."""
from collections.abc import Iterable
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
