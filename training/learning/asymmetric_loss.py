"""The loss of labels that are each present or not."""
import math

import torch
from torch import Tensor


def asymmetric_loss(scores: Tensor, truth: Tensor, gamma_neg: float = 2, gamma_pos: float = 1,
                    clip: float = 0.05) -> Tensor:
    """
    Compute the loss of labels that are each present or not (ASL; Ridnik et al., ICCV 2021).

    The score p of a present label gives -(1 - p)^gamma_pos log p; that of an absent label, lowered
    to q = max(p - clip, 0), gives -q^gamma_neg log(1 - q). Sum over labels, mean over images.

    :param scores: (B, C) in [0, 1].
    :param truth: (B, C) bool.
    :return: the loss, ().
    :raises ValueError: for a gamma between 0 and 1, whose gradient is infinite at p = 1.
    """
    for name, gamma in (('gamma_neg', gamma_neg), ('gamma_pos', gamma_pos)):
        if not (gamma == 0 or 1 <= gamma < math.inf):
            raise ValueError(f'{name}: expected 0 or at least 1, got {gamma!r}')
    if not 0 <= clip < 1:
        raise ValueError(f'clip: expected a fraction in [0, 1), got {clip!r}')
    assert scores.shape == truth.shape, (scores.shape, truth.shape)
    scores = scores.float()  # (B, C)
    least = torch.finfo(torch.float32).tiny  # whose logarithm is finite
    missed = (1 - scores) ** gamma_pos * scores.clamp(min=least).log()
    lowered = (scores - clip).clamp(min=0)
    claimed = lowered ** gamma_neg * (1 - lowered).clamp(min=least).log()
    return -torch.where(truth, missed, claimed).sum(dim=1).mean()
