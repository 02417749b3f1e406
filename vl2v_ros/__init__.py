"""
Open-vocabulary labels for camera images, by a student distilled from CLIP.

from vl2v_ros import Labeller
print(Labeller.open().label('photo.jpg', ['banana', 'mug', 'power drill']))
"""
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vl2v_ros.labeller import Labeller

__all__ = ['Labeller']


def __getattr__(name: str) -> object:
    """Import Labeller only when it is used: messages and nodes need less."""
    if name != 'Labeller':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from vl2v_ros.labeller import Labeller
    return Labeller
