"""Run: what every distillation does, from a new student to its file and its results."""
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
import resource
import time
from typing import Any, TypeAlias

from lightning_fabric import Fabric
import torch
from training.learning import trainer
from training.learning.batches import Batches
from training.learning.memory import Memory
from training.learning.trainee import build, mean_and_std, Trainee
from training.learning.trainer import STATE
from training.recipe import Recipe, TeacherSource
from training.recipe_file import plain
from training.teachers import opening
from training.teachers.queries import Queries
from training.teachers.teacher import OpenClipTeacher, Teacher
from vl2v_ros.files import write_json
from vl2v_ros.model import checkpoint
from vl2v_ros.model.spec import StudentSpec

RESULT = 'result.json'
Curves: TypeAlias = Mapping[str, Sequence[tuple[int, float]]]
"""The loss and its terms, each over steps."""


def new_trainee(recipe: Recipe, trained: int, what: str, teacher: Teacher, folder: Path
                ) -> Trainee:
    """
    Return a trainee with the first weights of the recipe; raises ValueError as `build` does.

    :param trained: number of classes to train on.
    :param what: description of the training data, stored in the checkpoint.
    """
    tower = None
    normalisation: dict[str, Any] = mean_and_std(recipe.student.backbone)
    if recipe.student.weights == 'teacher' and isinstance(teacher, OpenClipTeacher):
        tower = teacher.model.visual
        normalisation = {'mean': tuple(teacher.mean.flatten().tolist()),
                         'std': tuple(teacher.std.flatten().tolist())}
    spec = StudentSpec(
        recipe.student.backbone, teacher.width, recipe.student.image_size,
        opening.tower_beside(recipe.teacher, teacher, folder), projector=recipe.student.projector,
        temperature=recipe.temperature, templates=recipe.data.templates,
        presence=recipe.data.presence, teacher=teacher.identity,
        trained_on=f'{what}, recipe {recipe.name}, seed {recipe.seed}', **normalisation)
    torch.manual_seed(recipe.seed)
    return build(recipe.student, spec, trained if recipe.student.closed_set else None, tower)


def learn(recipe: Recipe, fabric: Fabric, trainee: Trainee, teacher: Teacher, batches: Batches,
          batch: int, what: str, folder: Path, memory: Memory | None = None
          ) -> tuple[dict[str, object], Curves]:
    """
    Train; return the result so far (with time [s] and memory [MiB]) and the curves of the loss.

    :param batch: images per step.
    :param what: description of the training data, for the log.
    :raises ValueError, loop.Stopped, OSError: as trainer.train does.
    """
    print(f'{recipe.name}: {what}; student {recipe.student.backbone} on {fabric.device}, '
          f'{fabric.world_size} process(es)')
    start, resumed = time.monotonic(), (folder / STATE).is_file()
    # The identity of the teacher tells runs apart, not the place of its files.
    shared = replace(recipe, teacher=TeacherSource(teacher.identity, ''))
    progress = trainer.train(fabric, trainee, shared, batches, folder, memory)
    seconds = time.monotonic() - start
    result = {'recipe': plain(recipe), 'training_seconds': round(seconds, 1)}
    if not resumed:
        count = sum(stage.epochs for stage in recipe.stages) * batches.per_epoch * batch
        result['cost'] = {'images/s': round(count / seconds, 1), **peak_memory(fabric)}
    return result, progress.curves


def finish(recipe: Recipe, trainee: Trainee, queries: Queries, result: dict[str, object],
           folder: Path) -> None:
    """Write the student and the results, and delete the state of the run."""
    print(f'queries to the teacher: {queries}')
    result['queries'] = queries.plain()
    if not recipe.student.closed_set:
        # In half precision: the file is half as large, and a GPU computes in it anyway.
        checkpoint.save(trainee.student.half(), folder / 'student.safetensors')
    write_json(folder / RESULT, result)
    (folder / STATE).unlink(missing_ok=True)


def peak_memory(fabric: Fabric) -> dict[str, int]:
    """Return the peak memory of this process, and its peak memory on the GPU [MiB]."""
    peak = {'memory [MiB]': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}
    if fabric.device.type == 'cuda':
        peak['GPU memory [MiB]'] = torch.cuda.max_memory_allocated() >> 20
    return peak
