"""The measured programs: how each is started, and its cameras and labels."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import json
from pathlib import Path
import sys
from typing import Any

import numpy as np
from vl2v_ros.model import checkpoint
from vl2v_ros.nodes.transport import environment, MALLOC
from vl2v_ros.words import vocabulary
from vl2v_ros.words.cached_text import CachedText
from vl2v_ros.words.encoder import TextEmbeddings
from vl2v_ros.words.labels import check_labels

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OUT = ROOT / 'build/benchmarks'  # git ignores it, so a run changes no committed figure
STUDENT = ROOT / 'models/student.safetensors'
EVERYDAY = 307  # labels of everyday.yaml
SIZES = {'640x480': (640, 480), '1280x720': (1280, 720), '1920x1080': (1920, 1080)}  # [px]
OURS, PEER, PEER_TEXT = 'vl2v_ros', 'peer', 'peer, text per frame'
BARE = 'bare subscriber'  # of one raw image topic
NAMESPACE = '/bench'


@dataclass(frozen=True)
class Setup:
    """
    One measured node with its cameras and labels.

    transport: 'raw' or 'compressed'.
    cameras: number of cameras, each of `size`.
    labels: number of labels; 0 for those of everyday.yaml.
    together: whether several cameras have a common trigger; otherwise they take turns.
    """

    program: str
    size: str = '1280x720'
    transport: str = 'raw'
    cameras: int = 1
    labels: int = 0
    together: bool = False

    def __str__(self) -> str:
        """Return the unique name of the setup."""
        cameras = f', {self.cameras} cameras' if self.cameras > 1 else ''
        cameras += ' with a common trigger' * self.together
        labels = f', {self.labels} labels' if self.labels else ''
        return f'{self.program}, {self.size} {self.transport}{cameras}{labels}'

    @property
    def names(self) -> list[str]:
        """Names of the cameras; one alone has none."""
        return [f'camera_{number}' for number in range(self.cameras)] if self.cameras > 1 else ['']

    @property
    def images(self) -> list[str]:
        """Topics of the cameras."""
        end = '/compressed' if self.transport == 'compressed' else ''
        return ['/'.join(filter(None, (NAMESPACE, name, 'image'))) + end for name in self.names]

    @property
    def answers(self) -> list[str]:
        """Topics of the answers, in the order of `images`; a bare subscriber gives none."""
        if self.program == BARE:
            return []
        node = 'classifier' if self.program == OURS else 'peer'
        return ['/'.join(filter(None, (NAMESPACE, node, name, 'classification')))
                for name in self.names]

    @property
    def patience(self) -> float:
        """Time limit of one answer [s]."""
        return 3.0 if self.program == PEER_TEXT else 0.5


def node_command(setup: Setup, folder: Path, device: str, profile: Path | None = None
                 ) -> list[str]:
    """
    Return the command that starts the node.

    :param folder: folder for its files and its cache.
    :param device: the parameter `device` of the classifier node.
    """
    if setup.program == BARE:
        return [sys.executable, str(HERE / 'nodes/bare_subscriber.py'), *setup.images]
    parameters: dict[str, Any] = {'labels': words(setup.labels or EVERYDAY)}
    program = [str(HERE / 'nodes/peer_node.py')]
    if setup.program == OURS:
        program = ['-m', 'vl2v_ros.nodes.classifier_node']
        parameters = {'checkpoint': str(STUDENT), 'device': device,
                      'vocabulary': str(_vocabulary(setup.labels, folder)),
                      'cameras': setup.names, 'cache_dir': str(folder / 'cache')}
    elif setup.program == PEER_TEXT:
        parameters['text_per_frame'] = True
    given = [word for name, value in parameters.items()
             for word in ('-p', f'{name}:={json.dumps(value)}')]
    return [sys.executable, *program, *(['--profile', str(profile)] if profile else []),
            '--ros-args', '-r', f'__ns:={NAMESPACE}', *given]


def words(count: int) -> list[str]:
    """Return `count` different labels."""
    return [f'object {number}' for number in range(count)]


def _vocabulary(labels: int, folder: Path) -> Path:
    if not labels:
        return ROOT / 'config/vocabularies/everyday.yaml'
    path = folder / f'{labels}_labels.yaml'
    path.write_text(json.dumps({'labels': words(labels)}))  # JSON is YAML
    _fill_cache(words(labels), folder / 'cache')
    return path


class Random:
    """A text tower with random answers: only time is measured, and nothing is downloaded."""

    def __init__(self, width: int) -> None:
        self.width = width

    def encode(self, prompts: Sequence[str]) -> TextEmbeddings:
        rows = np.random.default_rng(len(prompts)).standard_normal((len(prompts), self.width))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return TextEmbeddings(rows.astype(np.float32), np.zeros(len(prompts), bool))


def _fill_cache(labels: Sequence[str], cache_dir: Path) -> None:
    """Fill the cache with the prompts of made-up labels."""
    spec = checkpoint.open_stored(STUDENT, cache_dir).spec
    cached = CachedText(spec.text_tower.identity, spec.width, lambda: Random(spec.width),
                        cache_dir)
    vocabulary.build(check_labels(labels), cached, 1, spec.templates)


def camera_command(setup: Setup) -> list[str]:
    """Return the command that starts the camera."""
    width, height = SIZES[setup.size]
    return [sys.executable, str(HERE / 'nodes/camera.py'), str(width), str(height),
            setup.transport, *setup.images]


def environment_of(setup: Setup, current: Mapping[str, str]) -> dict[str, str]:
    """
    Return the environment of node and camera: with our transport settings, except for the peer.

    Settings of the user are left out, so that they do not change the results.
    """
    kept = {name: value for name, value in current.items()
            if name not in MALLOC and 'FASTDDS' not in name and 'FASTRTPS' not in name}
    return kept | environment(kept) if setup.program in (OURS, BARE) else kept
