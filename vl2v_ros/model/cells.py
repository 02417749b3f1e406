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
    embedding before it is normalised. With an MLP it is only near that.
    """

    def __init__(self, student: Student) -> None:
        """
        Copy a student, in evaluation mode, and take its pooling out.

        :raises ValueError: if its backbone ends in no map, as a transformer does.
        """
        super().__init__()
        self.student = copy.deepcopy(student).eval()
        self.student.backbone.reset_classifier(0, '')
        size = student.spec.image_size
        with torch.inference_mode():
            made = self.student.features(next(self.student.parameters()).new_zeros(
                1, 3, size, size))
        if made.ndim != 4 or made.shape[1] != student.num_features:
            raise ValueError(
                f'{student.spec.backbone}: expected a backbone whose last features are a map, '
                f'(B, {student.num_features}, h, w), got {tuple(made.shape)}; take a student with '
                'a convolutional backbone for maps and boxes')

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed (B, 3, H, W) RGB in [0, 1] as (B, h, w, D) unit rows, h and w by the stride."""
        features: torch.Tensor = self.student.features(images)
        return functional.normalize(self.student.projector(features.permute(0, 2, 3, 1)), dim=-1)
