"""Text towers: prompts -> unit embeddings."""
from collections.abc import Sequence
from dataclasses import replace
import json
import logging
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from vl2v_ros.files import one_line, replacing
from vl2v_ros.words import hub, open_clip_models
from vl2v_ros.words.encoder import _local_file, HUB_CONFIG, identify, TextEmbeddings, TextTower

# open_clip is imported only when a text tower is loaded: it costs seconds of a robot's start, and
# is not needed if every prompt is cached.

BATCH = 64  # prompts per pass; each pass is cached at once
PREPROCESSING = ('mean', 'std', 'interpolation', 'resize_mode')  # image settings of a tag
# Entries of a config that say what a text tower is; and an image tower that costs nothing.
TEXT = ('embed_dim', 'text_cfg', 'quick_gelu', 'custom_text', 'init_logit_bias')
NO_IMAGES = {'image_size': 32, 'layers': 1, 'width': 64, 'patch_size': 32}


class ClipText:
    """The text tower of an open_clip model, on the CPU, without the image tower."""

    def __init__(self, tower: TextTower, folder: Path = Path('.'), model: Any = None) -> None:
        """
        Load the text tower.

        :param folder: folder of local files.
        :param model: the model that `load_clip` returned, used on its device; None: load it.
        :raises hub.NotAtHand: if the weights must be downloaded and cannot be.
        :raises ValueError: for names, files or weights that do not fit.
        """
        import open_clip
        self._model = model or load_clip(tower, folder)
        name = _open_clip_name(tower, folder)
        try:
            self._tokenizer = open_clip.get_tokenizer(name)
        except Exception as error:  # as in _load_hub; some tokenizers also need transformers
            raise ValueError(f'text tower {tower.model}: its tokenizer could not be loaded '
                             f'({type(error).__name__}: {error}); install the package that it '
                             'needs, and connect once to the network') from error
        self.width = open_clip.get_model_config(name)['embed_dim']
        if model is None:
            del self._model.visual

    def encode(self, prompts: Sequence[str]) -> TextEmbeddings:
        """Embed N prompts; those longer than the context (77 tokens in CLIP) are cut."""
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


def load_clip(tower: TextTower, folder: Path, images: bool = False) -> Any:
    """
    Load a whole open_clip model, in evaluation mode, in float32, on the CPU.

    open_clip draws random weights first. That takes a second and is left so: a training goes on
    from the random state after it, so the students of all recipes would change.

    :param folder: folder of local files.
    :param images: whether the image tower is needed; if not, the weights file may lack it.
    :raises ValueError: as ClipText does.
    """
    return _load_local(tower, folder, images) if tower.is_local else _load_hub(tower)


def _open_clip_name(tower: TextTower, folder: Path) -> str:
    """Return open_clip's name of a model; a local config must have been added before."""
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
                         f'({type(error).__name__}: {error}); delete the file, so that it is '
                         'downloaded again') from error


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
            model = open_clip.create_model(_open_clip_name(tower, folder), load_weights=False,
                                           pretrained_hf=False)
        finally:
            logging.disable(logging.NOTSET)
        state = open_clip.factory.load_state_dict(str(weights), weights_only=True)
        missing, unexpected = model.load_state_dict(state, strict=False)
    # A config that is not one leads open_clip into errors of any kind.
    except (RuntimeError, LookupError, ValueError, OSError, TypeError, EOFError, AttributeError,
            AssertionError, ArithmeticError, UnpicklingError, SafetensorError) as error:
        raise ValueError(f'text tower: {weights} does not fit {config}: '
                         f'{one_line(error)}') from error
    wrong = [key for key in missing if images or not key.startswith('visual.')] + list(unexpected)
    if wrong:
        raise ValueError(f'text tower: {weights} does not fit {config}: missing or unexpected '
                         f'weights {wrong[:4]}')
    return model.eval()


def write_text(model: Any, config: dict[str, Any], folder: Path, stem: str) -> TextTower:
    """
    Write the text tower of an open_clip model as local files, without its image tower.

    :param config: what open_clip builds the model from.
    :return: the text tower of the files STEM.json and STEM.safetensors.
    :raises OSError: if they cannot be written.
    """
    import open_clip
    from safetensors.torch import save
    kept = {name: config[name] for name in TEXT if name in config} | {'vision_cfg': NO_IMAGES}
    if not isinstance(model, open_clip.CLIP):  # nor is one with a decoder of captions, after this
        kept |= {'custom_text': True, 'text_cfg': {**config['text_cfg'], 'output_tokens': False}}
    state = {name: weight.contiguous() for name, weight in model.state_dict().items()
             if not name.startswith(('visual.', 'text_decoder.'))}
    tower = TextTower(f'{stem}.json', f'{stem}.safetensors')
    for name, content in ((tower.pretrained, save(state)),
                          (tower.model, json.dumps(kept, indent=1).encode())):
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content)
    return replace(tower, identity=identify(tower, folder))


def open_clip_config(tower: TextTower) -> dict[str, Any]:
    """Return what open_clip builds a model of its list from, with the activation of its tag."""
    import open_clip
    model = open_clip_models.find(tower.model, tower.pretrained)
    return {**open_clip.get_model_config(model.name), 'quick_gelu': model.quick_gelu}
