"""A text tower and a student with random weights, small enough for a test, and real."""
from collections.abc import Mapping, Sequence
from contextlib import suppress
import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
import open_clip
from safetensors.torch import save_file
import torch
from vl2v_ros.model import checkpoint
from vl2v_ros.model.spec import StudentSpec
from vl2v_ros.model.student import Student
from vl2v_ros.words import vocabulary
from vl2v_ros.words.encoder import identify, TextEmbeddings, TextTower
from vl2v_ros.words.labels import check_labels
from vl2v_ros.words.vocabulary import Vocabulary

WIDTH = 8
TEXT_CONFIG = {
    'embed_dim': WIDTH,
    'vision_cfg': {'image_size': 32, 'layers': 1, 'width': 64, 'patch_size': 32},
    'text_cfg': {'context_length': 77, 'vocab_size': 49408, 'width': 16, 'heads': 2, 'layers': 1}}


def write_tower(folder: Path, weights: str = 'tiny.safetensors') -> TextTower:
    """Write the config and the weights of a whole model; the same ones at each call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = open_clip.CLIP(**TEXT_CONFIG).state_dict()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'tiny.json').write_text(json.dumps(TEXT_CONFIG))
    save_file({name: weight.contiguous() for name, weight in state.items()}, folder / weights)
    tower = TextTower('tiny.json', weights)
    return TextTower(tower.model, tower.pretrained, identify(tower, folder))


def spec(**fields: Any) -> StudentSpec:
    """Return a spec with some fields other than a tiny student's."""
    return StudentSpec(**{
        'backbone': 'test_resnet', 'width': WIDTH, 'image_size': 32,
        'text_tower': TextTower('tiny.json', 'tiny.safetensors'), **fields})


def student(seed: int = 0, **fields: Any) -> Student:
    """Return a student with random weights, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Student(spec(**fields)).eval()


def write_student(path: Path, model: Student) -> Path:
    """Write a checkpoint, and beside it its graph, so that other processes start at once."""
    checkpoint.save(model, path)
    with suppress(ImportError):  # of OpenVINO
        from vl2v_ros.model.runtime.openvino_graph import write_outline
        write_outline(path, path.with_suffix('.graph'))
    return path


class GivenText:
    """A text tower that knows a few prompts, and the row of each."""

    def __init__(self, rows: Mapping[str, ArrayLike]) -> None:
        self.rows = {prompt: np.asarray(row, np.float32) for prompt, row in rows.items()}
        self.width = len(next(iter(self.rows.values())))

    def encode(self, prompts: Sequence[str]) -> TextEmbeddings:
        rows = np.array([self.rows[prompt] for prompt in prompts])
        return TextEmbeddings(rows, np.zeros(len(prompts), bool))


def given(labels: Mapping[str, ArrayLike], version: int = 1,
          background: Mapping[str, ArrayLike] | None = None) -> Vocabulary:
    """Return a vocabulary of labels, and background prompts, with given rows."""
    background = background or {}
    return vocabulary.build(check_labels(tuple(labels)), GivenText({**labels, **background}),
                            version, ('{label}',), tuple(background))


def python(script: str, *arguments: object, **environment: str) -> str:
    """Run a script in a new process and return what it prints; it must succeed."""
    done = subprocess.run([sys.executable, '-c', script, *map(str, arguments)], timeout=300,
                          capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout
