"""
Memory: the backbone's own classifier, so that the student does not forget its classes.

A backbone with ImageNet weights has a classifier. Its scores over the K classes are soft labels
for any image (term `keep`; Li and Hoiem, Learning without Forgetting, ECCV 2016). A row of its
weights is the direction of a class in feature space. Features of any image, moved along such a
row, replace an image of that class, of which there may be none (term `stand_in`).
"""
from collections.abc import Sequence
import copy
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
import torch
from torch import nn
from training.learning.loss_inputs import Recalled
from training.learning.trainee import Trainee
from vl2v_ros.files import one_line

MARGIN = 4.0, 12.0  # lead of a stand-in's class over all others, range of the logits
FADE = 0.7  # smallest factor of the image's own features in a stand-in
SPREAD = 0.75, -0.5  # scale and shift of the classifier's outputs as hidden units of a projector


class Memory(nn.Module):
    """A frozen copy of a backbone, its classifier, and the prototypes of its K classes."""

    backbone: Any  # as the student's
    mean: torch.Tensor
    std: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    prototypes: torch.Tensor

    def __init__(self, trainee: Trainee, weights: Path, prototypes: torch.Tensor) -> None:
        """
        Copy the backbone, and read its classifier.

        :param weights: the file that the backbone was read from (*.safetensors).
        :param prototypes: (K, D) of the classes, in the classifier's order.
        :raises ValueError: for a file without a classifier, or with another number of classes.
        """
        super().__init__()
        self.backbone = copy.deepcopy(trainee.student.backbone)
        mean, std = trainee.student.mean, trainee.student.std
        weight, bias = read_classifier(weights, trainee.student.num_features, len(prototypes))
        for name, value in (('mean', mean), ('std', std), ('weight', weight), ('bias', bias),
                            ('prototypes', prototypes)):
            self.register_buffer(name, value.clone(), persistent=False)
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return (B, F) features of (B, 3, S, S) RGB in [0, 1]."""
        return self.backbone((images - self.mean) / self.std).float()

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        """Return (B, K) probabilities of the classes."""
        return torch.softmax(features @ self.weight.T + self.bias, dim=1)

    def stand_ins(self, features: torch.Tensor) -> torch.Tensor:
        """Return (B, F) features like those of images of randomly drawn classes."""
        drawn = torch.randint(len(self.weight), (len(features),), device=features.device)
        logits = features @ self.weight.T + self.bias  # (B, K)
        low, high = MARGIN
        lead = low + (high - low) * torch.rand(len(features), device=features.device)
        step = (logits.amax(1) - logits.gather(1, drawn[:, None])[:, 0] + lead)[:, None]
        towards = self.weight[drawn] / self.weight[drawn].square().sum(1, keepdim=True)
        fade = FADE + (1 - FADE) * torch.rand(len(features), 1, device=features.device)
        return (fade * features + step * towards).clamp_min(0)  # as after a ReLU


def read_classifier(path: Path, features: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Return the classifier's weight (K, F) and bias (K,) of a file of timm's weights.

    :raises ValueError: if there is none of this size.
    """
    try:
        content = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f'student.weights: {path}: expected a *.safetensors file '
                         f'({one_line(error)})') from error
    found = [(content[f'{name}.weight'].float(), content[f'{name}.bias'].float())
             for name in ('classifier', 'fc', 'head', 'head.fc')
             if {f'{name}.weight', f'{name}.bias'} <= content.keys()]
    if not found or found[0][0].shape != (classes, features):
        raise ValueError(f'student.classes: expected a classifier of {classes} classes over '
                         f'{features} features in {path}, found '
                         f'{tuple(found[0][0].shape) if found else "none"}; use the complete '
                         'weights file, and its list of classes')
    return found[0]


def remember(trainee: Trainee, memory: Memory) -> None:
    """Let the first hidden units of an MLP projector be the classifier's outputs."""
    projector = trainee.student.projector
    assert isinstance(projector, nn.Sequential), projector
    hidden = projector[0]
    assert isinstance(hidden, nn.Linear), hidden
    count = min(len(memory.weight), len(hidden.weight))
    scale, shift = SPREAD
    with torch.no_grad():
        hidden.weight[:count] = scale * memory.weight[:count]
        hidden.bias[:count] = scale * memory.bias[:count] + shift


def prototypes_of(classes: Sequence[str], names: Sequence[str], rows: torch.Tensor
                  ) -> torch.Tensor:
    """Return the (K, D) prototypes of classes: their rows among those of `names`."""
    numbers = {name: number for number, name in enumerate(names)}
    return rows[[numbers[name] for name in classes]]


def recall(memory: Memory, model: nn.Module, features: torch.Tensor, images: torch.Tensor | None,
           with_stand_ins: bool) -> tuple[torch.Tensor, Recalled]:
    """
    Return the (B, D) embeddings of a batch, and the classifier's outputs for it.

    :param model: the trainee.
    :param features: (B, F), from `memory.features` for the images.
    :param images: the images; None: the backbone is unchanged, so `features` are also its own.
    :param with_stand_ins: also embed stand-ins for other classes.
    """
    more = memory.stand_ins(features) if with_stand_ins else features[:0]
    if images is None:
        rows, _ = model(None, torch.cat([features, more]))
    else:
        rows, _ = model(images, more)
    embeddings, stand_ins = rows.split([len(features), len(more)])
    return embeddings, Recalled(memory.scores(features), memory.prototypes, stand_ins,
                                memory.scores(more))
