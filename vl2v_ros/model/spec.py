"""StudentSpec: the specification of a student in its checkpoint; read without torch."""
from collections.abc import Mapping
from dataclasses import dataclass, field
import math
from typing import Any, NamedTuple

from vl2v_ros.checks import check_ranges
from vl2v_ros.images import open_clip_resize, preprocess
from vl2v_ros.words.encoder import TextTower

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PROJECTORS = ('linear', 'mlp')
RESIZE_MODES = preprocess.RESIZE_MODES + open_clip_resize.MODES
TOWER = {'vision_cfg': dict, 'quick_gelu': bool}  # the entries of an image tower


@dataclass(frozen=True)
class StudentSpec:
    """
    All that is needed to build and use a student, except its weights.

    backbone: timm model name; of an open_clip model, its name there, for people.
    width: D of the embeddings, equal to that of the text tower.
    image_size: side S of the input [px].
    mean, std: per RGB channel, of pixels in [0, 1].
    projector: 'linear', or 'mlp' with one hidden layer.
    resize_mode: 'shortest' crops the centred square, 'squash' keeps the whole frame; with
    ' bicubic' or ' bilinear' behind it as open_clip resizes, see open_clip_resize.py.
    temperature: score = softmax(similarity / temperature) over the labels.
    unknown_threshold: cosine similarity of the best label below which a frame is unknown.
    text_tower: the text tower in whose embedding space the student was trained.
    templates: for vocabularies without templates of their own, see vocabulary.build.
    presence: two templates, that a label is in the image and that it is not; the student was
    trained so that softmax(similarity / temperature) over both is the label's presence in an image
    of many things. Empty: it was not.
    presence_line: (a, b, c), how the maps of this student tell presence, see model/presence.py; it
    is calibrated by naming.py. The default takes the highest value of a map as it is.
    image_tower: of an open_clip model, what open_clip builds its image tower from: `vision_cfg`
    and `quick_gelu`; it has no projector. Empty: backbone and projector.
    teacher, trained_on, licence (of the weights): information for people.
    """

    backbone: str
    width: int
    image_size: int
    text_tower: TextTower
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    projector: str = 'linear'
    resize_mode: str = 'shortest'
    temperature: float = 0.07
    unknown_threshold: float = 0.0
    templates: tuple[str, ...] = ('a photo of a {label}. {description}',)
    presence: tuple[str, ...] = ()
    presence_line: tuple[float, float, float] = (1.0, 0.0, 0.0)
    teacher: str = ''
    trained_on: str = ''
    licence: str = ''
    image_tower: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check ranges; raises ValueError that names the field."""
        for name in ('mean', 'std', 'presence_line'):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
            if len(getattr(self, name)) != 3:
                raise ValueError(f'{name}: expected 3 numbers, got {getattr(self, name)}')
        for name in ('templates', 'presence'):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ('width', 'image_size'):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f'{name}: expected an integer, got {getattr(self, name)!r}')
        check_ranges(self, (
            ('width', self.width >= 1, 'at least 1'),
            ('image_size', self.image_size >= 1, 'at least 1 [px]'),
            ('mean', all(map(math.isfinite, self.mean)), 'finite numbers'),
            ('std', all(0 < value < math.inf for value in self.std), 'positive numbers'),
            ('presence_line', all(map(math.isfinite, self.presence_line)), 'finite numbers'),
            ('projector', self.projector in PROJECTORS, f'one of {PROJECTORS}'),
            ('resize_mode', self.resize_mode in RESIZE_MODES, f'one of {RESIZE_MODES}'),
            ('temperature', 0 < self.temperature < math.inf, 'a positive number'),
            ('templates', self.templates and all('{label}' in one for one in self.templates),
             'at least one text with the place {label}'),
            ('presence', len(self.presence) in (0, 2)
             and all('{label}' in one for one in self.presence),
             'no text, or two with the place {label}'),
            ('image_tower', isinstance(self.image_tower, Mapping) and all(
                isinstance(value, TOWER.get(name, ()))
                for name, value in self.image_tower.items()),
             f'only the entries {", ".join(TOWER)} of an open_clip config'),
            ('unknown_threshold', -1 <= self.unknown_threshold <= 1, 'a cosine in [-1, 1]'),
        ))


class Graph(NamedTuple):
    """
    A student as OpenVINO's two files: (B, S, S, 3) uint8 RGB in, (B, D) float32 unit rows out.

    It is valid only for the weights from which it was made.
    """

    xml: bytes
    bin: bytes
