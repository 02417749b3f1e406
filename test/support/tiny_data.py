"""Drawn images of a few classes in two domains, words for them, and recipes; small, and real."""
from collections.abc import Sequence
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import open_clip
from safetensors.torch import save_file
from support import shapes
from support.tiny_models import TEXT_CONFIG, WIDTH, write_tower
import torch
import yaml

ROOT = Path(__file__).parents[2]
CLASSES = ('blue_square', 'green_star', 'red_circle', 'white_cross')
LABELS = [name.replace('_', ' ') for name in CLASSES]
# A teacher whose image tower is a timm model, as the shipped one's is.
TIMM_CONFIG = {'embed_dim': WIDTH, 'text_cfg': TEXT_CONFIG['text_cfg'], 'vision_cfg': {
    'timm_model_name': 'test_resnet', 'timm_model_pretrained': False, 'timm_pool': '',
    'timm_proj': 'linear', 'image_size': 32}}


def draw(name: str, domain: str, seed: int, size: int = 40) -> np.ndarray:
    """Draw a class, darker at night; (size, size, 3) uint8 RGB."""
    pixels = shapes.draw(name.replace('_', ' '), size, size, np.random.default_rng(seed))
    return pixels // 3 if domain == 'night' else pixels


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode('.png', pixels[..., ::-1])[1].tobytes())


def write_images(root: Path, classes: Sequence[str] = CLASSES,
                 domains: Sequence[str] = ('day', 'night'), count: int = 5) -> Path:
    """Write root/<domain>/<class>/*.png, so many of each; a domain '' has no folder."""
    for domain in domains:
        for number, name in enumerate(classes):
            for image in range(count):
                write_png(root / domain / name / f'{image}.png',
                          draw(name, domain, 100 * number + image))
    return root


def write_scenes(root: Path, scenes: Sequence[Sequence[str]]) -> Path:
    """Write root/day with one picture per scene, its objects side by side, and annotations."""
    content: dict[str, list] = {
        'images': [], 'annotations': [],
        'categories': [{'id': number, 'name': name} for number, name in enumerate(CLASSES)]}
    for number, objects in enumerate(scenes):
        parts = [draw(name, 'day', number) for name in objects] or [np.zeros((40, 40, 3), 'u1')]
        write_png(root / 'day' / f'{number}.png', np.concatenate(parts, axis=1))
        content['images'].append({'id': number, 'file_name': f'{number}.png', 'height': 40,
                                  'width': 40 * len(parts)})
        content['annotations'] += [
            {'id': 10 * number + at, 'image_id': number, 'category_id': CLASSES.index(name),
             'bbox': [40 * at, 0, 40, 40], 'visible': 1.0} for at, name in enumerate(objects)]
    (root / 'day' / 'annotations.json').write_text(json.dumps(content))
    return root


def write_vocabulary(path: Path, labels: Sequence[str] = LABELS) -> Path:
    """Write a description for each label."""
    path.write_text(yaml.safe_dump({'labels': {label: f'Flat: a {label}.' for label in labels}}))
    return path


def write_split(path: Path, known: Sequence[str] = CLASSES[:2], new: Sequence[str] = CLASSES[2:]
                ) -> Path:
    """Write an object split."""
    path.write_text(yaml.safe_dump({'id': list(known), 'ood': list(new)}))
    return path


def write_timm_teacher(folder: Path, config: dict[str, Any] = TIMM_CONFIG) -> dict[str, str]:
    """Write an open_clip model of random weights; return what a recipe calls it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'timm_tiny.json').write_text(json.dumps(config))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state = open_clip.CLIP(**config).state_dict()
    save_file({name: weight.contiguous() for name, weight in state.items()},
              folder / 'timm_tiny.safetensors')
    return {'model': str(folder / 'timm_tiny.json'),
            'pretrained': str(folder / 'timm_tiny.safetensors')}


def write_recipe(folder: Path, data: dict[str, Any] | None = None,
                 student: dict[str, Any] | None = None, **fields: Any) -> Path:
    """Write images, words, a teacher and a recipe, as far as they are not there; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / 'images').exists():
        write_images(folder / 'images')
    if not (folder / 'teacher').exists():
        write_tower(folder / 'teacher')
    content = {
        'name': 'tiny',
        'data': {'images': str(folder / 'images'),
                 'vocabulary': str(write_vocabulary(folder / 'words.yaml')), **(data or {})},
        'teacher': {'model': str(folder / 'teacher/tiny.json'),
                    'pretrained': str(folder / 'teacher/tiny.safetensors')},
        'student': {'backbone': 'test_resnet', 'weights': '', 'image_size': 32,
                    'freeze_batch_norm': False, **(student or {})},
        'stages': [{'train': 'all', 'epochs': 1, 'rate': 1e-3}], 'loss': {'cls': 1, 'im_cst': 1},
        'batch': 8, 'workers': 0, 'device': 'cpu', 'out': str(folder / 'runs'), **fields}
    path = folder / 'recipe.yaml'
    path.write_text(yaml.safe_dump(content))
    return path
