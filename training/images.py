"""
Images of an index for training and evaluation; `shards.py` has them out of WebDataset shards.

Training images are augmented in [0, 1]; the others are resized as on the robot. Nothing is
normalised here: each model owns its mean and std. An image's augmentation depends on the seed, the
epoch and the image's name only, so it is the same for any number of workers and in any order.
What happens to corrupt images stands in `image_index.py` and `shards.py`.
"""
from dataclasses import dataclass
from typing import NamedTuple
import zlib

from image_index import Index
import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.transforms import v2
from vl2v_ros.frame import Frame
from vl2v_ros.preprocess import preprocess


class Sample(NamedTuple):
    """
    One image; the default collate function makes batches of it, field by field.

    image: (3, S, S) float32 RGB in [0, 1].
    label: () int64; for scenes (C,) bool.
    domain: its number among the domain names.
    name: tells the image from all others; the key of cached embeddings.
    """

    image: torch.Tensor
    label: torch.Tensor
    domain: int
    name: str


@dataclass(frozen=True)
class Augmentation:
    """
    How training images vary; the defaults are those of VL2V (Addepalli et al., CVPR 2024).

    scale: area of a random crop, as parts of the image.
    flip, grey: probability of a mirrored and of a grey image.
    jitter: of brightness, contrast and saturation, as a part of them.
    hue: of the colour circle, at most 0.5.
    rand_augment: number of operations and magnitude (0..30) of RandAugment; (2, 9) in the
    experiments of Li, Fang et al. (ICCV 2023). None: without.
    """

    scale: tuple[float, float] = (0.7, 1.0)
    flip: float = 0.5
    jitter: float = 0.3
    hue: float = 0.3
    grey: float = 0.1
    rand_augment: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Check ranges; raises ValueError that names the field."""
        operations, magnitude = self.rand_augment or (1, 0)
        for name, good, expected in (
            ('scale', 0 < self.scale[0] <= self.scale[1] <= 1, 'two ascending parts of 1'),
            ('flip', 0 <= self.flip <= 1, 'a probability'),
            ('jitter', 0 <= self.jitter <= 1, 'a part of 1'),
            ('hue', 0 <= self.hue <= 0.5, 'at most 0.5 of the colour circle'),
            ('grey', 0 <= self.grey <= 1, 'a probability'),
            ('rand_augment', operations >= 1 and 0 <= magnitude <= 30,
             'a number of operations and a magnitude of 0 to 30'),
        ):
            if not good:
                raise ValueError(f'{name}: expected {expected}, got {getattr(self, name)!r}')


class Preparation:
    """Pixels -> what a model is fed: augmented, or resized as on the robot."""

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
        """What images vary by, beside the seed."""
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
            torch.default_generator.manual_seed(zlib.crc32(name.encode(), self.stream))
            return self._transform(image)


def transform(augmentation: Augmentation, size: int) -> v2.Transform:
    """Return (3, H, W) uint8 -> (3, S, S) float32 in [0, 1], drawing from torch's generator."""
    jitter = augmentation.jitter
    steps = [v2.RandomResizedCrop(size, augmentation.scale, antialias=True),
             v2.RandomHorizontalFlip(augmentation.flip)]
    if augmentation.rand_augment:
        steps.append(v2.RandAugment(*augmentation.rand_augment))
    steps += [v2.ToDtype(torch.float32, scale=True),
              v2.ColorJitter(jitter, jitter, jitter, augmentation.hue),
              v2.RandomGrayscale(augmentation.grey)]
    return v2.Compose(steps)


class Images(Dataset):
    """The images of an index as samples, in its order."""

    def __init__(self, index: Index, size: int, augmentation: Augmentation | None = None,
                 resize_mode: str = 'shortest', seed: int = 0) -> None:
        """Set up; for the parameters see Preparation."""
        self.index = index
        self._prepare = Preparation(size, augmentation, resize_mode, seed)

    def set_epoch(self, epoch: int) -> None:
        """Let images vary otherwise from now on; to be called before each epoch."""
        self._prepare.epoch = epoch

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, row: int) -> Sample:
        """Return image `row`; raises ValueError if its file changed since the index was read."""
        name = self.index.name(row)
        return Sample(self._prepare(self.index.read(row), name),
                      torch.as_tensor(self.index.labels[row]), int(self.index.domains[row]), name)
