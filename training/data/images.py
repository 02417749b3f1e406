"""
Images of an index for training and evaluation; `shards.py` reads them from WebDataset shards.

Training images are augmented in [0, 1]; test images are resized as on the robot. Nothing is
normalised here: each model has its own mean and std. The augmentation of an image depends only on
the seed, the epoch and the image's name, so it is the same for any number of workers and in any
order. `image_index.py` and `shards.py` say how corrupt images are handled.
"""
from functools import partial
import os
from typing import NamedTuple
import zlib

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.transforms import v2
from training.data.blurring import blur_some
from training.data.image_index import Index
from training.recipe import Augmentation
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.preprocess import preprocess


class Sample(NamedTuple):
    """
    One image; the default collate function makes batches of it, field by field.

    image: (3, S, S) float32 RGB in [0, 1].
    label: () int64; for scenes (C,) bool.
    domain: number of its domain.
    name: unique name of the image; the key of cached embeddings.
    """

    image: torch.Tensor
    label: torch.Tensor
    domain: int
    name: str


class Preparation:
    """Pixels -> input of a model: augmented, or resized as on the robot."""

    def __init__(self, size: int, augmentation: Augmentation | None, resize_mode: str,
                 seed: int) -> None:
        """
        Set up.

        :param size: side S of the model's input [px].
        :param augmentation: None: resize only, as `resize_mode` of the student's spec says.
        """
        self._size, self._resize_mode, self._seed = size, resize_mode, seed
        # Shared memory: workers that live on from epoch to epoch see it change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._transform = None if augmentation is None else transform(augmentation, size)

    @property
    def epoch(self) -> int:
        """The current epoch; with the seed it determines the augmentation."""
        return int(self._epoch)

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    @property
    def stream(self) -> int:
        """The seed of this epoch."""
        return zlib.crc32(f'{self._seed} {self.epoch}'.encode())

    def __call__(self, pixels: np.ndarray, name: str) -> torch.Tensor:
        """Turn (H, W, 3) uint8 RGB into (3, S, S) float32 in [0, 1]."""
        if self._transform is None:
            return preprocess([Frame(pixels)], self._size, self._resize_mode)[0]
        image = torch.tensor(pixels).permute(2, 0, 1)  # (3, H, W)
        with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's one generator
            torch.default_generator.manual_seed(zlib.crc32(os.fsencode(name), self.stream))
            return self._transform(image)


def transform(augmentation: Augmentation, size: int) -> v2.Transform:
    """Return (3, H, W) uint8 -> (3, S, S) float32 in [0, 1], drawing from torch's generator."""
    jitter = augmentation.jitter
    steps = [v2.RandomResizedCrop(size, augmentation.scale, antialias=True),
             v2.RandomHorizontalFlip(augmentation.flip)]
    if augmentation.rand_augment:
        steps.append(v2.RandAugment(*augmentation.rand_augment))
    steps.append(v2.ToDtype(torch.float32, scale=True))
    if augmentation.blur:
        steps.append(partial(_blurred, most=augmentation.blur))
    steps += [v2.ColorJitter(jitter, jitter, jitter, augmentation.hue),
              v2.RandomGrayscale(augmentation.grey)]
    return v2.Compose(steps)


def _blurred(image: torch.Tensor, most: float) -> torch.Tensor:
    return blur_some(image[None], most, lambda low, high: torch.empty(1).uniform_(low, high))[0]


class Images(Dataset):
    """The images of an index as samples, in its order."""

    def __init__(self, index: Index, size: int, augmentation: Augmentation | None = None,
                 resize_mode: str = 'shortest', seed: int = 0) -> None:
        """Set up; for the parameters see Preparation."""
        self.index = index
        self._prepare = Preparation(size, augmentation, resize_mode, seed)

    def set_epoch(self, epoch: int) -> None:
        """Use other augmentations from now on; call it before each epoch."""
        self._prepare.epoch = epoch

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, row: int) -> Sample:
        """Return image `row`; raises ValueError if its file changed since the index was read."""
        name = self.index.name(row)
        return Sample(self._prepare(self.index.read(row), name),
                      torch.as_tensor(self.index.labels[row]), int(self.index.domains[row]), name)
