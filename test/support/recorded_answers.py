"""Answers of a made-up teacher, and the commands that record them."""
from contextlib import redirect_stdout
from hashlib import sha256
import io
from pathlib import Path
import sys
from typing import Any

import numpy as np
import pytest
from support.tiny_data import LABELS
from training import recordings
from training.recipe import TeacherSource
from vl2v_ros.words import recording
from vl2v_ros.words.recording import Recording

CLIP = TeacherSource('ViT-B-32', 'openai')
IDENTITY, WIDTH, SIDE = 'ViT-B-32-quickgelu/openai', 512, 224
PROMPTS = [f'a photo of a {label}.' for label in LABELS]


def command(*arguments: object) -> str:
    """Run recordings.py; return what it says, which begins with 'failed' if it does."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as said:
        patch.setattr(sys, 'argv', ['recordings.py', *map(str, arguments)])
        try:
            recordings.main()
        except SystemExit as error:
            return f'failed {error.code}'
    return said.getvalue()


def unit(count: int, seed: int, width: int = WIDTH) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def digests(root: Path) -> np.ndarray:
    files = sorted(root.rglob('*.png'))
    return np.array([list(sha256(path.read_bytes()).digest()) for path in files], np.uint8)


def made_up(root: Path, **fields: Any) -> Recording:
    """Return answers of what could be CLIP to the images of a folder and some prompts."""
    found = digests(root)
    return Recording(**{
        'identity': IDENTITY, 'image_size': SIDE, 'licence': 'made up', 'prompts': tuple(PROMPTS),
        'names': tuple(LABELS), 'prompt_rows': unit(len(PROMPTS), 0), 'image_digests': found,
        'image_rows': unit(len(found), 1), **fields})


def write(path: Path, found: Recording) -> Path:
    recording.write(found, path)
    return path
