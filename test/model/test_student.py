"""The student's network and its spec."""
from dataclasses import FrozenInstanceError
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from support.tiny_models import spec, student
import torch
from vl2v_ros.model.spec import IMAGENET_MEAN, IMAGENET_STD


def images(size: int, count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
@pytest.mark.parametrize(('backbone', 'size'), [  # by default 160, 160, 160 and 224
    ('test_resnet', 64), ('test_vit', 64), ('test_vit', 96), ('mobilenetv2_100', 64)])
def test_embeddings_are_unit_rows_at_any_size(backbone: str, size: int) -> None:
    rows = student(backbone=backbone, image_size=size, width=24)(images(size))
    assert rows.shape == (3, 24) and rows.dtype == torch.float32
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
    assert not torch.allclose(rows[0], rows[1], atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize(('mean', 'std'), [
    (IMAGENET_MEAN, IMAGENET_STD), ((0.5, 0.4, 0.3), (0.1, 0.5, 2))])
def test_images_are_normalised_inside(
        mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    raw = images(32)
    normalised = (raw - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    normalising = student(mean=mean, std=std)
    plain = student(mean=(0, 0, 0), std=(1, 1, 1))  # the same weights
    torch.testing.assert_close(normalising(raw), plain(normalised))
    assert not torch.allclose(normalising(raw), normalising(normalised), atol=1e-3)


def test_mean_and_std_belong_to_the_spec_not_to_the_weights() -> None:
    names = student().state_dict().keys()
    assert {'projector.weight', 'projector.bias'} < names
    assert not {name for name in names if name.split('.')[0] not in {'backbone', 'projector'}}


@pytest.mark.parametrize(('field', 'value'), [
    ('width', 0), ('width', -8), ('width', 8.5), ('width', '8'),
    ('image_size', 0), ('image_size', 48.5), ('image_size', None),
    ('mean', (0.5, 0.5)), ('mean', (0.5,) * 4), ('mean', (0, 0, float('nan'))),
    ('std', (1, 1)), ('std', (1, 0, 1)), ('std', (1, 1, -1)), ('std', (1, float('nan'), 1)),
    ('std', (1, 1, float('inf'))),
    ('resize_mode', ''), ('resize_mode', 'crop'),
    ('temperature', 0), ('temperature', -1), ('temperature', float('nan')),
    ('temperature', float('inf')),
    ('unknown_threshold', 1.01), ('unknown_threshold', -2), ('unknown_threshold', float('nan'))])
def test_bad_field_is_named(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f'^{field}: expected .*, got '):
        spec(**{field: value})


@pytest.mark.parametrize(('field', 'value'), [
    ('unknown_threshold', -1), ('unknown_threshold', 1), ('width', 1), ('image_size', 1),
    ('resize_mode', 'squash'), ('resize_mode', 'shortest')])
def test_limits_themselves_are_allowed(field: str, value: Any) -> None:
    assert getattr(spec(**{field: value}), field) == value


def test_spec_is_one_frozen_value() -> None:
    one = spec(mean=[0, 0.5, 1])  # a list, as JSON has it
    assert one == spec(mean=(0.0, 0.5, 1.0)) and hash(one) == hash(spec(mean=(0, 0.5, 1)))
    with pytest.raises(FrozenInstanceError):
        one.width = 3


def test_unknown_backbone_is_answered_with_near_names() -> None:
    with pytest.raises(ValueError, match="got 'mobilenetv2_10O'; near it: .*mobilenetv2_100"):
        student(backbone='mobilenetv2_10O')


@pytest.mark.skipif('VL2V_DATA' not in os.environ, reason='needs the data VL2V_DATA names')
@torch.inference_mode()
def test_imagenet_weights_become_a_backbone() -> None:
    path = Path(os.environ['VL2V_DATA']) / 'weights' / 'mobilenetv2_100_imagenet.safetensors'
    loaded = student(backbone='mobilenetv2_100', image_size=96)
    random = loaded(images(96))
    weights = load_file(path)
    loaded.backbone.load_state_dict(weights)
    assert torch.equal(loaded.backbone.conv_stem.weight, weights['conv_stem.weight'].float())
    rows = loaded(images(96))
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
    assert not torch.allclose(rows, random, atol=1e-3)
