"""A student whose text tower is known by what it has answered, on a machine without a network."""
from collections.abc import Sequence
import os
from pathlib import Path
import socket

import numpy as np
from support.tiny_models import student, WIDTH, write_student
from vl2v_ros.model import checkpoint
from vl2v_ros.words import recording
from vl2v_ros.words.encoder import TextTower
from vl2v_ros.words.recording import Recording

IDENTITY = 'ViT-B-32-quickgelu/openai'
TEMPLATE = 'a photo of {a} {label}[. {description}]'
NAMES = ('mug', 'coffee mug', 'alarm clock', 'orange', 'screwdriver', 'light bulb', 'shelf',
         'scissors', 'fish (food)', 'strawberry')
ONLY_SHORT = ('calculator', 'other shoes')  # of which 'a NAME' alone was asked


def record(prompts: Sequence[str], names: Sequence[str], rows: np.ndarray, path: Path,
           identity: str = IDENTITY) -> Path:
    """Write a recording of prompts alone."""
    recording.write(Recording(
        identity, 0, 'of this test', tuple(prompts), tuple(names), rows.astype(np.float16),
        np.zeros((0, 32), np.uint8), np.zeros((0, rows.shape[1]), np.float16)), path)
    return path


def record_names(path: Path, identity: str = IDENTITY, width: int = WIDTH) -> Path:
    """Write a recording of NAMES and ONLY_SHORT, worded as the real one is."""
    asked = [(f'{start}{a} {name}'.replace(name, name.replace(' ', '_')), name)
             for name in NAMES for a in ['an' if name[0] in 'aeiou' else 'a']
             for start in ('', 'a photo of ')]
    asked += [(f'a {name}', name) for name in ONLY_SHORT]
    rows = np.random.default_rng(0).normal(size=(len(asked), width))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return record(*zip(*asked, strict=True), rows, path, identity)


def write(folder: Path, templates: Sequence[str] = (TEMPLATE,), width: int = WIDTH,
          graph: bool = False) -> Path:
    """Write a student and the recording beside it; and its graph, if it shall start at once."""
    record_names(folder / 'prompts.safetensors', width=width)
    tower = TextTower(*IDENTITY.split('/'), IDENTITY, 'prompts.safetensors')
    path = folder / 'student.safetensors'
    model = student(text_tower=tower, templates=tuple(templates), width=width)
    if graph:
        return write_student(path, model)
    checkpoint.save(model, path)
    return path


def real_recording(path: Path) -> Path:
    """Write the recording of OpenAI's CLIP; VL2V_DATA has to be set."""
    data = np.load(Path(os.environ['VL2V_DATA']) / 'clip_vit_b32/text_embeddings.npz')
    return record(data['prompts'].tolist(), data['names'].tolist(), data['embeddings'], path)


def no_hub(home: Path) -> dict[str, str]:
    """Return the environment of a machine with nothing cached, whose hub refuses connections."""
    with socket.socket() as lent:
        lent.bind(('127.0.0.1', 0))
        port = lent.getsockname()[1]
    return {'HF_ENDPOINT': f'http://127.0.0.1:{port}', 'HF_HOME': str(home),
            'no_proxy': '127.0.0.1'}
