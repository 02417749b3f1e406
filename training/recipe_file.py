"""Recipe files: YAML -> Recipe, and back."""
import argparse
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
import types
import typing
from typing import Any

from training.recipe import address_of, Recipe, ROOT
from vl2v_ros.files import brief, one_line, read_yaml

DEFAULT = ROOT / 'config/distill/ood.yaml'


def read(path: Path) -> Recipe:
    """
    Read a recipe; paths in it are relative to the repository, but for addresses.

    :raises ValueError: for a file that is no recipe, naming the key and the known ones.
    """
    try:
        return _build(Recipe, read_yaml(path), '')
    except ValueError as error:
        raise ValueError(f'recipe {path}: {one_line(error)}') from error


def read_command(arguments: list[str]) -> tuple[Recipe, list[str]]:
    """
    Return the recipe of `--config FILE`, the shipped one without, and the other arguments.

    :raises ValueError: for a file that is no recipe.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('--config', type=Path, default=DEFAULT)
    known, others = parser.parse_known_args(arguments)
    return read(known.config), others


def _build(kind: Any, value: Any, where: str) -> Any:
    """Convert a value from YAML to a type; `where` names its key in errors."""
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ValueError(f'{where or "its content"}: expected a mapping, got {brief(value)}')
        known = [entry.name for entry in fields(kind)]
        if unknown := [key for key in value if key not in known]:
            raise ValueError(f'{where}{"." if where else ""}{unknown[0]}: no such key; known are '
                             f'{", ".join(known)}')
        hints = typing.get_type_hints(kind)
        values = {key: _build(hints[key], entry, f'{where}.{key}'.lstrip('.'))
                  for key, entry in value.items()}
        try:
            return kind(**values)
        except ValueError as error:
            raise ValueError(f'{where}{"." if where else ""}{error}') from error
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _build(arguments[0], value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f'{where}: expected a list, got {brief(value)}')
        kinds = [arguments[0]] * len(value) if arguments[-1] is ... else arguments
        if len(kinds) != len(value):
            raise ValueError(f'{where}: expected {len(kinds)} values, got {brief(value)}')
        return tuple(_build(one, entry, where) for one, entry in zip(kinds, value, strict=True))
    if kind is Path and isinstance(value, str):
        return Path(value) if address_of(Path(value)) else ROOT / value
    if kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as text
        except ValueError:
            pass
    elif isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ValueError(f'{where}: expected {kind.__name__}, got {brief(value)}')


def plain(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as values that JSON and YAML can hold."""
    def convert(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: convert(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [convert(entry) for entry in value]
        return address_of(value) or str(value) if isinstance(value, Path) else value
    return convert(asdict(recipe))
