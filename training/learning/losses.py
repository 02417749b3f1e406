"""
The loss of a student: a weighted sum of named terms.

A method is a dictionary of weights, not a class. VL2V-ADiP (Addepalli et al., CVPR 2024) is
{'img_cos': lambda, 'txt_cos': 1 - lambda}; Li, Fang et al. (ICCV 2023) is {'cls': 1, 'im_cst': 1,
'vlprox': 1}; plain training of a linear head is {'cls': 1}, with its logits in the batch.

Every term is a mean over the batch and is computed in float32, under autocast too. In their
formulas, s and t are the student's and the teacher's (D,) embedding of an image, w the (C, D)
prototypes, y the true label and tau the temperature.
"""
from collections.abc import Callable, Mapping
from dataclasses import dataclass
import math

import torch
from torch import Tensor
from torch.nn import functional
from training.learning.asymmetric_loss import asymmetric_loss
from training.learning.loss_inputs import Batch, Recalled
from training.recipe import NEED_LABELS, NEED_TEACHER
from vl2v_ros.checks import check_ranges

Gather = Callable[[Tensor], Tensor]


def of_one_rank(rows: Tensor) -> Tensor:
    """Return the rows of all ranks where there is one rank."""
    return rows


@dataclass(frozen=True)
class LossSettings:
    """
    Settings of the terms.

    temperature: tau; cosines are divided by it before a softmax.
    k: number of the teacher's most likely labels that vlprox compares; more than C means all.
    kd_temperature: T; kd also divides logits by it. 1: cosines over tau are soft enough.
    """

    temperature: float = 0.07
    k: int = 5
    kd_temperature: float = 1.0

    def __post_init__(self) -> None:
        """Check ranges; raises ValueError that names the field."""
        check_ranges(self, (
            ('temperature', 0 < self.temperature < math.inf, 'a positive number'),
            ('k', isinstance(self.k, int) and self.k >= 1, 'an integer of at least 1'),
            ('kd_temperature', 0 < self.kd_temperature < math.inf, 'a positive number'),
        ))


def total(weights: Mapping[str, float], batch: Batch, settings: LossSettings,
          gather: Gather = of_one_rank) -> tuple[Tensor, dict[str, Tensor]]:
    """
    Compute the weighted sum of terms.

    With several processes, im_cst and caption need the images of all of them, so each process
    computes these two over the whole gathered batch; centred needs the mean of all. `gather` turns
    the (B, D) rows of this process into the (ranks * B, D) rows of all, in the order of ranks. Its
    backward pass must add up the gradients that all ranks have for this rank's rows, as that of
    torch.distributed.nn.functional.all_gather does. Each rank then has `ranks` times the gradient
    of its own rows, and DistributedDataParallel, which averages over ranks, divides it by `ranks`.
    The other terms are means over equally large parts, whose average is the mean over all. So a
    step equals that of one process with the whole batch, if every rank has equally many images
    that the term learns from. If `told` leaves out images, every rank must leave out equally many,
    or ranks would wait for each other; if labels are missing, all ranks' means count equally.

    :param weights: name of a term -> weight; see `check_weights`.
    :param gather: returns the rows of all ranks; the default suits one process.
    :return: the sum, (), and each term without weight and without gradient.
    :raises ValueError: for weights out of range, or if the batch lacks an input of a term.
    """
    check_weights(weights)
    parts = {name: _of_use(name, batch) for name in weights}
    terms = {name: TERMS[name](part, settings, gather) if len(part.labels)
             else _nothing(batch) for name, part in parts.items()}
    first, *others = [weight * terms[name] for name, weight in weights.items()]
    return sum(others, first), {name: term.detach() for name, term in terms.items()}


def _nothing(batch: Batch) -> Tensor:
    """Return 0 with a gradient of 0."""
    return batch.student.float().sum() * 0


def _of_use(term: str, batch: Batch) -> Batch:
    """Return the images that a term can learn from: with a label, or with a teacher's row."""
    masks = [mask for mask, terms in ((batch.told, NEED_TEACHER), (batch.named, NEED_LABELS))
             if mask is not None and term in terms]
    # On the CPU, so that a GPU is not waited for.
    return batch.take(torch.stack(masks).all(dim=0).nonzero()[:, 0]) if masks else batch


