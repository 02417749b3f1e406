"""
Fold frozen batch norms into the convolutions before them, for training.

A batch norm whose statistics are frozen is a scale s and a shift b of each channel, and
s * conv(x, w) + b = conv(x, s * w) + b: the same values and gradients without passes over whole
feature maps. Parameters and their names stay as they are.
"""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional
from vl2v_ros.model.runtime.folded import follow, SAME

Pair = tuple[nn.Conv2d, nn.BatchNorm2d]


@contextmanager
def folded(model: nn.Module, example: torch.Tensor) -> Iterator[int]:
    """
    Fold frozen batch norms into convolutions within this context.

    A model whose output would change, because it also uses the output of a convolution elsewhere,
    is left unchanged.

    :param model: its batch norms are in evaluation mode and stay in it.
    :param example: (B, 3, S, S) any input on the model's device; it shows the order of layers.
    :return: context that gives the number of folded batch norms.
    """
    pairs: list[Pair] = []
    try:
        frozen = {norm for norm in model.modules()
                  if isinstance(norm, nn.BatchNorm2d) and not norm.training}
        expected, follows = follow(model, lambda: _answer(model, example))
        pairs += [(conv, norm) for norm, conv in follows.items() if norm in frozen
                  and type(conv) is nn.Conv2d and conv.padding_mode == 'zeros']
        for conv, norm in pairs:
            _join(conv, norm)
        change = (_answer(model, example) - expected).abs().max()
        if not change <= SAME * expected.abs().max():
            _part(pairs)
        yield len(pairs)
    finally:
        _part(pairs)


def _answer(model: nn.Module, example: torch.Tensor) -> torch.Tensor:
    """Return the output without dropout and the like."""
    training = [module for module in model.modules() if module.training]
    with torch.no_grad():
        output = model.eval()(example)
    for module in training:
        module.training = True
    return output


def _join(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    # The gradient of a strided depthwise convolution takes a CPU many times as long.
    strided = conv.groups == conv.in_channels and max(conv.stride) > 1

    # What timm's batch norms do beside.
    beside = [norm.get_submodule(name) for name in ('drop', 'act')] if hasattr(norm, 'act') else []

    def convolve(images: torch.Tensor) -> torch.Tensor:
        assert norm.running_mean is not None and norm.running_var is not None, norm
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
        if conv.bias is not None:
            shift = shift + conv.bias * scale
        weight = conv.weight * scale[:, None, None, None]
        if strided and images.device.type == 'cpu':
            rows = functional.conv2d(images, weight, shift, 1, conv.padding, conv.dilation,
                                     conv.groups)
            return rows[..., ::conv.stride[0], ::conv.stride[1]]
        return functional.conv2d(images, weight, shift, conv.stride, conv.padding, conv.dilation,
                                 conv.groups)

    def pass_on(rows: torch.Tensor) -> torch.Tensor:
        for module in beside:
            rows = module(rows)
        return rows

    setattr(conv, 'forward', convolve)
    setattr(norm, 'forward', pass_on)


def _part(pairs: list[Pair]) -> None:
    while pairs:
        for module in pairs.pop():
            vars(module).pop('forward', None)
