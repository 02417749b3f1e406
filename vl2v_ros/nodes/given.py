"""Launch arguments that override the parameter file only if they are given."""
import tempfile
from typing import Any

from launch import LaunchContext, Substitution
import yaml

BOOLEANS = {'true': True, 'false': False}


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
        # The file stays, as the parameter files that launch itself writes.
        with tempfile.NamedTemporaryFile('w', encoding='utf-8', prefix='vl2v_ros_',
                                         suffix='.yaml', delete=False) as file:
            yaml.safe_dump({'/**': {'ros__parameters': parameters}} if parameters else {}, file)
        return file.name
