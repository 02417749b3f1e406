"""
Distil a teacher into a student that runs on the robot.

python training/distill.py                                  # the shipped recipe on the sample
python training/distill.py --config config/distill/vl2v_adip.yaml --seed 1
torchrun --nproc-per-node 4 training/distill.py --config config/distill/ood.yaml

Writes student.safetensors, result.json, report.html and TensorBoard logs into
<out>/<name>_seed<seed>. The same command resumes a run that was stopped.
"""
from collections.abc import Mapping, Sequence
from dataclasses import replace
import json
import os
from pathlib import Path
import resource
import sys
import time
from typing import Any

from lightning_fabric import Fabric
import torch
from training.data.captions import read_captions
from training.data.class_names import read_classes
from training.data.task import read_task, shard_task, Task, vocabulary_of
from training.evaluate import show
from training.learning import loop, mixture, trainer
from training.learning.batches import Batches, index_batches, shard_batches
from training.learning.memory import Memory, prototypes_of, remember
from training.learning.trainee import build, check_hub, mean_and_std, Trainee
from training.learning.trainer import PASSING, STATE
from training.measuring.student import evaluate, Page
from training.recipe import Recipe, TeacherSource
from training.recipe_file import plain, read_command
from training.teachers import opening
from training.teachers.embedding_cache import CachedTeacher, embeddings, Views
from training.teachers.queries import Queries
from training.teachers.teacher import OpenClipTeacher, Teacher
import tyro
from vl2v_ros.files import replacing
from vl2v_ros.model import checkpoint
from vl2v_ros.model.spec import StudentSpec
from vl2v_ros.words import vocabulary
from vl2v_ros.words.cached_text import default_cache_dir
from vl2v_ros.words.encoder import TextEncoder
from vl2v_ros.words.labels import check_labels

RESULT = 'result.json'


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
        temperature=recipe.temperature, templates=recipe.data.templates, teacher=teacher.identity,
        trained_on=f'{what}, recipe {recipe.name}, seed {recipe.seed}', **normalisation)
    torch.manual_seed(recipe.seed)
    return build(recipe.student, spec, trained if recipe.student.closed_set else None, tower)


def size(task: Task) -> str:
    """Return a text with the amount of training data."""
    images = f'{len(task.train)} images' if len(task.train) else 'shards'
    return f'{images} of {task.trained} classes'


def distill(recipe: Recipe, fabric: Fabric) -> dict[str, Any]:
    """
    Run or resume a recipe, and return its results.

    :raises ValueError: for a recipe or data that do not fit.
    :raises loop.Stopped: for a loss that is not finite, or when interrupted.
    :raises OSError: if the state or the results cannot be saved; the last saved state stays.
    """
    folder = recipe.out / f'{recipe.name}_seed{recipe.seed}'
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / RESULT).is_file():
        return finished(recipe, folder)
    if recipe.student.weights == 'hub':
        check_hub(recipe.student.backbone)
    if recipe.data.sources:
        return distill_mixture(recipe, fabric, folder)
    shards = None
    if recipe.data.shards:
        task, shards = shard_task(recipe.data)
    else:
        task = read_task(recipe.data)
    teacher = opening.open_teacher(recipe.teacher, str(fabric.device))
    queries = Queries()
    encoder = opening.cached(teacher, recipe.teacher, queries)
    words = vocabulary_of(task.labels, recipe.data, encoder)
    cached = CachedTeacher(teacher, default_cache_dir() / 'embeddings', queries)
    prototypes = torch.tensor(words.prototypes[:task.trained])
    if shards:
        batches = shard_batches(fabric, recipe, shards, teacher, prototypes,
                                task.class_names[:task.trained], folder / 'corrupt.txt')
    else:
        targets = embeddings(task.train, cached, Views(
            recipe.views, recipe.augmentation, recipe.seed))
        batches = index_batches(fabric, recipe, task.train, targets, prototypes,
                                caption_rows(recipe, task, encoder))
    trainee = new_trainee(recipe, task.trained, size(task), teacher, folder)
    batch = min(recipe.batch, len(task.train) or recipe.batch)
    result, curves = learn(recipe, fabric, trainee, teacher, batches, batch, size(task), folder)
    if fabric.is_global_zero:
        result |= evaluate(
            trainee, task, words, cached, Page(
                folder, f'{recipe.name}, seed {recipe.seed}',
                {'backbone': recipe.student.backbone, 'teacher': teacher.identity,
                 'training': f"{result['training_seconds']:.0f} s on {fabric.device}"}, curves))
        finish(recipe, trainee, queries, result, folder)
    fabric.barrier()
    return result


