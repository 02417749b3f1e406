"""Images of one colour each, so that a batch can be read back."""
import itertools
import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from training.learning.batches import Batches
from training.recipe import Augmentation, Recipe, Stage, StudentSource
from training.teachers.teacher import CallableTeacher

COLOURS = {'blue': (0, 0, 255), 'green': (0, 255, 0), 'grey': (90, 90, 90), 'red': (255, 0, 0)}
DOMAINS = ('day', 'night')
WIDTH = 4
PLAIN = Augmentation(jitter=0, hue=0, grey=0)
RECIPE = Recipe(
    student=StudentSource('test_resnet', '', 16), batch=4, workers=0, device='cpu',
    augmentation=PLAIN, stages=(Stage('all', 1),))


class Place(NamedTuple):
    """What batches ask of Fabric."""

    global_rank: int = 0
    world_size: int = 1
    device: torch.device = torch.device('cpu')


def see(pixels: np.ndarray) -> np.ndarray:
    """Embed (B, S, S, 3) uint8 as its mean colour and what little differs between images."""
    rows = pixels.mean((1, 2)) / 255  # (B, 3)
    return np.concatenate([rows, pixels.std((1, 2, 3))[:, None] / 255 + 0.01], axis=1)


def read(prompts: list[str]) -> np.ndarray:
    """Embed prompts by the colour they name."""
    return np.array([next((*COLOURS[name], 10) for name in COLOURS if name in prompt)
                     for prompt in prompts]) / 255


def make_teacher() -> CallableTeacher:
    return CallableTeacher(see, read, 'colours', WIDTH, 8)


def write_data(root: Path, each: int = 3) -> list[dict[str, object]]:
    """Write single/<domain>/<class>/* as render.py does; return its records."""
    rng, records = np.random.default_rng(0), []
    for domain, name, number in itertools.product(DOMAINS, COLOURS, range(each)):
        colour = np.array(COLOURS[name]) * (0.4 if domain == 'night' else 0.8)
        image = np.clip(colour + rng.integers(0, 40, (24, 24, 3)), 0, 255).astype(np.uint8)
        file = f'single/{domain}/{name}/{number:05d}.jpg'
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / file), image[..., ::-1])
        records.append({'file': file, 'kind': 'single', 'domain': domain,
                        'objects': [{'class': name, 'box': [0, 0, 24, 24], 'visible': 1.0}]})
    counts = {f'single/{domain}': each * len(COLOURS) for domain in DOMAINS}
    (root / 'dataset.json').write_text(json.dumps(
        {'classes': list(COLOURS), 'domains': dict.fromkeys(DOMAINS, ''), 'counts': counts}))
    return records


def take(source: Batches, steps: int, epoch: int = 0, step: int = 0
         ) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    drawn = source.draw(epoch, step)
    try:
        return list(itertools.islice(drawn, steps))
    finally:
        drawn.close()


def same(first: list, second: list) -> bool:
    assert len(first) == len(second)
    return all(torch.equal(one, other) and parts.keys() == others.keys()
               and all(torch.equal(parts[name], others[name]) for name in parts)
               for (one, parts), (other, others) in zip(first, second, strict=True))
