"""Frozen batch norms: the same values and gradients, folded or not."""
import pytest
import timm
import torch
from torch import nn
from training.learning import frozen_norms
from training.learning.malloc_settings import keep_memory

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def backbone(name: str, frozen: bool = True) -> nn.Module:
    """Return a network with batch norms that do something, in training otherwise."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values in (norm.weight, norm.running_var):
                nn.init.uniform_(values, 0.5, 2)
            for values in (norm.bias, norm.running_mean):
                nn.init.normal_(values)
            norm.train(not frozen)
    return model.double()  # so that rounding does not hide a difference


def answer(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the output and all gradients."""
    model.zero_grad()
    images = IMAGES.to(next(model.parameters())).requires_grad_()
    output = model(images)
    output.square().sum().backward()
    return {'output': output.detach(), 'images': images.grad,
            **{name: weight.grad.clone() for name, weight in model.named_parameters()}}


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.cuda)])
@pytest.mark.parametrize('name', ['mobilenetv2_050', 'test_resnet', 'test_efficientnet',
                                  'mobilenetv3_small_050'])
def test_values_and_gradients_are_the_same(name: str, device: str) -> None:
    model = backbone(name).to(device)
    names, plain = list(model.state_dict()), answer(model)
    example = torch.rand(1, 3, 32, 32, dtype=torch.float64, device=device)
    with frozen_norms.folded(model, example) as count:
        assert count == sum(isinstance(part, nn.BatchNorm2d) for part in model.modules())
        within = answer(model)
        assert list(model.state_dict()) == names
    after = answer(model)
    assert plain.keys() == within.keys() == after.keys()
    for key, value in plain.items():
        torch.testing.assert_close(within[key], value, msg=key)
        # A GPU does not sum in the same order each time.
        torch.testing.assert_close(after[key], value, msg=key, **(
            {'rtol': 0, 'atol': 0} if device == 'cpu' else {}))
    assert not any('forward' in vars(part) for part in model.modules())


def test_batch_norms_that_learn_their_statistics_stay_as_they_are() -> None:
    model = backbone('test_resnet', frozen=False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with frozen_norms.folded(model, torch.rand(1, 3, 32, 32).double()) as count:
        assert count == 0
        assert all(torch.equal(value, before[name])
                   for name, value in model.state_dict().items())
        assert all(part.training for part in model.modules())
        model(IMAGES.double())
    assert not torch.equal(model.state_dict()['bn1.running_mean'], before['bn1.running_mean'])


class Between(nn.Module):
    """Uses what lies between its convolution and its batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        nn.init.constant_(self.norm.bias, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return two things that a folded convolution cannot both have."""
        rows = self.conv(images)
        return torch.cat([rows, self.norm(rows)], 1)


def test_a_model_that_would_answer_otherwise_is_left_alone() -> None:
    model = Between()
    model.norm.eval()
    expected = model(IMAGES)
    with frozen_norms.folded(model, IMAGES) as count:
        assert count == 0
        assert torch.equal(model(IMAGES), expected)


def test_modes_of_modules_stay() -> None:
    model = backbone('test_efficientnet')
    modes = [part.training for part in model.modules()]
    with frozen_norms.folded(model, IMAGES.double()):
        assert [part.training for part in model.modules()] == modes
    assert [part.training for part in model.modules()] == modes


def test_glibc_keeps_memory() -> None:
    assert keep_memory()
