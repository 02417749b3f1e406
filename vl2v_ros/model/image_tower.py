"""The image towers of open_clip's models, built from their configs, without the text towers."""
from typing import Any

import timm
from timm.utils.model import reparameterize_model
from torch import nn
from vl2v_ros.files import brief, one_line
from vl2v_ros.model.spec import StudentSpec

# open_clip builds models with both towers alone; this text tower is thrown away.
NO_TEXT = {'context_length': 1, 'vocab_size': 1, 'width': 8, 'heads': 1, 'layers': 1}
# What a config says of training, of weights to download, and of outputs beside the embedding.
AS_USED = {'timm_model_pretrained': False, 'patch_dropout': 0.0, 'output_tokens': False}
LARGEST = 10_000  # number in a config; beyond it a file is damaged, or meant to fill the memory


def build(spec: StudentSpec) -> nn.Module:
    """
    Build the image tower of a spec with random weights, (B, 3, S, S) normalised -> (B, D).

    What is needed for training alone, such as the parallel branches of MobileCLIP, is fused.

    :raises ValueError: for a config that open_clip cannot build.
    """
    import open_clip  # here: it costs seconds
    config = dict(spec.image_tower['vision_cfg']) if 'vision_cfg' in spec.image_tower else {}
    if bad := [name for name, value in config.items() if _largest(value) > LARGEST]:
        raise ValueError(f'image_tower: expected numbers of at most {LARGEST}, got more in {bad}')
    name = config.get('timm_model_name') or 'test_vit'
    if not isinstance(name, str) or not timm.is_model(name):  # such as one on the hub, to download
        raise ValueError(f'image_tower: expected the name of a timm model, got {brief(name)}')
    try:
        model = open_clip.CustomTextCLIP(
            spec.width, {**config, **AS_USED}, NO_TEXT,
            quick_gelu=spec.image_tower.get('quick_gelu', False))
        return reparameterize_model(model.visual, inplace=True)
    # A config that is not one leads open_clip and timm into errors of any kind.
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError, AssertionError,
            ArithmeticError) as error:
        raise ValueError(f'image_tower: expected a vision_cfg that open_clip '
                         f'{open_clip.__version__} can build, got {one_line(config)}: '
                         f'{one_line(repr(error))}; update open_clip_torch and timm, or export '
                         'the student again') from error


def _largest(value: Any) -> float:
    """Return the largest number in a value of a config, 0 if there is none."""
    if isinstance(value, (list, tuple)):
        return max(map(_largest, value), default=0)
    return abs(value) if isinstance(value, (int, float)) else 0
