"""Student: timm backbone and projector into the teacher's image-text space."""
from dataclasses import dataclass
import difflib
import math
from typing import NamedTuple

import timm
import torch
from torch import nn
from torch.nn import functional
from vl2v_ros.preprocess import RESIZE_MODES
from vl2v_ros.text import TextTower

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PROJECTORS = ('linear', 'mlp')


@dataclass(frozen=True)
class StudentSpec:
    """
    All that is needed to rebuild and use a student beside its weights.

    backbone: timm model name.
    width: D, of the embeddings; equals the text tower's.
    image_size: side S of the input [px].
    mean, std: per RGB channel, of pixels in [0, 1].
    projector: 'linear', or 'mlp' with one hidden layer.
    resize_mode: 'shortest' crops the centred square, 'squash' keeps the whole frame.
    temperature: score = softmax(similarity / temperature) over the labels.
    unknown_threshold: best cosine similarity below which a frame shows none of the labels.
    text_tower: what made the prototypes this student was trained towards.
    teacher, trained_on: for people.
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
    teacher: str = ''
    trained_on: str = ''

    def __post_init__(self) -> None:
        """Check ranges; raises ValueError that names the field."""
        for name in ('mean', 'std'):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
            if len(getattr(self, name)) != 3:
                raise ValueError(f'{name}: expected 3 numbers, got {getattr(self, name)}')
        for name in ('width', 'image_size'):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f'{name}: expected an integer, got {getattr(self, name)!r}')
        for name, good, expected in (
            ('width', self.width >= 1, 'at least 1'),
            ('image_size', self.image_size >= 1, 'at least 1 [px]'),
            ('mean', all(map(math.isfinite, self.mean)), 'finite numbers'),
            ('std', all(0 < value < math.inf for value in self.std), 'positive numbers'),
            ('projector', self.projector in PROJECTORS, f'one of {PROJECTORS}'),
            ('resize_mode', self.resize_mode in RESIZE_MODES, f'one of {RESIZE_MODES}'),
            ('temperature', 0 < self.temperature < math.inf, 'a positive number'),
            ('unknown_threshold', -1 <= self.unknown_threshold <= 1, 'a cosine in [-1, 1]'),
        ):
            if not good:
                raise ValueError(f'{name}: expected {expected}, got {getattr(self, name)!r}')


class Int8(NamedTuple):
    """
    The same student in 8 bits, as OpenVINO's two files: (B, S, S, 3) uint8 in, (B, D) rows out.

    It belongs to the weights it was made from.
    """

    xml: bytes
    bin: bytes


class Student(nn.Module):
    """Images in [0, 1] -> unit embeddings; owns its mean and std."""

    def __init__(self, spec: StudentSpec) -> None:
        """Build with random weights; raises ValueError for a backbone that timm lacks."""
        super().__init__()
        self.spec = spec
        self.int8: Int8 | None = None  # what a CPU runs instead, if there is one
        self.backbone = _backbone(spec)
        width = self.backbone.num_features
        self.num_features: int = getattr(self.backbone, 'head_hidden_size', width) or width
        self.projector = _projector(spec, self.num_features)
        self.register_buffer('mean', torch.tensor(spec.mean).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(spec.std).view(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed (B, 3, S, S) RGB in [0, 1] as (B, D) unit rows."""
        return self.project(self.features(images))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the backbone's (B, F) features of (B, 3, S, S) RGB in [0, 1]."""
        return self.backbone((images - self.mean) / self.std)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """Return (B, D) unit rows for (B, F) features."""
        return functional.normalize(self.projector(features), dim=-1)


def _projector(spec: StudentSpec, features: int) -> nn.Module:
    if spec.projector == 'linear':
        return nn.Linear(features, spec.width)
    return nn.Sequential(nn.Linear(features, features), nn.GELU(), nn.Linear(features, spec.width))


def _backbone(spec: StudentSpec) -> nn.Module:
    if not timm.is_model(spec.backbone):
        near = difflib.get_close_matches(spec.backbone, timm.list_models(), n=3)
        raise ValueError(f'expected the name of a timm model, got {spec.backbone!r}; near it: '
                         f'{", ".join(near) or "nothing"}')
    fixed = timm.get_pretrained_cfg(spec.backbone).fixed_input_size  # ViTs size their tokens by it
    size = {'img_size': spec.image_size} if fixed else {}
    return timm.create_model(spec.backbone, pretrained=False, num_classes=0, **size)
