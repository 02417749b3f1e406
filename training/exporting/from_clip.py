"""Any open_clip model as a student, without distillation: both of its towers and its settings."""
from dataclasses import replace
import difflib
import logging
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import open_clip
from PIL import Image
from timm.utils.model import reparameterize_model
import torch
from torch.nn import functional
from training.exporting.licences import find as find_licence
from vl2v_ros.files import one_line
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.preprocess import preprocess
from vl2v_ros.model import checkpoint
from vl2v_ros.model.image_tower import AS_USED
from vl2v_ros.model.runtime.pictures import scene
from vl2v_ros.model.spec import StudentSpec
from vl2v_ros.model.student import Student
from vl2v_ros.words import open_clip_models
from vl2v_ros.words.clip_text import load_clip, open_clip_config, PREPROCESSING, write_text
from vl2v_ros.words.encoder import TextTower

LARGEST_DIFFERENCE = 1e-4  # of a component of an embedding, between open_clip and the student
FRAME = 480, 640  # (H, W) of the frames that are compared [px]


class Source(NamedTuple):
    """
    A model of open_clip with its weights.

    config: what open_clip builds it from.
    tower: its text tower on the hub; None: its weights are a file.
    repository: of its weights, on the hub; '': not known.
    """

    name: str
    model: Any
    config: dict[str, Any]
    tower: TextTower | None
    repository: str


def export(name: str, pretrained: str, path: Path, like: str = '') -> list[str]:
    """
    Write an open_clip model as a checkpoint, atomically, if it embeds as open_clip does.

    :param name: a model name of open_clip.
    :param pretrained: a pretrained tag of it, or a file of weights. Of a file the text tower is
        written beside the checkpoint, too.
    :param like: with a file: the pretrained tag whose settings it needs.
    :return: what was done, for people.
    :raises ValueError: for names, weights and settings that do not fit, and if the embeddings
        differ; nothing is written then.
    :raises OSError: if a file cannot be written.
    """
    file = Path(pretrained).expanduser()
    source = _of_file(name, file, like) if file.is_file() else _of_tag(name, pretrained)
    student, said = to_student(source)
    difference = compare(student, source.model)
    if not difference <= LARGEST_DIFFERENCE:  # written so that NaN fails
        raise ValueError(f'{name}: expected what open_clip computes within '
                         f'{LARGEST_DIFFERENCE:g}, got a difference of {difference:.3g}; '
                         f'{path} was not written')
    tower = source.tower or write_text(source.model, source.config, path.parent,
                                       f'{path.stem}_text')
    student.spec = replace(student.spec, text_tower=tower)
    checkpoint.save(student, path)
    millions = sum(weight.numel() for weight in student.parameters()) / 1e6
    return [f'{path}: {name}, {millions:.1f} million weights, {student.spec.image_size} px, '
            f'{student.spec.resize_mode}; largest difference from open_clip {difference:.1e} (at '
            f'most {LARGEST_DIFFERENCE:g})', *said]


def _of_tag(name: str, tag: str) -> Source:
    try:
        found = open_clip_models.find(name, tag)
    except ValueError as error:
        raise ValueError(f'{error}; or name a file of weights' if tag else
                         f'{error}; name one with --pretrained') from error
    tower = TextTower(found.name, found.tag, found.identity)
    return Source(found.name, load_clip(tower, Path(), True), open_clip_config(tower), tower,
                  found.weights.rpartition('/')[0])


def _of_file(name: str, file: Path, like: str) -> Source:
    plain = name.removesuffix(open_clip_models.QUICK)
    config = open_clip.get_model_config(name)
    if config is None:
        near = difflib.get_close_matches(name, open_clip.list_models(), 3)
        raise ValueError(f'expected a model name of open_clip, got {name!r}; near it: '
                         f'{", ".join(near) or "nothing"}')
    about = _settings(plain, like)
    if like:
        config['quick_gelu'] = about.get('quick_gelu', False) or config.get('quick_gelu', False)
    images = {key: about[key] for key in PREPROCESSING if key in about}
    try:
        logging.disable(logging.WARNING)
        model = open_clip.create_model(name, str(file), force_preprocess_cfg=images,
                                       force_quick_gelu=config.get('quick_gelu', False)).eval()
    # What is in the file, and which packages its text tower needs, is open.
    except Exception as error:  # noqa: BLE001
        raise ValueError(f'{name}: {file} could not be loaded as its weights: '
                         f'{one_line(repr(error))}') from error
    finally:
        logging.disable(logging.NOTSET)
    return Source(name, model, config, None, about.get('hf_hub', '').rpartition('/')[0]
                  if like else '')