def check_weights(weights: Mapping[str, float]) -> None:
    """Raise ValueError for a term that does not exist, a weight out of range, or no term."""
    for name, weight in weights.items():
        if name not in TERMS:
            raise ValueError(f'loss: expected terms of {", ".join(TERMS)}, got {name!r}')
        number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not number or not 0 <= weight < math.inf:
            raise ValueError(f'loss: expected a weight of 0 or more for {name}, got {weight!r}')
    if not any(weights.values()):
        raise ValueError(f'loss: expected a weight above 0 for at least one term of '
                         f'{", ".join(TERMS)}, got {dict(weights)}')


def _needed(batch: Batch, term: str, *names: str) -> list[Tensor]:
    """Return parts of the batch in float32; raises ValueError if one is missing."""
    missing = [name for name in names if getattr(batch, name) is None]
    if missing:
        raise ValueError(f'loss: {term} needs {" and ".join(names)}, the batch has no '
                         f'{" and no ".join(missing)}; provide it or leave {term} out')
    return [getattr(batch, name).float() for name in names]


def _similarities(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the cosines of (B, D) and (C, D) unit rows, (B, C)."""
    with torch.autocast(rows.device.type, enabled=False):  # 3 digits are too few for cosine / tau
        return rows @ columns.T


def _label_logits(batch: Batch, term: str, settings: LossSettings) -> Tensor:
    """Return the linear head's logits, or similarities over tau, (B, C)."""
    if batch.logits is not None:
        return batch.logits.float()
    student, prototypes = _needed(batch, term, 'student', 'prototypes')
    return _similarities(student, prototypes) / settings.temperature


def _contrastive(first: Tensor, second: Tensor, settings: LossSettings, gather: Gather) -> Tensor:
    """Return the InfoNCE loss of pairs of (B, D) rows in both directions, as in CLIP."""
    logits = _similarities(gather(first), gather(second)) / settings.temperature  # (B, B)
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def cls(batch: Batch, settings: LossSettings, gather: Gather = of_one_rank) -> Tensor:
    """CE(cos(s, w) / tau, y), or CE(logits, y): L_cls of Li, Fang et al.; ERM."""
    return functional.cross_entropy(_label_logits(batch, 'cls', settings), batch.labels)


def mse(batch: Batch, settings: LossSettings, gather: Gather = of_one_rank) -> Tensor:
    """||s - t||^2, summed over D: L_mse of Li, Fang et al."""
    student, teacher = _needed(batch, 'mse', 'student', 'teacher')
    return (student - teacher).square().sum(dim=1).mean()


def im_cst(batch: Batch, settings: LossSettings, gather: Gather = of_one_rank) -> Tensor:
    """Contrast each s with all t and each t with all s: L_im-cst of Li, Fang et al."""
    student, teacher = _needed(batch, 'im_cst', 'student', 'teacher')
    return _contrastive(student, teacher, settings, gather)


def caption(batch: Batch, settings: LossSettings, gather: Gather = of_one_rank) -> Tensor:
    """Contrast each s with all captions and back: L_cap of Li, Fang et al."""
    student, captions = _needed(batch, 'caption', 'student', 'captions')
    return _contrastive(student, captions, settings, gather)


def vlprox(batch: Batch, settings: LossSettings, gather: Gather = of_one_rank) -> Tensor:
    """
    I(x) KL(P_T,topk || P_S,topk): L_vlprox(k) of Li, Fang et al.

    P are softmaxes over the teacher's k most likely labels only. I(x) is 1 if the first of them is
    the true label. The mean is over all images, including those with I(x) = 0.
    """
    student, teacher, prototypes = _needed(batch, 'vlprox', 'student', 'teacher', 'prototypes')
    k = min(settings.k, len(prototypes))
    nearest, columns = _similarities(teacher, prototypes).topk(k, dim=1)  # (B, k) each
    same = _similarities(student, prototypes).gather(1, columns)  # (B, k)
    log_teacher = functional.log_softmax(nearest / settings.temperature, dim=1)
    log_student = functional.log_softmax(same / settings.temperature, dim=1)
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(dim=1)  # (B,)
    return (divergence * (columns[:, 0] == batch.labels)).mean()


def img_cos(batch: Batch, settings: LossSettings, gather: Gather = of_one_rank) -> Tensor:
    """-cos(s, t): the image part of VL2V's loss."""
    student, teacher = _needed(batch, 'img_cos', 'student', 'teacher')
    return -(student * teacher).sum(dim=1).mean()


def centred(batch: Batch, settings: LossSettings, gather: Gather = of_one_rank) -> Tensor:
    """
    -cos(s - m, t - m), m the mean of the batch's t.

    CLIP's embeddings are in a narrow cone, so m alone has a high cosine to any image. This term
    learns how an image differs from the others.
    """
    student, teacher = _needed(batch, 'centred', 'student', 'teacher')
    mean = gather(teacher).mean(dim=0)
    return -functional.cosine_similarity(student - mean, teacher - mean).mean()


def keep(batch: Batch, settings: LossSettings, gather: Gather = of_one_rank) -> Tensor:
    """KL(what the backbone's classifier said || softmax(cos(s, w) / tau)) over its classes."""
    memory = _recalled(batch, 'keep')
    return _divergence(batch.student.float(), memory.scores, memory.prototypes, settings)


def stand_in(batch: Batch, settings: LossSettings, gather: Gather = of_one_rank) -> Tensor:
    """Do the same as `keep` for features made up for images of all classes."""
    memory = _recalled(batch, 'stand_in')
    if not len(memory.stand_ins):  # the projector does not learn
        return _nothing(batch)
    return _divergence(memory.stand_ins.float(), memory.stand_in_scores, memory.prototypes,
                       settings)


def _recalled(batch: Batch, term: str) -> Recalled:
    if batch.memory is None:
        raise ValueError(f'loss: {term} needs a backbone with a classifier; name its classes as '
                         f'student.classes, or leave {term} out')
    return batch.memory


def _divergence(student: Tensor, scores: Tensor, prototypes: Tensor, settings: LossSettings
                ) -> Tensor:
    near = _similarities(student, prototypes.float()) / settings.temperature
    found = functional.log_softmax(near, dim=1)
    return functional.kl_div(found, scores.float(), reduction='batchmean')


def presence(batch: Batch, settings: LossSettings, gather: Gather = of_one_rank) -> Tensor:
    """
    Asymmetric loss of softmax(cos(s, w) / tau, cos(s, w') / tau): the robot experiment's L_cls.

    w and w' are the prototypes of a label that is present, and absent. A closed set has one logit
    per label instead, the difference of the two.
    """
    if batch.logits is None:
        student, present, absent = _needed(batch, 'presence', 'student', 'prototypes', 'absent')
        scores = presence_scores(student, present, absent, settings.temperature)
    else:
        scores = batch.logits.float().sigmoid()
    return asymmetric_loss(scores, batch.labels)


def presence_scores(rows: Tensor, present: Tensor, absent: Tensor, temperature: float) -> Tensor:
    """Return (B, C) in [0, 1] for (B, D) embeddings and two (C, D) prototypes per label."""
    # A softmax over two is the logistic function of their difference.
    return (_similarities(rows, present - absent) / temperature).sigmoid()


def txt_cos(batch: Batch, settings: LossSettings, gather: Gather = of_one_rank) -> Tensor:
    """-cos(s, w_y): the text part of VL2V's loss."""
    student, prototypes = _needed(batch, 'txt_cos', 'student', 'prototypes')
    return -(student * prototypes[batch.labels]).sum(dim=1).mean()


def kd(batch: Batch, settings: LossSettings, gather: Gather = of_one_rank) -> Tensor:
    """T^2 KL(teacher's || student's scores), both softened by T (Hinton et al., 2015)."""
    teacher, prototypes = _needed(batch, 'kd', 'teacher', 'prototypes')
    softness, logits = settings.kd_temperature, _label_logits(batch, 'kd', settings)
    target = functional.softmax(
        _similarities(teacher, prototypes) / (settings.temperature * softness), dim=1)  # (B, C)
    student = functional.log_softmax(logits / softness, dim=1)
    return softness ** 2 * functional.kl_div(student, target, reduction='batchmean')


# Each returns (): the mean of the term over the batch.
TERMS: dict[str, Callable[[Batch, LossSettings, Gather], Tensor]] = {
    'cls': cls, 'mse': mse, 'im_cst': im_cst, 'vlprox': vlprox, 'img_cos': img_cos,
    'txt_cos': txt_cos, 'kd': kd, 'caption': caption, 'centred': centred, 'keep': keep,
    'stand_in': stand_in, 'presence': presence}
