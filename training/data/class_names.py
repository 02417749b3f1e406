"""Names of classes, read from YAML: of class folders, and of a classifier's classes."""
from pathlib import Path
import unicodedata

import yaml


def read_names(path: Path) -> dict[str, str]:
    """
    Read the name of each class folder.

    :raises ValueError: for a file that is no YAML mapping of texts to texts.
    """
    content = _read_yaml(path, 'names')
    if not isinstance(content, dict) or not content or not all(
            isinstance(text, str) and text for entry in content.items() for text in entry):
        raise ValueError(f'names {path}: expected a mapping of class folders to names, got '
                         f'{content!r:.80}')
    return {unicodedata.normalize('NFC', folder): name for folder, name in content.items()}


def read_classes(path: Path) -> tuple[str, ...]:
    """
    Read the names of a classifier's classes, in its order; a name may occur more than once.

    :raises ValueError: for a file that is no YAML list of texts.
    """
    content = _read_yaml(path, 'classes')
    if not isinstance(content, list) or not content or not all(
            isinstance(text, str) for text in content):
        raise ValueError(f'classes {path}: expected a list of names, got {content!r:.80}')
    return tuple(content)


def _read_yaml(path: Path, what: str) -> object:
    try:
        return yaml.safe_load(path.read_text(encoding='utf-8-sig'))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f'{what} {path}: expected a YAML file: {error}') from error
