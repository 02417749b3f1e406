"""The licences of weights that open_clip lists, as far as they are known: licences.yaml."""
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from vl2v_ros.files import read_yaml

TABLE = Path(__file__).with_suffix('.yaml')


class Licence(NamedTuple):
    """
    The licence of some weights.

    name: as their card names it; 'unknown' if it is not in the table.
    robots: whether it lets a robot use them; None: not known.
    says: what it permits, for people.
    """

    name: str
    robots: bool | None
    says: str


@cache
def _table() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_yaml(TABLE)
    return found


def find(repository: str) -> Licence:
    """Return the licence of the weights in a repository on the hub."""
    fitting = [(len(start), entry) for entry in _table()
               for start in entry['repositories'] if repository.startswith(start)]
    if not fitting:
        return Licence('unknown', None, f'read the card of {repository} on the hub')
    _, entry = max(fitting, key=lambda pair: pair[0])
    return Licence(entry['licence'], entry['robots'], f'{entry["says"]} ({entry["source"]})')
