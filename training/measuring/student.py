"""Measure a student: its accuracy, how it generalises, how well it detects unknown images."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from training.data.image_index import Index
from training.data.task import Task
from training.learning.trainee import outputs, Trainee
from training.measuring import metrics
from training.measuring.pages import report
from training.measuring.pages.tables import (
    accuracy_by_domain,
    confusion,
    in_domains,
    mistakes,
    scene_objects,
)
from training.teachers.embedding_cache import CachedTeacher, embeddings, Views
from vl2v_ros.model.spec import StudentSpec
from vl2v_ros.words.vectors.examples import Examples, scale_of
from vl2v_ros.words.vocabulary import Vocabulary

ALIGNED = (2, 3, 5)  # k of M_vlalign, as in the paper


class Rows(NamedTuple):
    """
    Embeddings and similarities of N images.

    student, teacher: (N, D) unit embeddings. similarities: (N, C) of the student to the labels, or
    the logits of a closed set. guided: (N, C) similarities of the teacher.
    """

    student: torch.Tensor
    teacher: torch.Tensor
    similarities: torch.Tensor
    guided: torch.Tensor


@dataclass(frozen=True, eq=False)
class Page:
    """
    Where report.html goes, and what it says beside the figures.

    facts: name -> value, such as the teacher's.
    curves: term of the loss -> [(step, value)]; empty: no chart of them.
    """

    folder: Path
    title: str
    facts: Mapping[str, str]
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)


def embed(trainee: Trainee, index: Index, vocabulary: Vocabulary, cached: CachedTeacher) -> Rows:
    """Embed the plain images of an index by student and teacher."""
    prototypes = torch.tensor(vocabulary.prototypes)  # (C, D)
    student, logits = outputs(trainee, index)
    views = Views(resize_mode=trainee.student.spec.resize_mode)
    answers = embeddings(index, cached, views)[:, 0]
    guide = torch.from_numpy(answers.astype(np.float32))
    return Rows(student, guide, student @ prototypes.T if logits is None else logits,
                guide @ prototypes.T)


def evaluate(trainee: Trainee, task: Task, vocabulary: Vocabulary, cached: CachedTeacher,
             page: Page, choose: bool = True) -> dict[str, Any]:
    """
    Measure a student on the test images of a task, and write its page.

    Calibration and unknown detection are measured on every other image of the classes and domains
    trained on; temperature and unknown threshold are chosen on the rest.

    :param vocabulary: prototypes of all classes of the task.
    :param choose: write the chosen temperature and threshold into the student's spec; otherwise
        measure those that it has.
    :return: table, teacher (its table), per_domain, figures and left_out, as values for JSON.
    :raises ValueError: for scenes that do not fit the task, or as `embeddings` does.
    """
    labels, prototypes = torch.tensor(task.test.labels), torch.tensor(vocabulary.prototypes)
    seen = in_domains(task.test, task.seen_domains)
    rows = embed(trainee, task.test, vocabulary, cached)
    result: dict[str, Any] = {'table': accuracy_by_domain(rows.similarities, task.test, task),
                              'teacher': accuracy_by_domain(rows.guided, task.test, task)}
    if task.scenes is not None:
        objects, with_ood = scene_objects(task.scenes, task)
        in_scenes = embed(trainee, objects, vocabulary, cached)
        for name, found in (('table', in_scenes.similarities), ('teacher', in_scenes.guided)):
            result[name] += accuracy_by_domain(found, objects, task, with_ood, 'in scenes, ')
    known, new = (labels < task.trained) & seen, (labels >= task.trained) & seen
    figures: dict[str, float] = {}
    if trainee.head is None:
        figures |= against_teacher(rows, known, prototypes[:task.trained])
        figures |= {f'ood {name}': value
                    for name, value in against_teacher(rows, new, prototypes).items()}
    listed = rows.similarities[:, :task.trained]
    more, bins, left_out = trust(trainee, listed[known], labels[known], listed[new].amax(1),
                                 choose)
    figures |= more
    per_domain: dict[str, float] = {}
    for name in task.test.domain_names:
        mine = (labels < task.trained) & in_domains(task.test, (name,))
        if mine.any():
            per_domain[name] = metrics.accuracy(listed[mine], labels[mine])
    result |= {'figures': figures, 'left_out': left_out, 'per_domain': per_domain}
    scores = (rows.similarities / scale(trainee)).softmax(1)  # (N, C)
    report.write(report.Report(
        title=page.title, facts={**page.facts, **{name: f'{value:.4g}'
                                                  for name, value in figures.items()}},
        table=result['table'], per_domain=per_domain,
        confusion=confusion(scores, labels), labels=task.labels[:scores.shape[1]],
        mistakes=mistakes(scores, task), losses=page.curves, reliability=bins,
        ece=figures.get('ECE', 0.0)), page.folder / 'report.html')
    return result


def taught(trainee: Trainee, task: Task, vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """
    Return the table of a student that is shown the images of `task.few`, and does not learn.

    Each class that is new with them has the prototype that `~/teach` would give it on the robot.
    """
    assert task.few is not None, 'only where data.few is given'
    spec, prototypes = trainee.student.spec, vocabulary.prototypes.copy()  # (C, D)
    fresh = task.few.take(np.arange(task.fresh))
    shown, labels = outputs(trainee, fresh)[0].numpy(), np.asarray(fresh.labels)
    for label in np.unique(labels):
        prototypes[label] = Examples(shown[labels == label]).prototype(
            prototypes[label], scale_of(spec.unknown_threshold))
    embedded, _ = outputs(trainee, task.test)
    return accuracy_by_domain(embedded @ torch.from_numpy(prototypes).T, task.test, task)


def against_teacher(rows: Rows, part: torch.Tensor, prototypes: torch.Tensor) -> dict[str, float]:
    """Return feature distance and M_vlalign of the images in the (N,) mask; empty for none."""
    if not part.any():
        return {}
    student, guide = rows.student[part], rows.teacher[part]
    distance, angle = metrics.feature_distance(student, guide)
    return {'mse': distance, 'angle [deg]': angle} | {
        f'M_vlalign({k})': metrics.vl_alignment(student @ prototypes.T, guide @ prototypes.T, k)
        for k in ALIGNED if k <= len(prototypes)}


def scale(trainee: Trainee) -> float:
    """Return the divisor of similarities before the softmax; 1 for logits."""
    return trainee.student.spec.temperature if trainee.head is None else 1.0


def trust(trainee: Trainee, listed: torch.Tensor, labels: torch.Tensor, unknown: torch.Tensor,
          choose: bool) -> tuple[dict[str, float], list[metrics.Bin], list[str]]:
    """
    Calibrate on every other image if `choose` is true, and measure calibration on the rest.

    :param listed: (N, C) similarities to the labels trained on, of images of them.
    :param labels: (N,) int64, their labels.
    :param unknown: (M,) best similarities of images of other classes.
    :return: figures, the bins of a reliability diagram, and what was left out.
    """
    if len(listed) < 2:
        return {}, [], ['calibration and unknown detection: expected at least 2 test images of '
                        f'classes and domains trained on, got {len(listed)}']
    figures: dict[str, float] = {}
    if trainee.head is None:
        if choose:
            trainee.student.spec = calibrated(trainee.student.spec, listed[::2], labels[::2])
        figures = unknown_figures(trainee.student.spec, listed[1::2], labels[1::2], unknown)
    ece, bins = metrics.calibration((listed[1::2] / scale(trainee)).softmax(1), labels[1::2])
    return {**figures, 'ECE': ece}, bins, []


def calibrated(spec: StudentSpec, listed: torch.Tensor, labels: torch.Tensor) -> StudentSpec:
    """
    Return the spec with the best temperature, and a threshold that 95 % of the images reach.

    :param listed: (N, C) similarities, of which (N,) `labels` are the true ones.
    """
    best = listed.amax(1)
    threshold = metrics.unknown_detection(best, best).threshold
    return replace(spec, temperature=metrics.fit_temperature(listed, labels),
                   unknown_threshold=min(1.0, max(-1.0, threshold)))


def unknown_figures(spec: StudentSpec, listed: torch.Tensor, labels: torch.Tensor,
                    unknown: torch.Tensor) -> dict[str, float]:
    """
    Measure unknown detection among the labels trained on.

    :param listed: (N, C) similarities, of which (N,) `labels` are the true ones.
    :param unknown: (M,) best similarities of images of other classes; if there is none, each known
        image is once known, and once unknown, its own label being left out of the list.
    """
    if not len(unknown):
        unknown = listed.scatter(1, labels[:, None], -2.0).amax(1)
    found = metrics.unknown_detection(listed.amax(1), unknown)
    return {'temperature': spec.temperature, 'unknown threshold': spec.unknown_threshold,
            'AUROC': found.auroc, 'FPR95': found.fpr95}
