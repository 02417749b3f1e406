"""Compare a student with the recorded answers of a teacher, on the same images."""
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from training.data.image_index import Index
from training.measuring import metrics
from training.measuring.photo_sets import read_photos
from training.measuring.robot import Command, facts, FIVE, prototypes, Robot
from training.teachers.embedding_cache import file_digests
from vl2v_ros.words import recording
from vl2v_ros.words.recording import Recording

ALIGNED = (2, 3, 5)  # k of M_vlalign, as in the paper


@dataclass(frozen=True, kw_only=True)
class Teacher(Command):
    """Compare the student with a teacher's recorded answers."""

    recording: Path
    """Recording with the teacher's answers to images."""
    images: tuple[Path, ...]
    """Folders of images; each is a row of the table. If each folder has a student that was trained
    without it, {} in --checkpoint is replaced by the folder's name."""
    together: bool = False
    """The student was trained on none of the folders; else on all but the one that is measured.
    Embeddings are centred by the mean answer to the images that were trained on."""


def teacher(command: Teacher) -> dict[str, Any]:
    """Compare student and teacher on each folder; raises ValueError for inputs that do not fit."""
    if not command.images:
        raise ValueError('--images: expected at least one folder of images, got none')
    found = recording.read(command.recording)
    answers = {digest.tobytes().hex(): row
               for row, digest in enumerate(found.image_digests)}  # -> number of its row
    indices = {folder: read_photos(folder) for folder in command.images}
    numbers = {folder: answered(folder, index, answers) for folder, index in indices.items()}
    rows: list[dict[str, Any]] = []
    robot: Robot | None = None
    path: Path | None = None
    for folder, index in indices.items():
        if path != (path := Path(str(command.checkpoint).replace('{}', folder.name))):
            robot = Robot(path, command.device, command.templates)
            check_teacher(robot, found, path)
            words = prototypes(robot)
        assert robot is not None
        unseen = set().union(*(numbers.values() if command.together else [numbers[folder]]))
        trained = np.setdiff1d(np.arange(len(found.image_rows)), list(unseen - {-1}))
        there = np.array(numbers[folder]) >= 0
        guide = found.image_rows[np.array(numbers[folder])[there]]
        rows.append({'images': folder.name, 'count': int(there.sum())} | against_teacher(
            robot.embed(index.take(there)), unit(guide), words,
            unit(found.image_rows[trained]).mean(0)))
    assert robot is not None
    if len(rows) > 1:
        rows.append({'images': 'mean of them'} | {
            name: float(np.mean([row[name] for row in rows])) for name in rows[0]
            if name not in ('images', 'count')})
    return {**facts(command, robot), 'table': rows, 'notes': [
        f'{folder.name}: {lacking} images without an answer are left out'
        for folder in indices if (lacking := numbers[folder].count(-1))]}


def answered(folder: Path, index: Index, answers: Mapping[str, int]) -> list[int]:
    """Return the number of each image's answer, -1 for none; raises ValueError for no answer."""
    numbers = [answers.get(digest, -1)
               for digest in file_digests([index.root / file for file in index.files])]
    if max(numbers) < 0:
        raise ValueError('--images: expected images with an answer in the recording, found none '
                         f'in {folder}; answers are found by the content of the files')
    return numbers


def check_teacher(robot: Robot, found: Recording, path: Path) -> None:
    """Raise ValueError for answers of another teacher than the student's."""
    if robot.encoder.identity != found.identity or robot.spec.width != found.width:
        raise ValueError(f'--recording: expected answers of {robot.encoder.identity}, width '
                         f'{robot.spec.width}, whose space {path} is in, got those of '
                         f'{found.identity}, width {found.width}')


def against_teacher(student: torch.Tensor, guide: torch.Tensor, prototypes: torch.Tensor,
                    mean: torch.Tensor) -> dict[str, float]:
    """
    Compare (N, D) unit embeddings.

    :param prototypes: (C, D) of the labels.
    :param mean: (D,), subtracted for the centred cosine.
    :return: figure -> value; cosines in [-1, 1], those with [%] in percent.
    """
    distance, angle = metrics.feature_distance(student, guide)
    mine, theirs = student @ prototypes.T, guide @ prototypes.T  # (N, C)
    among = (theirs.topk(FIVE).indices == mine.argmax(1)[:, None]).any(1)
    centred = functional.cosine_similarity(student - mean, guide - mean)
    return {'cosine': (student * guide).sum(1).mean().item(), 'centred': centred.mean().item(),
            "first among the teacher's five [%]": 100 * among.double().mean().item(),
            'mse': distance, 'angle [deg]': angle} | {
        f'M_vlalign({k})': metrics.vl_alignment(mine, theirs, k) for k in ALIGNED}


def unit(rows: np.ndarray) -> torch.Tensor:
    """Convert float16 unit rows to float32 unit rows."""
    return functional.normalize(torch.from_numpy(rows.astype(np.float32)), dim=1)
