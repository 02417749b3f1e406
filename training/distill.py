"""
Distil a teacher into a student that runs on the robot.

python training/distill.py                                  # the shipped recipe on the sample
python training/distill.py --config config/distill/vl2v_adip.yaml --seed 1
torchrun --nproc-per-node 4 training/distill.py --config config/distill/ood.yaml

Writes student.safetensors, result.json, report.html and TensorBoard logs into
<out>/<name>_seed<seed>. The same command resumes a run that was stopped.
"""
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
import json
import os
from pathlib import Path
import sys
from typing import Any

from lightning_fabric import Fabric
import torch
from torch import nn
from training.data.captions import read_captions
from training.data.class_names import read_classes
from training.data.image_index import Index
from training.data.scenes import pair_of, read_scene_task, SceneTask
from training.data.task import read_task, shard_task, Task, vocabulary_of
from training.evaluate import show
from training.learning import loop, mixture
from training.learning.batches import Batches, index_batches, shard_batches
from training.learning.memory import Memory, prototypes_of, remember
from training.learning.run import Curves, finish, learn, new_trainee, RESULT
from training.learning.run_state import check_same
from training.learning.trainee import check_hub, Trainee
from training.learning.trainer import PASSING, STATE
from training.measuring import presence
from training.measuring.student import evaluate, Page, taught
from training.recipe import Recipe
from training.recipe_file import plain, read_command
from training.teachers import opening
from training.teachers.embedding_cache import CachedTeacher, embeddings, Views
from training.teachers.queries import Queries
from training.teachers.teacher import Teacher
import tyro
from vl2v_ros.model import checkpoint
from vl2v_ros.words import vocabulary
from vl2v_ros.words.cached_text import default_cache_dir
from vl2v_ros.words.encoder import TextEncoder
from vl2v_ros.words.labels import check_labels

FEW = 'few'  # folder of the state and the logs of the training with data.few
ZERO_SHOT = 'zero_shot.safetensors'  # the student before it


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
    complete = (folder / RESULT).is_file()
    check_same(fabric, (complete,), folder / RESULT)
    if complete:
        return finished(recipe, folder)
    if recipe.student.weights == 'hub':
        check_hub(recipe.student.backbone)
    if recipe.data.sources:
        return distill_mixture(recipe, fabric, folder)
    if recipe.data.presence:
        return distill_presence(recipe, fabric, folder)
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
    prototypes = torch.tensor(words.prototypes)

    def batches(of: Recipe, index: Index, classes: int, fresh: int = 0) -> Batches:
        targets = embeddings(index, cached, Views(of.views, of.augmentation, of.seed))
        return index_batches(fabric, of, index, targets, prototypes[:classes],
                             caption_rows(of, index, encoder), fresh=fresh)

    drawn = shard_batches(fabric, recipe, shards, teacher, prototypes[:task.trained],
                          task.class_names[:task.trained], folder / 'corrupt.txt') if shards else (
        batches(recipe, task.train, task.trained))
    trainee = new_trainee(recipe, task.trained, size(task), teacher, folder)
    batch = min(recipe.batch, len(task.train) or recipe.batch)
    result, curves = learn(recipe, fabric, trainee, teacher, drawn, batch, size(task), folder)
    if fabric.is_global_zero:
        page = Page(folder, f'{recipe.name}, seed {recipe.seed}', {
            'backbone': recipe.student.backbone, 'teacher': teacher.identity,
            'training': f"{result['training_seconds']:.0f} s on {fabric.device}"}, curves)
        result |= evaluate(trainee, task, words, cached, page)
    if task.few is not None:
        if fabric.is_global_zero and not recipe.student.closed_set:
            result['taught'] = taught(trainee, task, words)
        curves = learn_few(recipe, fabric, trainee, teacher, task, batches, folder)
        if fabric.is_global_zero:
            result['few'] = evaluate(trainee, task, words, cached, replace(
                page, folder=folder / FEW, curves=curves), choose=False)
    if fabric.is_global_zero:
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
    known = mixture.with_start(fabric, known, recipe, trainee)
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


