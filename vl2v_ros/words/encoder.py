"""Text towers: where they come from, and what everything that encodes text offers."""
from collections.abc import Sequence
from dataclasses import dataclass
import hashlib
from pathlib import Path
from typing import Protocol

import numpy as np
from vl2v_ros.words import open_clip_models

HUB_CONFIG = 'open_clip_config.json'  # as open_clip's models lie in a folder of their hub


@dataclass(frozen=True)
class TextTower:
    """
    Where a text tower comes from, as written into a checkpoint.

    model: an open_clip model name, or a local open_clip config (*.json); one that is called
    open_clip_config.json may also say the images' mean and std, as those from the hub do.
    pretrained: the name's pretrained tag, or the config's weights file (*.safetensors, *.pt).
    identity: what its embeddings are cached under, see `identify`.
    recording: file of prompts that this tower has answered, see recording.py; '': none.
    Local files are looked up beside the checkpoint that names them.
    """

    model: str
    pretrained: str
    identity: str = ''
    recording: str = ''

    @property
    def is_local(self) -> bool:
        """Whether the tower is read from files instead of open_clip's hub."""
        return self.model.endswith('.json')


def identify(tower: TextTower, folder: Path) -> str:
    """
    Return what tells this tower from others: name and tag, or the digest of the local files.

    The name says whether the tag's weights want QuickGELU, see open_clip_models.py.

    :raises ValueError: if a local file is missing, or for a name or tag unknown to open_clip.
    """
    if not tower.is_local:
        return open_clip_models.find(tower.model, tower.pretrained).identity
    digest = hashlib.sha256()
    for name in (tower.model, tower.pretrained):
        digest.update(hashlib.sha256(_local_file(folder, name).read_bytes()).digest())
    return f'sha256:{digest.hexdigest()}'


def _local_file(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise ValueError(f'text tower: expected the file {path}, which does not exist; put it '
                         'beside the checkpoint, or name another tower')
    return path


@dataclass(frozen=True)
class TextEmbeddings:
    """rows: (N, D) float32 unit rows; truncated: (N,) bool, prompts longer than the context."""

    rows: np.ndarray
    truncated: np.ndarray


class TextEncoder(Protocol):
    """Anything that embeds prompts."""

    width: int

    def encode(self, prompts: Sequence[str]) -> TextEmbeddings:
        """Embed N prompts."""
