"""Text towers: where they are loaded from, and the protocol of all text encoders."""
from collections.abc import Sequence
from dataclasses import dataclass
import hashlib
from pathlib import Path
from typing import Protocol

import numpy as np
from vl2v_ros.words import open_clip_models

HUB_CONFIG = 'open_clip_config.json'  # name of the config in open_clip's folders on the hub


@dataclass(frozen=True)
class TextTower:
    """
    The source of a text tower, as written into a checkpoint.

    model: an open_clip model name, or a local open_clip config (*.json); a file with the name
    open_clip_config.json may also have the mean and std of images, as those from the hub do.
    pretrained: the pretrained tag of the name, or the weights file of the config (*.safetensors,
    *.pt).
    identity: key of its embeddings in caches, see `identify`.
    recording: recording of its answers, see recording.py; '': none.
    Paths of local files are relative to the folder of the checkpoint.
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
    Return the identity of a text tower: its name and tag, or the digest of its local files.

    The name shows whether the weights of the tag need QuickGELU, see open_clip_models.py.

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
