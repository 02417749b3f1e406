"""Small folders of images as datasets lie on disk, with and without annotations."""
from collections.abc import Sequence
import json
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (40, 30)) -> np.ndarray:
    """Write noise, width x height; return it as (H, W, 3) RGB, exact for PNG."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    pixels = cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, pixels[..., ::-1])[1].tobytes())
    return pixels


def write_folders(root: Path, domains: Sequence[str], classes: Sequence[str], count: int = 2
                  ) -> Path:
    for number, domain in enumerate(domains):
        for label, name in enumerate(classes):
            for image in range(count):
                write_image(root / domain / name / f'pic_{image:03d}.jpg',
                            100 * number + 10 * label + image)
    return root


def write_coco(folder: Path, pictures: dict[str, list[tuple[str, list[float], dict]]],
               names: Sequence[str], size: tuple[int, int] = (40, 30)) -> None:
    """Write PNG images and annotations.json; pictures: file -> (class, box, more fields)."""
    content = {'images': [], 'annotations': [],
               'categories': [{'id': 7 * at, 'name': name} for at, name in enumerate(names)]}
    for number, (file, objects) in enumerate(pictures.items()):
        write_image(folder / file, number, size)
        content['images'].append({'id': number, 'file_name': file, 'width': size[0],
                                  'height': size[1]})
        for name, box, more in objects:
            content['annotations'].append({
                'id': len(content['annotations']), 'image_id': number, 'bbox': box,
                'category_id': 7 * list(names).index(name), **more})
    (folder / 'annotations.json').write_text(json.dumps(content), encoding='utf-8')


def read_all(dataset: torch.utils.data.Dataset, workers: int) -> dict[str, torch.Tensor]:
    loader = DataLoader(dataset, batch_size=2, num_workers=workers)
    return {name: image for batch in loader
            for name, image in zip(batch.name, batch.image, strict=True)}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)
