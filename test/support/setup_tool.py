"""tools/setup_env.py as a module."""
import importlib.util
from pathlib import Path
from types import ModuleType


def load(checkout: Path) -> ModuleType:
    """Import the tool of a checkout."""
    spec = importlib.util.spec_from_file_location('setup_env', checkout / 'tools/setup_env.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
