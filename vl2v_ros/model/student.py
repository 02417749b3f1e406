"""Student: timm backbone and projector into the teacher's image-text space, or an image tower."""
import difflib
from typing import Any

import timm
import torch
from torch import nn
from torch.nn import functional
from vl2v_ros.model import image_tower
from vl2v_ros.model.spec import Graph, StudentSpec


class Student(nn.Module):
    """Images in [0, 1] -> unit embeddings; owns its mean and std."""

    backbone: Any  # timm's model or open_clip's; torch's types do not know its fields
    projector: nn.Module
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, spec: StudentSpec) -> None:
        """Build with random weights; raises ValueError for a backbone that cannot be built."""
        super().__init__()
        self.spec = spec
        self.int8: Graph | None = None  # the student in 8 bits, which a CPU runs instead
        self.num_features: int = spec.width
        if spec.image_tower:
            self.backbone, self.projector = image_tower.build(spec), nn.Identity()
        else:
            self.backbone = _backbone(spec)
            width = self.backbone.num_features
            self.num_features = getattr(self.backbone, 'head_hidden_size', width) or width
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


def check_backbone(name: str) -> None:
    """Raise ValueError, with the nearest names, for a backbone that timm lacks."""
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise ValueError(f'expected the name of a timm model, got {name!r}; near it: '
                         f'{", ".join(near) or "nothing"}')


def _backbone(spec: StudentSpec) -> nn.Module:
    check_backbone(spec.backbone)
    known = timm.get_pretrained_cfg(spec.backbone)
    fixed = known is not None and known.fixed_input_size  # ViTs size their tokens by it
    size: dict[str, Any] = {'img_size': spec.image_size} if fixed else {}
    return timm.create_model(spec.backbone, pretrained=False, num_classes=0, **size)
