"""Launch arguments that override the parameter file only if they are given."""
from pathlib import Path
import tempfile
from typing import Any

from launch import LaunchContext, Substitution
from vl2v_ros.model import bundle
import yaml

BOOLEANS = {'true': True, 'false': False}
BUNDLED = {'checkpoint': bundle.STUDENT, 'vocabulary': bundle.VOCABULARY}


class Given(Substitution):
    """
    The path of a new parameter file with the launch arguments that are not empty.

    It must be the last of a node's parameters, after the user's own file.
    """

    def __init__(self, texts: tuple[str, ...], booleans: tuple[str, ...] = ()) -> None:
        """Store the names of the arguments, which are also those of the parameters."""
        super().__init__()
        self._texts, self._booleans = texts, booleans

    def describe(self) -> str:
        """Return a text for launch to print."""
        return f'Given({", ".join((*self._texts, *self._booleans))})'

    def perform(self, context: LaunchContext) -> str:
        """Write the file; raises ValueError for an argument that is neither true nor false."""
        given = {name: context.launch_configurations.get(name, '')
                 for name in (*self._texts, *self._booleans)}
        parameters: dict[str, Any] = {name: value for name, value in given.items() if value}
        for name in parameters.keys() & set(self._booleans):
            value = parameters[name]
            if value.lower() not in BOOLEANS:
                raise ValueError(f'launch argument {name}: expected true or false, got {value!r}')
            parameters[name] = BOOLEANS[value.lower()]
        return _write({'/**': {'ros__parameters': parameters}} if parameters else {})


class Bundled(Substitution):
    """
    The path of a parameter file with what is in the bundle of the launch argument `bundle`.

    files: the paths of its student and vocabulary, in a new file; else its own parameter file.
    Without a bundle, the file is empty.
    """

    def __init__(self, files: bool) -> None:
        """Store which of the two it is."""
        super().__init__()
        self._files = files

    def describe(self) -> str:
        """Return a text for launch to print."""
        return f'Bundled({self._files})'

    def perform(self, context: LaunchContext) -> str:
        """Write the file; raises ValueError for a bundle that is none, or damaged."""
        named = context.launch_configurations.get('bundle', '')
        if not named:
            return _write({})
        folder = Path(named).expanduser().resolve()
        if not self._files:
            own = folder / bundle.PARAMETERS
            return str(own) if own.is_file() else _write({})
        bundle.check(folder)
        return _write({'/**': {'ros__parameters': {
            name: str(folder / file) for name, file in BUNDLED.items()}}})


def _write(content: dict[str, Any]) -> str:
    """Write a file that stays, as the parameter files that launch itself writes."""
    with tempfile.NamedTemporaryFile('w', encoding='utf-8', prefix='vl2v_ros_', suffix='.yaml',
                                     delete=False) as file:
        yaml.safe_dump(content, file)
    return file.name
