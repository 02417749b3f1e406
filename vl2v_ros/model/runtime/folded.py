"""Batch norms of a model that only answers, computed by the convolutions before them."""
from collections.abc import Callable
import copy

from timm.layers import Conv2dSame
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

SAME = 1e-3  # of the largest output: by less do folded and plain outputs differ


def follow(model: nn.Module, answer: Callable[[], torch.Tensor]
           ) -> tuple[torch.Tensor, dict[nn.BatchNorm2d, nn.Conv2d]]:
    """
    Return what a model answers, and which convolution each of its batch norms directly follows.

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
    Return a copy in evaluation mode, whose convolutions also do the work of its batch norms.

    Where that would change its answers, as where something else also uses what lies between the
    two, it is a plain copy.

    :param example: (B, 3, S, S) any input; shows what follows what.
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