def distill_mixture(recipe: Recipe, fabric: Fabric, folder: Path) -> dict[str, Any]:
    """Run a recipe with sources, as `distill` does; nothing is tested, see naming.py."""
    teacher, queries = opening.open_teacher(recipe.teacher, str(fabric.device)), Queries()
    classes = read_classes(recipe.student.classes) if recipe.student.classes else ()
    names = tuple(dict.fromkeys((*mixture.labels_of(recipe.data.sources), *classes)))
    prototypes = torch.empty(0, teacher.width)
    if names:
        encoder = opening.cached(teacher, recipe.teacher, queries)
        prototypes = torch.tensor(vocabulary.build(
            check_labels(names), encoder, 1, recipe.data.templates).prototypes)
    known = mixture.read_sources(recipe, names, CachedTeacher(
        teacher, default_cache_dir() / 'embeddings', queries))
    what = ', '.join(f'{len(one.index)} of {one.index.root.name}' for one in known)
    trainee = new_trainee(recipe, len(names), f'images: {what}', teacher, folder)
    known = mixture.with_start(known, recipe, trainee)
    batches = mixture.mixture_batches(fabric, recipe, known, prototypes)
    memory = Memory(trainee, Path(recipe.student.weights), prototypes_of(
        classes, names, prototypes)) if classes else None
    if memory and recipe.student.projector == 'mlp':
        remember(trainee, memory)
    result, _ = learn(recipe, fabric, trainee, teacher, batches, recipe.batch, what, folder,
                      memory)
    if fabric.is_global_zero:
        finish(recipe, trainee, queries, result, folder)
    fabric.barrier()
    return result


def learn(recipe: Recipe, fabric: Fabric, trainee: Trainee, teacher: Teacher, batches: Batches,
          batch: int, what: str, folder: Path, memory: Memory | None = None
          ) -> tuple[dict[str, object], Mapping[str, Sequence[tuple[int, float]]]]:
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
    with replacing(folder / RESULT) as temporary:
        temporary.write_text(json.dumps(result, indent=1))
    (folder / STATE).unlink(missing_ok=True)


def peak_memory(fabric: Fabric) -> dict[str, int]:
    """Return the peak memory of this process, and its peak memory on the GPU [MiB]."""
    peak = {'memory [MiB]': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}
    if fabric.device.type == 'cuda':
        peak['GPU memory [MiB]'] = torch.cuda.max_memory_allocated() >> 20
    return peak


def caption_rows(recipe: Recipe, task: Task, encoder: TextEncoder) -> torch.Tensor | None:
    """Return (N, D) embeddings of the training images' captions, if the loss has that term."""
    if not recipe.loss.caption:
        return None
    assert recipe.data.captions is not None  # a recipe with that term has them
    said = read_captions(recipe.data.captions, task.train)
    return torch.from_numpy(encoder.encode(said).rows)


def finished(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Return the results of a complete run; raises ValueError if they are of another recipe."""
    result = json.loads((folder / RESULT).read_text())
    now = json.loads(json.dumps(plain(recipe)))
    if any(result.get('recipe', {}).get(name) != value for name, value in now.items()
           if name not in PASSING):
        raise ValueError(f'{folder} holds the results of another recipe; choose another --name '
                         'or --out, or delete it')
    print(f'{folder} is complete; delete it to train again')
    return result


def make_fabric(recipe: Recipe) -> Fabric:
    """
    Return Fabric for one process, or for those that torchrun started.

    :raises ValueError: for a device that does not exist.
    """
    world = int(os.environ.get('WORLD_SIZE', 1))
    local = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    precision: Any = recipe.precision  # Fabric's type is a list of all its names
    try:
        fabric = Fabric(accelerator=recipe.device, devices=local, num_nodes=world // local,
                        strategy='ddp' if world > 1 else 'auto', precision=precision)
    except (RuntimeError, ImportError) as error:
        raise ValueError(f'device: {error}') from error
    fabric.launch()
    return fabric


def parse(arguments: list[str]) -> Recipe:
    """Return the recipe of a command line: --config FILE, and any field of it."""
    recipe, others = read_command(arguments)
    return tyro.cli(Recipe, default=recipe, args=others, description=__doc__)


def main() -> None:
    """Distil as the command line says, and print the table of results."""
    try:
        recipe = parse(sys.argv[1:])
        fabric = make_fabric(recipe)
        result = distill(recipe, fabric)
    except (ValueError, loop.Stopped) as error:
        sys.exit(f'distill: {error}')
    except OSError as error:
        sys.exit(f'distill: stopped: {error}; the same command resumes the run')
    except KeyboardInterrupt:
        sys.exit('distill: interrupted; the same command resumes the run')
    if fabric.is_global_zero:
        if 'table' in result:
            show(result)
        print(', '.join(f'{name} {value}' for name, value in {
            'training [s]': result['training_seconds'], **result.get('cost', {})}.items()))


if __name__ == '__main__':
    main()
