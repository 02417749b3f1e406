"""Names of classes, read from YAML: of class folders, and of a classifier's classes."""
from pathlib import Path
import unicodedata

from vl2v_ros.files import brief, read_yaml


def read_names(path: Path) -> dict[str, str]:
    """
    Read the name of each class folder.

    :raises ValueError: for a file that is no YAML mapping of texts to texts.
    """
    content = _read_yaml(path, 'names')
    if not isinstance(content, dict) or not content or not all(
            isinstance(text, str) and text for entry in content.items() for text in entry):
        raise ValueError(f'names {path}: expected a mapping of class folders to names, got '
                         f'{brief(content)}')
    return {unicodedata.normalize('NFC', folder): name for folder, name in content.items()}


def read_classes(path: Path) -> tuple[str, ...]:
    """
    Read the names of a classifier's classes, in its order; a name may occur more than once.

    :raises ValueError: for a file that is no YAML list of texts.
    """
    content = _read_yaml(path, 'classes')
    if not isinstance(content, list) or not content or not all(
            isinstance(text, str) for text in content):
        raise ValueError(f'classes {path}: expected a list of names, got {brief(content)}')
    return tuple(content)


def _read_yaml(path: Path, what: str) -> object:
    try:
        return read_yaml(path)
    except ValueError as error:
        raise ValueError(f'{what} {path}: {error}') from error
