"""Where the files that come with this package lie: models, vocabularies, message definitions."""
from pathlib import Path


def share() -> Path:
    """
    Return the folder that holds them: the checkout, or share/vl2v_ros of where this is installed.

    :raises ValueError: if the installation lacks it.
    """
    package = Path(__file__).resolve().parent
    folders = [package.parent, *(above / 'share' / package.name for above in package.parents)]
    for folder in folders:
        if (folder / 'config' / 'vocabularies').is_dir():
            return folder
    raise ValueError(f'expected config/vocabularies beside {package} or in a share/{package.name} '
                     'above it, found none; install the package again, with pip or colcon')
