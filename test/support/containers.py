"""What the files of docker/ say: instructions of the Dockerfile, services of compose files."""
from pathlib import Path
import re
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / 'docker/Dockerfile'
COMPOSE = ROOT / 'docker/compose.yaml'


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with what follows each, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith('#')]
    joined = re.sub(r'\\\n', ' ', '\n'.join(lines))
    pairs = [line.strip().partition(' ') for line in joined.splitlines() if line.strip()]
    return [(name, rest.strip()) for name, _, rest in pairs]


def substituted(text: str, variables: dict[str, str]) -> str:
    """Return a text with `${NAME:-default}` replaced, as docker compose does it."""
    return re.sub(r'\$\{(\w+):-([^}]*)\}', lambda found: variables.get(found[1]) or found[2], text)


def compose(path: Path = COMPOSE, **variables: str) -> dict[str, Any]:
    """Return a compose file as a mapping, with its variables replaced."""
    return yaml.safe_load(substituted(path.read_text(encoding='utf-8'), variables))
