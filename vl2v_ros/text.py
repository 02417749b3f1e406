"""Text towers: prompts -> unit embeddings."""
from collections.abc import Sequence
from dataclasses import dataclass
import hashlib
import json
import logging
from pathlib import Path
from pickle import UnpicklingError
from typing import Protocol

import numpy as np
from vl2v_ros import hub, open_clip_models

# open_clip is imported only when a tower is really loaded: it costs seconds of a robot's start,
# and with every prompt cached it is not needed at all.

BATCH = 64  # prompts per pass; what is encoded is stored after each
HUB_CONFIG = 'open_clip_config.json'  # as open_clip's models lie in a folder of their hub
PREPROCESSING = ('mean', 'std', 'interpolation', 'resize_mode')  # of images, in a tag's settings


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


class ClipText:
    """The text tower of an open_clip model; on the CPU, and the image tower is let go."""

    def __init__(self, tower: TextTower, folder: Path = Path('.'), model: object = None) -> None:
        """
        Load the tower.

        :param folder: where local files are looked up.
        :param model: what `load_clip` returned for them, used as it is and where it is; None:
            loaded here.
        :raises hub.NotAtHand: if the weights would have to be fetched, and cannot be.
        :raises ValueError: for names, files or weights that do not fit.
        """
        import open_clip
        self._model = model or load_clip(tower, folder)
        name = _open_clip_name(tower, folder)
        try:
            self._tokenizer = open_clip.get_tokenizer(name)
        except Exception as error:  # as in _load_hub; some tokenizers also need transformers
            raise ValueError(f'text tower {tower.model}: its tokenizer could not be loaded '
                             f'({type(error).__name__}: {error}); install what it needs, and '
                             'connect once to the network') from error
        self.width = open_clip.get_model_config(name)['embed_dim']
        if model is None:
            del self._model.visual

    def encode(self, prompts: Sequence[str]) -> TextEmbeddings:
        """Embed N prompts; what exceeds the tower's context (77 tokens in CLIP) is cut."""
        import torch
        context = self._tokenizer.context_length
        # One more place than the context holds: it is used only by prompts that are too long.
        longer = self._tokenizer(list(prompts), context_length=context + 1)
        inner = getattr(self._tokenizer, 'tokenizer', None)  # Hugging Face tokenizers pad with it
        truncated = longer[:, -1] != (getattr(inner, 'pad_token_id', 0) or 0)
        tokens = self._tokenizer(list(prompts), context_length=context)
        with torch.inference_mode():
            device = self._model.logit_scale.device
            rows = torch.cat([self._model.encode_text(part.to(device), normalize=True).float()
                              for part in tokens.split(BATCH)])
        return TextEmbeddings(rows.cpu().numpy(), truncated.numpy())


def load_clip(tower: TextTower, folder: Path, images: bool = False) -> object:
    """
    Load a whole open_clip model, in evaluation mode, in float32, on the CPU.

    :param folder: where local files are looked up.
    :param images: whether its image tower is needed; else a weights file may do without it.
    :raises ValueError: as ClipText does.
    """
    return _load_local(tower, folder, images) if tower.is_local else _load_hub(tower)


def _open_clip_name(tower: TextTower, folder: Path) -> str:
    """Return what open_clip calls a model; a local config must have been added."""
    if not tower.is_local:
        return tower.model
    path = folder / tower.model
    return f'local-dir:{path.parent}' if path.name == HUB_CONFIG else path.stem


def _load_hub(tower: TextTower) -> object:
    import open_clip
    model = open_clip_models.find(tower.model, tower.pretrained)
    if tower.identity not in ('', model.identity):
        raise ValueError(f'text tower: expected {tower.identity}, which the student was trained '
                         f'with, but the name {tower.model} and the tag {tower.pretrained} are '
                         f'{model.identity}; distil the student again')
    file = hub.find(model)
    settings = open_clip.get_pretrained_cfg(model.name, model.tag)
    images = {key: settings[key] for key in PREPROCESSING if key in settings}
    try:  # from the file, because by its tag open_clip would ask the hub again
        return open_clip_models.create(model, pretrained=str(file), force_preprocess_cfg=images)
    except Exception as error:  # of torch, safetensors or open_clip: what is in the file is open
        raise ValueError(f'text tower {model.identity}: its weights {file} could not be loaded '
                         f'({type(error).__name__}: {error}); delete them, so that they are '
                         'fetched again') from error


def _load_local(tower: TextTower, folder: Path, images: bool) -> object:
    import open_clip
    from safetensors import SafetensorError
    config = _local_file(folder, tower.model)
    weights = _local_file(folder, tower.pretrained)
    if tower.identity and tower.identity != identify(tower, folder):
        raise ValueError(f'text tower: expected the files {config} and {weights} the student was '
                         'trained with, but their digest differs; restore the original files')
    try:
        json.loads(config.read_text())  # once added, a damaged one would make all later ones fail
        if config.name != HUB_CONFIG:
            open_clip.add_model_config(config)
        logging.disable(logging.WARNING)  # it warns of random weights, which are replaced below
        try:
            model = open_clip.create_model(_open_clip_name(tower, folder), load_weights=False)
        finally:
            logging.disable(logging.NOTSET)
        state = open_clip.factory.load_state_dict(str(weights), weights_only=True)
        missing, unexpected = model.load_state_dict(state, strict=False)
    except (RuntimeError, KeyError, ValueError, OSError, TypeError, EOFError, UnpicklingError,
            SafetensorError) as error:
        raise ValueError(f'text tower: {weights} does not fit {config}: {error}') from error
    wrong = [key for key in missing if images or not key.startswith('visual.')] + list(unexpected)
    if wrong:
        raise ValueError(f'text tower: {weights} does not fit {config}: missing or unexpected '
                         f'weights {wrong[:4]}')
    return model.eval()
