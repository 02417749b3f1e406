"""Trainee: the student of a recipe, ready to be trained, and which of its parts a stage trains."""
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import PYTORCH_WEIGHTS_NAME, SAFETENSORS_SINGLE_FILE
from lightning_fabric import Fabric
import numpy as np
import open_clip
from safetensors import SafetensorError
from safetensors.torch import load_file
import timm
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from training.data.image_index import Index
from training.data.images import Images
from training.recipe import StudentSource
from vl2v_ros.files import one_line
from vl2v_ros.images.frame import Frame
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime.matching import Runtime
from vl2v_ros.model.spec import StudentSpec
from vl2v_ros.model.student import Student
from vl2v_ros.words.hub import no_network
from vl2v_ros.words.network import explained

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
# Fields of a trained student's spec that the recipe must match, and fields that stay unchanged.
GOES_ON = 'backbone', 'width', 'image_size', 'mean', 'std', 'projector', 'resize_mode', 'templates'
KEPT = 'temperature', 'unknown_threshold', 'licence'


class Trainee(nn.Module):
    """A student, and the closed-set head of the baselines if it has one."""

    def __init__(self, student: Student, classes: int | None = None, dropout: float = 0.0
                 ) -> None:
        """
        Set up.

        :param classes: number of outputs of the closed-set head; None: no head.
        :param dropout: fraction of the features that is replaced by their mean over the batch
            while the projector learns.
        """
        super().__init__()
        self.student, self.dropout = student, dropout
        self.runtime: Runtime | None = None  # tests embed by it, if there is one
        self.head = None if classes is None else nn.Linear(student.num_features, classes)

    def forward(self, images: torch.Tensor | None, more: torch.Tensor | None = None
                ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Return (B, D) unit embeddings, and (B, C) logits if there is a head.

        :param images: (B, 3, S, S); None: embed only `more`.
        :param more: (M, F) features to embed as well, after those of the images.
        """
        features = more if images is None else self.student.features(images)  # (B, F)
        assert features is not None, 'expected images, features or both'
        if images is not None and more is not None:
            features = torch.cat([features, more.to(features.dtype)])
        if self.dropout and self.student.projector.training:
            mean = features.mean(0, keepdim=True).detach()
            features = mean + functional.dropout(features - mean, self.dropout)
        logits = None if self.head is None else self.head(features)  # (B, C)
        return self.student.project(features), logits


def open_device(name: str) -> torch.device:
    """Return the device of its name in a recipe; raises ValueError for a missing one."""
    try:
        return Fabric(accelerator=name, devices=1).device
    except (RuntimeError, ImportError) as error:
        raise ValueError(f'device: {error}') from error


@torch.inference_mode()
def outputs(trainee: Trainee, index: Index, batch: int = 128
            ) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the outputs for plain images: (N, D) embeddings, and (N, C) logits or None."""
    if trainee.runtime is not None:
        parts = np.split(np.arange(len(index)), range(batch, len(index), batch))
        rows = [trainee.runtime.embed([Frame(index.read(row)) for row in part]) for part in parts]
        return torch.from_numpy(np.concatenate(rows)), None
    spec, device = trainee.student.spec, next(trainee.parameters()).device
    loader = DataLoader(Images(index, spec.image_size, resize_mode=spec.resize_mode), batch)
    trainee.eval()
    embedded, logits = zip(*(trainee(sample.image.to(
        device, memory_format=torch.channels_last)) for sample in loader), strict=True)
    embeddings = torch.cat([part.float().cpu() for part in embedded])
    return embeddings, None if trainee.head is None else torch.cat(
        [part.float().cpu() for part in logits])


def train_part(trainee: Trainee, part: str, freeze_batch_norm: bool) -> None:
    """
    Let one part learn: 'all', 'backbone' or 'projector' (or the closed-set head).

    A backbone that does not learn runs in evaluation mode (VL2V's Align stage), and so do frozen
    batch norms: their statistics stay, scale and shift learn (as in DomainBed).
    """
    student = trainee.student
    backbone, projector = part in ('all', 'backbone'), part in ('all', 'projector')
    student.backbone.train(backbone).requires_grad_(backbone)
    for module in (student.projector, trainee.head):
        if module is not None:
            module.train(projector).requires_grad_(projector)
    if trainee.head is not None:  # the embedding is in no loss of a closed set
        student.projector.requires_grad_(False)
    if freeze_batch_norm:
        for module in student.backbone.modules():
            if isinstance(module, BATCH_NORMS):
                module.eval()


def mean_and_std(backbone: str) -> dict[str, tuple[float, ...]]:
    """Return mean and std of timm's weights of a backbone, as fields of StudentSpec."""
    known = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    return {} if known is None else {'mean': known.mean, 'std': known.std}


def build(source: StudentSource, spec: StudentSpec, classes: int | None,
          teacher_tower: nn.Module | None) -> Trainee:
    """
    Build a trainee with the first weights of a recipe.

    :param classes: number of classes of the closed-set head, None without one.
    :param teacher_tower: image tower of an open_clip teacher, for weights 'teacher'.
    :raises ValueError: for weights that do not fit the backbone, or are not available.
    """
    student = Student(spec)
    if source.weights == 'hub':
        _copy_hub(student, spec.backbone)
    elif source.weights == 'teacher':
        _copy_teacher(student, teacher_tower)
    elif source.weights and checkpoint.is_student(Path(source.weights)):
        _copy_student(student, Path(source.weights))
    elif source.weights:
        _copy_file(student, Path(source.weights))
    # Faster on a CPU, and what tensor cores like.
    return Trainee(student, classes, source.dropout).to(memory_format=torch.channels_last)


def check_hub(backbone: str) -> None:
    """
    Raise ValueError if timm's weights of a backbone are neither cached nor can be downloaded.

    Otherwise the hub's client would try for 50 s, and only after the teacher was asked.
    """
    config = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    if config is None or not config.hf_hub_id:
        return
    kept = [try_to_load_from_cache(config.hf_hub_id, name)
            for name in (SAFETENSORS_SINGLE_FILE, PYTORCH_WEIGHTS_NAME)]
    if not any(isinstance(path, str) for path in kept) and (reason := no_network()):
        raise ValueError(_no_hub(backbone, reason))


def _no_hub(backbone: str, reason: str) -> str:
    return (f"student.weights: timm's weights of {backbone} could not be loaded ({reason}); "
            "connect to the network, name a file with weights, or let it begin as its teacher "
            "('teacher')")


def _copy_hub(student: Student, backbone: str) -> None:
    fixed = student.backbone.pretrained_cfg.get('fixed_input_size')
    size: dict[str, Any] = {'img_size': student.spec.image_size} if fixed else {}
    try:
        pretrained = timm.create_model(backbone, pretrained=True, num_classes=0, **size)
    except Exception as error:  # whatever the hub's client raises
        raise ValueError(_no_hub(backbone, explained(error))) from error
    student.backbone.load_state_dict(pretrained.state_dict())


def _copy_file(student: Student, path: Path) -> None:
    classifier = student.backbone.pretrained_cfg.get('classifier') or ()
    unused = tuple(f'{name}.' for name in np.atleast_1d(classifier))  # files of the hub have it
    try:
        weights = {name: weight.float() for name, weight in load_file(path).items()
                   if not name.startswith(unused)}
        student.backbone.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(f'student.weights: {path} does not fit {student.spec.backbone}: expected '
                         f'a *.safetensors file with its weights ({one_line(error)})') from error


def _copy_student(student: Student, path: Path) -> None:
    """Copy the weights of a trained student; its calibrated values, licence and past stay."""
    try:
        first = checkpoint.load(path)
    except ValueError as error:
        raise ValueError(f'student.weights: {error}') from error
    for name in GOES_ON:
        found, wanted = getattr(first.spec, name), getattr(student.spec, name)
        if found != wanted:
            raise ValueError(f'student.weights: expected a student with {name} {wanted}, as the '
                             f'recipe says, found {found} in {path}; change the recipe')
    found, wanted = first.spec.text_tower.identity, student.spec.text_tower.identity
    if found != wanted:
        raise ValueError(f'student.weights: expected a student beside the text tower {wanted}, '
                         f'found one beside {found} in {path}; name its teacher in the recipe')
    student.load_state_dict(first.state_dict())
    past = f'; before: {first.spec.trained_on}' if first.spec.trained_on else ''
    student.spec = replace(
        student.spec, trained_on=student.spec.trained_on + past,
        **{name: getattr(first.spec, name) for name in KEPT})


def _copy_teacher(student: Student, tower: nn.Module | None) -> None:
    """Copy trunk and projection, so that the student starts as its teacher (VL2V-SD)."""
    head = getattr(getattr(tower, 'head', None), 'proj', None)
    if not isinstance(tower, open_clip.timm_model.TimmModel) or not isinstance(head, nn.Linear):
        raise ValueError("student.weights: 'teacher' needs an open_clip teacher whose image tower "
                         'is a timm model with a linear projection; for others, name the timm '
                         "model of the same weights (such as vit_base_patch16_clip_224.openai) "
                         "as backbone, with weights 'hub'")
    projector = student.projector
    if not isinstance(projector, nn.Linear):
        raise ValueError("student.weights: 'teacher' needs the projector linear, got "
                         f'{student.spec.projector}')
    try:
        student.backbone.load_state_dict(tower.trunk.state_dict())
    except RuntimeError as error:
        raise ValueError(f"student.weights: the teacher's image tower is no "
                         f'{student.spec.backbone}: {error}') from error
    with torch.no_grad():
        projector.weight.copy_(head.weight)
        projector.bias.copy_(0 if head.bias is None else head.bias)
