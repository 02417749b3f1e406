"""Measure which objects of scenes are found: the robot experiment of paper B."""
from collections.abc import Iterator

import numpy as np
import torch
from training.data.scenes import PromptPair, SceneTask
from training.learning.losses import presence_scores
from training.learning.trainee import outputs, Trainee
from training.measuring import metrics
from training.teachers.embedding_cache import CachedTeacher, embeddings

FIGURES = 'accuracy', 'F1', 'AUROC'
Row = dict[str, object]


def student_table(trainee: Trainee, task: SceneTask, pair: PromptPair, when: str) -> list[Row]:
    """
    Return a row per figure, with a column per group of scenes and objects.

    A closed set has columns only for the labels that it has outputs for.

    :param when: ends the names of the rows, such as 'zero-shot'.
    """
    rows, logits = outputs(trainee, task.test)
    scores = logits.sigmoid() if logits is not None else presence_scores(
        rows, *pair, trainee.student.spec.temperature)
    return table(scores, task, when)


def teacher_table(task: SceneTask, pair: PromptPair, cached: CachedTeacher, temperature: float,
                  when: str) -> list[Row]:
    """Return the same of a teacher that was asked with both prompts."""
    rows = torch.from_numpy(embeddings(task.test, cached)[:, 0].astype(np.float32))
    return table(presence_scores(rows, *pair, temperature), task, when)


def table(scores: torch.Tensor, task: SceneTask, when: str) -> list[Row]:
    """Return the rows for (N, C) scores in [0, 1]; C is smaller than all for a closed set."""
    rows: dict[str, Row] = {name: {'images': f'{name}, {when}'} for name in FIGURES}
    for group, images, columns in groups(task):
        if columns.max() < scores.shape[1]:
            found = cell(scores[images][:, columns],
                         torch.from_numpy(task.test.labels)[images][:, columns])
            for name in FIGURES:
                rows[name][group] = found[name]
    return list(rows.values())


def groups(task: SceneTask) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield the groups of paper B: name, rows of the test scenes, numbers of the objects."""
    sets = task.sets
    yield 'X_id', sets.x_id, sets.y_id
    yield 'Y_id on X_ood', sets.x_ood, sets.y_id
    yield 'Y_ood on X_ood', sets.x_ood, sets.y_ood


def cell(scores: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    """
    Return all figures of a group, from (N, C) scores and (N, C) bool.

    accuracy and F1 are those of metrics.presence, at a threshold of 0.5. AUROC has no threshold:
    how often an object that is present has a higher score than one that is absent.
    """
    accuracy, f1 = metrics.presence(scores, truth, range(scores.shape[1]))
    auroc = metrics.unknown_detection(scores[truth], scores[~truth]).auroc
    return {'accuracy': accuracy, 'F1': f1, 'AUROC': auroc}


def share_present(task: SceneTask) -> dict[str, float]:
    """Return the part of the objects that is present, of each group; else all are absent."""
    return {f'present, {group}': float(task.test.labels[images][:, columns].mean())
            for group, images, columns in groups(task)}