def _settings(name: str, like: str) -> dict[str, Any]:
    """Return the settings of a model's weights in a file: those of `like`, or of all its tags."""
    known = {tag: open_clip.get_pretrained_cfg(name, tag)
             for tag in open_clip.list_pretrained_tags_by_model(name)}
    if like and like not in known:
        raise ValueError(f'--like: expected a pretrained tag of {name}, one of '
                         f'{", ".join(known) or "none"}, got {like!r}')
    kinds: dict[str, list[str]] = {}
    for tag, about in known.items():
        kinds.setdefault(str([about.get(key) for key in PREPROCESSING]), []).append(tag)
    if not like and len(kinds) > 1:
        raise ValueError(f'{name}: weights of its tags need different images: '
                         f'{" or ".join(", ".join(tags) for tags in kinds.values())}; name the '
                         'one that yours are like with --like TAG')
    return known[like] if like else next(iter(known.values()), {})


def to_student(source: Source) -> tuple[Student, list[str]]:
    """Return a student with a model's image tower; its text tower is yet to be named."""
    model, name = source.model, source.name
    images = open_clip.get_model_preprocess_cfg(model)
    size = images['size']
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) > 1:
        raise ValueError(f'{name}: expected a model for square images, got one for {size} px')
    if images['resize_mode'] == 'longest':
        raise ValueError(f'{name}: its images are padded to squares (resize_mode longest), which '
                         'a student cannot do; expected shortest or squash')
    kind = 'bilinear' if images['interpolation'] == 'bilinear' else 'bicubic'
    licence = find_licence(source.repository) if source.repository else None
    scale = float(model.logit_scale.detach().exp())
    said = [f'licence of the weights: {licence.name}; {licence.says}' if licence else
            'licence of the weights: not known of a file; read it before you ship a robot']
    if licence and licence.robots is False:
        said[0] = f'WARNING: {said[0]}'
    if model.logit_bias is not None:
        middle = -float(model.logit_bias.detach()) / scale
        said.append('it was trained for a sigmoid per label; here its scores are a softmax over '
                    f'the labels. Its sigmoid is 0.5 at a similarity of {middle:.3f}')
    vision = source.config['vision_cfg']
    spec = StudentSpec(
        name, source.config['embed_dim'], sides.pop(), TextTower('', ''),
        tuple(images['mean']), tuple(images['std']),
        resize_mode=f'{images["resize_mode"]} {kind}',
        temperature=1 / scale if math.isfinite(scale) else 0,
        teacher=source.tower.identity if source.tower else name,
        licence=licence.name if licence else '',
        image_tower={'vision_cfg': {**vision, **AS_USED},
                     'quick_gelu': bool(source.config.get('quick_gelu', False))})
    student = Student(spec).eval()
    student.backbone.load_state_dict(reparameterize_model(model.visual).state_dict())
    return student, said


def compare(student: Student, model: Any) -> float:
    """Return the largest difference of embeddings, from frames on; each resizes them itself."""
    images = open_clip.get_model_preprocess_cfg(model)
    prepare = open_clip.image_transform(
        images['size'], False, images['mean'], images['std'], images['resize_mode'],
        images['interpolation'])
    rng = np.random.default_rng(0)
    height, width = FRAME
    frames = [scene(width, rng)[:height].clip(0, 255).astype(np.uint8) for _ in range(2)]
    spec = student.spec
    try:
        with torch.inference_mode():
            wanted = functional.normalize(model.encode_image(torch.stack(
                [prepare(Image.fromarray(frame)) for frame in frames])), dim=-1)
            found = student(preprocess([Frame(frame) for frame in frames], spec.image_size,
                                       spec.resize_mode))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f'{spec.backbone}: open_clip {open_clip.__version__} cannot run it on '
                         f'images of {spec.image_size} px: {one_line(error)}') from error
    return float((wanted - found).abs().max())
