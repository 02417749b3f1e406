"""Batch norms folded into convolutions: the same answers, without them."""
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional
from vl2v_ros.model.runtime.folded import fold_batch_norms


def settled(model: nn.Module) -> nn.Module:
    """Give batch norms statistics, scales and shifts of their own."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0, 0.2)
    with torch.no_grad():
        model.train()(torch.rand(8, 3, 96, 96))
    return model.eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize('backbone, left', [
    ('mobilenetv2_100', 0), ('tf_efficientnet_lite0', 0), ('mobilenetv3_small_100', 0),
    ('resnet18', 0), ('repvit_m0_9', 23)])  # some of which follow no convolution
def test_answers_are_the_same_without_batch_norms(backbone: str, left: int) -> None:
    torch.manual_seed(0)
    model = settled(timm.create_model(backbone, num_classes=0))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    images = torch.rand(4, 3, 96, 96)
    folded = fold_batch_norms(model, images[:1])
    assert norms(folded) == left < norms(model)
    with torch.inference_mode():
        rows, expected = (functional.normalize(one(images)) for one in (folded, model))
    torch.testing.assert_close(rows, expected, atol=1e-5, rtol=0)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name])


def test_what_cannot_be_folded_is_copied() -> None:
    class Branching(nn.Module):
        """Uses what lies between the convolution and its batch norm."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            between = self.conv(images)
            return (self.norm(between) + between).mean((2, 3))

    torch.manual_seed(0)
    model, images = settled(Branching()), torch.rand(2, 3, 32, 32)
    copied = fold_batch_norms(model, images)
    assert norms(copied) == 1 and copied is not model
    with torch.no_grad():
        assert torch.equal(copied(images), model(images))