def distill_presence(recipe: Recipe, fabric: Fabric, folder: Path) -> dict[str, Any]:
    """
    Run a recipe with scenes: learn from those with id objects only, then from the few others.

    Both students are measured: the first has never seen an ood object.

    :raises ValueError, loop.Stopped, OSError: as `distill` does.
    """
    task = read_scene_task(recipe.data)
    teacher, queries = opening.open_teacher(recipe.teacher, str(fabric.device)), Queries()
    pair = pair_of(task, recipe.data, opening.cached(teacher, recipe.teacher, queries))
    cached = CachedTeacher(teacher, default_cache_dir() / 'embeddings', queries)

    def batches(of: Recipe, index: Index, classes: int, fresh: int = 0) -> Batches:
        targets = embeddings(index, cached, Views(of.views, of.augmentation, of.seed))
        chosen = pair.first(classes)
        return index_batches(fabric, of, index, targets, chosen.present, absent=chosen.absent,
                             fresh=fresh)

    what = f'{len(task.train)} scenes of {task.trained} classes'
    trainee = new_trainee(recipe, task.trained, what, teacher, folder)
    result, _ = learn(recipe, fabric, trainee, teacher,
                      batches(recipe, task.train, task.trained),
                      min(recipe.batch, len(task.train)), what, folder)
    if fabric.is_global_zero:
        table = presence.student_table(trainee, task, pair, 'zero-shot')
        result |= {'table': table,
                   'teacher': presence.teacher_table(task, pair, cached, recipe.temperature,
                                                     'zero-shot'),
                   'figures': presence.share_present(task), 'left_out': []}
    if task.few is not None:
        learn_few(recipe, fabric, trainee, teacher, task, batches, folder)
        if fabric.is_global_zero:
            table += presence.student_table(trainee, task, pair, f'{task.fresh} scenes')
    if fabric.is_global_zero:
        finish(recipe, trainee, queries, result, folder)
    fabric.barrier()
    return result


def learn_few(recipe: Recipe, fabric: Fabric, trainee: Trainee, teacher: Teacher,
              task: Task | SceneTask, batches: Callable[[Recipe, Index, int, int], Batches],
              folder: Path) -> Curves:
    """
    Learn from a few images of new classes, beside those of before; return the curves of the loss.

    The student of before is kept as ZERO_SHOT.

    :param batches: (recipe, images, number of classes, how many are fresh) -> their batches.
    :raises ValueError, loop.Stopped, OSError: as `distill` does.
    """
    assert task.few is not None, 'only where data.few is given'
    if fabric.is_global_zero and not recipe.student.closed_set:
        checkpoint.save(deepcopy(trainee.student).half(), folder / ZERO_SHOT)
    few, classes = replace(recipe, stages=recipe.few_stages), len(task.class_names)
    torch.manual_seed(recipe.seed)  # as a resumed run draws the new outputs, too
    widen(trainee, classes)
    what = (f'{task.fresh} images with new classes, {classes} in all, beside '
            f'{len(task.few) - task.fresh} of before')
    _, curves = learn(few, fabric, trainee, teacher, batches(few, task.few, classes, task.fresh),
                      min(recipe.batch, len(task.few)), what, folder / FEW)
    if fabric.is_global_zero:
        (folder / FEW / STATE).unlink(missing_ok=True)
    return curves


def widen(trainee: Trainee, classes: int) -> None:
    """Give a trainee's closed-set head, if it has one, outputs for more classes."""
    head = trainee.head
    if head is not None:
        trainee.head = nn.Linear(head.in_features, classes).to(head.weight.device)
        with torch.no_grad():
            trainee.head.weight[:head.out_features] = head.weight
            trainee.head.bias[:head.out_features] = head.bias


def caption_rows(recipe: Recipe, index: Index, encoder: TextEncoder) -> torch.Tensor | None:
    """Return (N, D) embeddings of the images' captions, if the loss has that term."""
    if not recipe.loss.caption:
        return None
    assert recipe.data.captions is not None  # a recipe with that term has them
    said = read_captions(recipe.data.captions, index)
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
        if 'few' in result:
            print(f'After {recipe.data.few} images of each new class:\n')
            show(result['few'])
        print(', '.join(f'{name} {value}' for name, value in {
            'training [s]': result['training_seconds'], **result.get('cost', {})}.items()))


if __name__ == '__main__':
    main()
