"""Fold batch norms into the convolutions before them, for a model in evaluation mode."""
from collections.abc import Callable
import copy

from timm.layers import Conv2dSame
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

SAME = 1e-3  # largest relative difference allowed between folded and plain outputs


def follow(model: nn.Module, answer: Callable[[], torch.Tensor]
           ) -> tuple[torch.Tensor, dict[nn.BatchNorm2d, nn.Conv2d]]:
    """
    Return the output of a model, and the convolution that each batch norm directly follows.

    :param answer: calls the model, in evaluation mode.
    """
    made: dict[int, tuple[nn.Conv2d, torch.Tensor]] = {}
    follows: dict[nn.BatchNorm2d, nn.Conv2d] = {}

    def note(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d) and type(module) in (nn.Conv2d, Conv2dSame):
            made[id(output)] = module, output  # kept, so that no other tensor has its id
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats and id(
                inputs[0]) in made:
            follows[module] = made[id(inputs[0])][0]

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    try:
        return answer(), follows
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def fold_batch_norms(model: nn.Module, example: torch.Tensor) -> nn.Module:
    """
    Return a copy in evaluation mode, with its batch norms folded into convolutions.

    If folding changes the output, because another layer also uses the output of a convolution,
    it is a plain copy.

    :param example: (B, 3, S, S) any input; it shows which layers follow each other.
    """
    plain = copy.deepcopy(model).eval()
    if not any(isinstance(module, nn.BatchNorm2d) for module in plain.modules()):
        return plain
    folded = copy.deepcopy(plain)
    expected, follows = follow(folded, lambda: folded(example))
    for norm, conv in follows.items():
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None and variance is not None, norm
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias)
    for module in list(folded.modules()):
        for name, child in module.named_children():
            if child in follows:  # timm's drop and activate beside
                setattr(module, name, nn.Sequential(
                    child.get_submodule('drop'), child.get_submodule('act'))
                        if hasattr(child, 'act') else nn.Identity())
    change = (folded(example) - expected).abs().max()
    return folded if change <= SAME * expected.abs().max() else plain
