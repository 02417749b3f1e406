"""
Models that open_clip lists: how their weights were trained, found without loading them.

open_clip builds 'ViT-L-14' without QuickGELU for any weights, and only warns if they were trained
with it; the embeddings are then wrong. Here the pretrained tag decides, whether or not the name
ends in '-quickgelu'.
"""
from dataclasses import dataclass

QUICK = '-quickgelu'  # ending of open_clip's names of the same architecture with QuickGELU


@dataclass(frozen=True)
class OpenClipModel:
    """
    A model of open_clip's list, built as its weights need it.

    name: name of the architecture, without '-quickgelu'.
    tag: the pretrained tag.
    quick_gelu: whether to build it with QuickGELU (towers of timm and Hugging Face keep their own
    activation).
    identity: key of its embeddings in caches; one for all names of the same model.
    width: D.
    image_size: side S, or height and width, of its images [px].
    mean, std: of RGB in [0, 1].
    weights: the repository on the hub, and after its last slash the file, '' for the usual one.
    """

    name: str
    tag: str
    quick_gelu: bool
    identity: str
    width: int
    image_size: int | tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: str


def find(name: str, tag: str) -> OpenClipModel:
    """
    Find a model by its name and pretrained tag.

    If the tag does not mention QuickGELU, the activation of the architecture is used.

    :raises ValueError: for a name or tag that open_clip does not list, naming the known tags.
    """
    import open_clip  # here: it costs seconds
    plain = name.removesuffix(QUICK)
    if not {name, plain} <= set(open_clip.list_models()):
        raise ValueError(f'text tower: expected a model name of open_clip or a local config '
                         f'(*.json), got {name!r}; open_clip.list_models() lists the names')
    tags = open_clip.list_pretrained_tags_by_model(plain)
    if tag not in tags:
        raise ValueError(f'text tower {name}: expected a pretrained tag of {tags}, got {tag!r}')
    config, about = open_clip.get_model_config(plain), open_clip.get_pretrained_cfg(plain, tag)
    wanted, own = about.get('quick_gelu', False), config.get('quick_gelu', False)
    size = config['vision_cfg'].get('image_size', 224)
    return OpenClipModel(
        plain, tag, wanted or own, f'{plain}{QUICK if wanted and not own else ""}/{tag}',
        config['embed_dim'], size if isinstance(size, int) else tuple(size),
        tuple(about['mean']), tuple(about['std']), about['hf_hub'])


def create(model: OpenClipModel, **options: object) -> object:
    """
    Build a model with its weights, both towers with the activation that the weights need.

    :param options: further options of open_clip.create_model.
    """
    import open_clip
    return open_clip.create_model(model.name, **{
        'pretrained': model.tag, 'force_quick_gelu': model.quick_gelu, **options}).eval()
