"""The licences of weights that open_clip lists, as far as they are known: licences.yaml."""
from pathlib import Path
from typing import NamedTuple

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


def find(repository: str) -> Licence:
    """Return the licence of the weights in a repository on the hub."""
    fitting = [(len(start), entry) for entry in read_yaml(TABLE)
               for start in entry['repositories'] if repository.startswith(start)]
    if not fitting:
        return Licence('unknown', None, f'read the card of {repository} on the hub')
    _, entry = max(fitting, key=lambda pair: pair[0])
    return Licence(entry['licence'], entry['robots'], f'{entry["says"]} ({entry["source"]})')
