"""Augmentation: images stay in range, by seed and epoch alone."""
from pathlib import Path

import pytest
from support.image_folders import read_all, same, write_folders
import torch
from torch.utils.data import DataLoader
from training.data import image_index, images
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.preprocess import preprocess


@pytest.mark.parametrize('augmentation', [
    images.Augmentation(), images.Augmentation(rand_augment=(2, 9)),
    images.Augmentation(scale=(0.05, 0.1), jitter=1, hue=0.5, grey=0.5, blur=0.5)])
def test_augmented_images_stay_in_range(tmp_path: Path, augmentation: images.Augmentation) -> None:
    index = image_index.read_folders(write_folders(tmp_path, ['a'], ['x', 'y'], 5))
    for sample in images.Images(index, 24, augmentation):
        assert sample.image.shape == (3, 24, 24)
        assert sample.image.dtype == torch.float32
        assert 0 <= sample.image.min() < sample.image.max() <= 1


def test_augmentation_follows_the_seed_and_the_epoch_alone(tmp_path: Path) -> None:
    index = image_index.read_folders(write_folders(tmp_path, ['a'], ['x', 'y'], 4))
    dataset = images.Images(index, 24, images.Augmentation(rand_augment=(1, 9)), seed=3)
    state = torch.get_rng_state()
    here = read_all(dataset, 0)
    assert torch.equal(images.Images(index, 24, images.Augmentation(rand_augment=(1, 9)),
                                     seed=3)[5].image, here[index.name(5)])
    assert not torch.equal(dataset[0].image, dataset[1].image)
    torch.manual_seed(77)
    assert same(here, read_all(dataset, 2))
    assert not same(here, read_all(images.Images(index, 24, images.Augmentation(), seed=4), 0))
    dataset.set_epoch(1)
    assert not same(here, read_all(dataset, 0))
    torch.set_rng_state(state)
    dataset[0]
    assert torch.equal(torch.get_rng_state(), state)  # it takes nothing from other draws


def test_lasting_workers_see_the_epoch_change(tmp_path: Path) -> None:
    index = image_index.read_folders(write_folders(tmp_path, ['a'], ['x', 'y']))
    dataset = images.Images(index, 16, images.Augmentation())
    loader = DataLoader(dataset, batch_size=4, num_workers=1, persistent_workers=True)
    first = next(iter(loader)).image
    dataset.set_epoch(1)
    second = next(iter(loader)).image
    assert not torch.equal(first, second)
    assert torch.equal(second[2], dataset[2].image)


@pytest.mark.parametrize('mode', ['shortest', 'squash'])
def test_evaluation_is_the_robots_resize(tmp_path: Path, mode: str) -> None:
    index = image_index.read_folders(write_folders(tmp_path, ['a'], ['x']))
    sample = images.Images(index, 16, resize_mode=mode)[0]
    assert torch.equal(sample.image, preprocess([Frame(index.read(0))], 16, mode)[0])


@pytest.mark.parametrize('field', [{'scale': (0.0, 1.0)}, {'scale': (0.9, 0.5)}, {'flip': 1.5},
                                   {'jitter': -1.0}, {'hue': 0.6}, {'blur': 0.6},
                                   {'rand_augment': (2, 31)}])
def test_augmentation_out_of_range_is_refused(field: dict) -> None:
    with pytest.raises(ValueError, match=f'{next(iter(field))}: expected'):
        images.Augmentation(**field)
