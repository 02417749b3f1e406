"""Robot: a checkpoint as it runs on a robot, with its text tower, for training's measurements."""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
import sys

import numpy as np
import torch
from training.data.image_index import Index
from vl2v_ros.images.frame import Frame
from vl2v_ros.labeller import Labeller
from vl2v_ros.words import vocabulary
from vl2v_ros.words.labels import Entry

BATCH = 32
FIVE = 5  # nearest names


@dataclass(frozen=True, kw_only=True)
class Command:
    """The student to measure, and where its results go."""

    checkpoint: Path
    """The student (*.safetensors), as distill.py writes it; its recording lies beside it."""
    out: Path
    """Folder for result.json."""
    templates: tuple[str, ...] = ()
    """Templates of the prompts, such as 'a photo of {a} {label}'; by default the student's own."""
    device: str = 'cpu'
    """Device that runs the student, as on the robot: cpu, cuda or auto."""


class Robot:
    """A student as a robot runs it, and its text tower."""

    def __init__(self, path: Path, device: str, templates: Sequence[str]) -> None:
        """Load the student; raises ValueError if a robot could not run it."""
        self._labeller = labeller = Labeller.open(path, device)
        self.spec, self.encoder = labeller.spec, labeller.encoder
        self.templates = tuple(templates) or self.spec.templates
        self.classifier = labeller.classifier
        self.runtime = self.classifier.runtime
        print(f'{path} runs on {self.runtime.description}', file=sys.stderr)

    def embed(self, index: Index) -> torch.Tensor:
        """Return (N, D) unit embeddings of whole images."""
        parts = [range(start, min(start + BATCH, len(index)))
                 for start in range(0, len(index), BATCH)]
        return torch.from_numpy(np.concatenate(
            [self._labeller.embed([Frame(index.read(row)) for row in part]) for part in parts]))


def prototypes(robot: Robot) -> torch.Tensor:
    """Return the (C, D) prototypes of all known names; raises ValueError for fewer than 5."""
    if len(robot.encoder.names) < FIVE:
        raise ValueError(f'expected a recording with names beside the checkpoint, found '
                         f'{len(robot.encoder.names)} names; distill.py writes it there')
    return torch.tensor(vocabulary.build(dict.fromkeys(robot.encoder.names, Entry()),
                                         robot.encoder, 1, robot.templates).prototypes)


def facts(command: Command, robot: Robot) -> dict[str, object]:
    """Return the checkpoint and settings behind a result, as values for JSON."""
    return {'checkpoint': str(command.checkpoint), 'runtime': robot.runtime.description,
            'trained on': robot.spec.trained_on, 'templates': list(robot.templates)}
