"""Cells: a student without its pooling, which embeds each cell of an image by itself."""
import copy

import torch
from torch import nn
from torch.nn import functional
from vl2v_ros.model.student import Student


class Cells(nn.Module):
    """
    A copy of a student that projects each cell of its last feature map.

    With a linear projector, the mean of the cells, before they are normalised, is the image's
    embedding before it is normalised. With an MLP, or a norm after the pooling, it is only near
    that.
    """

    def __init__(self, student: Student) -> None:
        """
        Copy a student, in evaluation mode, and take its pooling out.

        :raises ValueError: if its backbone ends in no map, as a transformer does.
        """
        super().__init__()
        self.student = copy.deepcopy(student).eval()
        spec, width, shape = student.spec, student.num_features, None
        # An open_clip model with timm's network in it; its head is applied to each cell.
        self.trunk = getattr(self.student.backbone, 'trunk', None) if spec.image_tower else None
        if not spec.image_tower:
            self.student.backbone.reset_classifier(0, '')
        elif self.trunk is not None:
            width = self.trunk.num_features
        if self.trunk is not None or not spec.image_tower:
            size, weight = spec.image_size, next(self.student.parameters())
            with torch.inference_mode():
                shape = tuple(self._map(weight.new_zeros(1, 3, size, size)).shape)
        if shape is None or len(shape) != 4 or shape[1] != width:
            raise ValueError(
                f'{spec.backbone}: expected a backbone whose last features are a map, '
                f'(B, {width}, h, w), got {shape or "none"}; take a student with '
                'a convolutional backbone for maps and boxes')

    def _map(self, images: torch.Tensor) -> torch.Tensor:
        """Return the last (B, F, h, w) features."""
        if self.trunk is None:
            return self.student.features(images)
        features: torch.Tensor = self.trunk.forward_features(
            (images - self.student.mean) / self.student.std)
        return features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed (B, 3, H, W) RGB in [0, 1] as (B, h, w, D) unit rows, h and w by the stride."""
        features = self._map(images)
        cells = features.permute(0, 2, 3, 1)
        if self.trunk is None:
            return functional.normalize(self.student.projector(cells), dim=-1)
        batch, width, height, length = features.shape
        rows = self.student.backbone.head(self.trunk.forward_head(
            cells.reshape(-1, width, 1, 1)))  # each cell as an image of one cell
        return functional.normalize(rows.reshape(batch, height, length, -1), dim=-1)
