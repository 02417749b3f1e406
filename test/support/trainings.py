"""Trainings that can be stopped: tiny runs of the trainer, in this process or in others."""
from collections.abc import Callable, Iterator, Mapping
import itertools
import math
import multiprocessing
import os
from pathlib import Path
import signal
import socket
from typing import Any

import cv2
import numpy as np
from safetensors.torch import save_file
from support import tiny_models
from support.warm import LIMIT, PROCESSES
import torch
from torch import nn
from training import distill
from training.data.image_index import Index, read_folders
from training.data.shards import find_shards
from training.learning import loop, run_state, trainer
from training.learning.batches import Batches, index_batches, shard_batches
from training.learning.trainee import Trainee
from training.recipe import Loss, Recipe, Stage, StudentSource
from training.teachers.teacher import CallableTeacher

CLASSES = ('disc', 'ring', 'square')
VIEWS = 2
RECIPE = Recipe(
    name='test', student=StudentSource('test_resnet', '', 32),
    stages=(Stage('projector', 1, 1e-2), Stage('all', 2, 1e-3)),
    loss=Loss(cls=1, im_cst=1), views=VIEWS, average=0.5, batch=4, device='cpu',
    workers=0, save_every=2)  # 3 steps an epoch
STEPS = 9


def write_images(root: Path) -> Path:
    """Write four images of each of three classes into a folder, and return it."""
    rng = np.random.default_rng(0)
    for name in CLASSES:
        for number in range(4):
            image = rng.integers(0, 80, (40, 40, 3), np.uint8)
            centre, colour = (20, int(rng.integers(15, 25))), rng.integers(100, 255, 3).tolist()
            if name == 'square':
                cv2.rectangle(image, (10, centre[1] - 8), (30, centre[1] + 8), colour, -1)
            else:
                cv2.circle(image, centre, 10, colour, -1 if name == 'disc' else 3)
            file = root / name / f'{number}.png'
            file.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(file), image)
    return root


def guide(index: Index) -> tuple[np.ndarray, torch.Tensor]:
    """Return what a teacher might say: (N, V, D) float16 unit rows, and (C, D) prototypes."""
    rng = np.random.default_rng(1)
    prototypes = rng.normal(size=(len(CLASSES), tiny_models.WIDTH))
    rows = prototypes[index.labels, None] + 0.5 * rng.normal(
        size=(len(index), VIEWS, tiny_models.WIDTH))
    rows, prototypes = (part / np.linalg.norm(part, axis=-1, keepdims=True)
                        for part in (rows, prototypes))
    return rows.astype(np.float16), torch.tensor(prototypes, dtype=torch.float32)


def see(pixels: np.ndarray) -> np.ndarray:
    """Embed (B, S, S, 3) uint8 as a teacher that is asked might do."""
    return pixels.reshape(len(pixels), -1, tiny_models.WIDTH).mean(1) + 1.0


def new_trainee(dropout: bool = True) -> Trainee:
    student = tiny_models.student()
    if dropout:  # which draws random numbers in each step
        student.projector = nn.Sequential(nn.Dropout(0.3), student.projector)
    return Trainee(student)


def at_batch(batches: Batches, at: int, do: Callable[[], None]) -> Batches:
    """Do something before batch `at` comes."""
    numbers = itertools.count(1)

    def draw(epoch: int, step: int) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        for batch in batches.draw(epoch, step):
            if next(numbers) == at:
                do()
            yield batch

    return Batches(batches.per_epoch, draw)


def signal_all(number: int) -> None:
    """Send a signal to this process; SIGINT, as a terminal does, to those that load images too."""
    if number == signal.SIGINT:
        signal_loaders(number)
    os.kill(os.getpid(), number)


def signal_loaders(number: int) -> None:
    for child in multiprocessing.active_children():
        os.kill(child.pid, number)


def learn(data: Path, out: Path, recipe: Recipe, at: int = 0,
          number: int = signal.SIGKILL, broken: int | None = None, dropout: bool = True
          ) -> run_state.Progress:
    """Train; write weights and gradients, or what went wrong. `broken`: row without target."""
    multiprocessing.set_start_method('fork', force=True)  # of those that load images
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    out.mkdir(exist_ok=True, parents=True)
    fabric = distill.make_fabric(recipe)
    index = read_folders(data)
    targets, prototypes = guide(index)
    if broken is not None:
        targets[broken] = math.nan
    trainee = new_trainee(dropout)
    if recipe.data.shards:
        teacher = CallableTeacher(see, None, 'pixels', tiny_models.WIDTH, 16)
        batches = shard_batches(fabric, recipe, find_shards(recipe.data.images), teacher,
                                prototypes, CLASSES, out / 'corrupt.txt')
    else:
        batches = index_batches(fabric, recipe, index, targets, prototypes)
    try:
        progress = trainer.train(fabric, trainee, recipe,
                                 at_batch(batches, at, lambda: signal_all(number)), out)
    except (loop.Stopped, OSError, ValueError) as error:
        (out / f'said{fabric.global_rank}').write_text(str(error))
        raise
    finally:
        torch.set_num_threads(threads)
    weights = {name: weight.contiguous() for name, weight in trainee.state_dict().items()}
    gradients = {f'gradient of {name}': weight.grad.contiguous()
                 for name, weight in trainee.named_parameters() if weight.grad is not None}
    curves = {f'curve of {name}': torch.tensor([value for _, value in points])
              for name, points in progress.curves.items()}
    save_file({**weights, **gradients, **curves},
              out / f'weights{fabric.global_rank}.safetensors')
    return progress


def rank_learns(rank: int, world: int, nodes: int, port: int, arguments: dict[str, Any]) -> None:
    """Train as one of several processes, told so as torchrun does."""
    local = world // nodes
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank % local), WORLD_SIZE=str(world),
                      LOCAL_WORLD_SIZE=str(local), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port),
                      GROUP_RANK=str(rank // local), TORCHELASTIC_RUN_ID='test')
    learn(**arguments)


def run(world: int = 1, nodes: int = 1, of_rank: Mapping[int, dict[str, Any]] = {},
        **arguments: Any) -> list[int]:
    """
    Train in processes of their own and return their exit codes.

    :param nodes: over how many nodes they are spread.
    :param of_rank: what single processes are given; only the first is sent a signal without it.
    """
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    processes = [
        PROCESSES.Process(target=learn, kwargs=arguments) if world == 1 else
        PROCESSES.Process(target=rank_learns, args=(rank, world, nodes, port, {
            **arguments, **({'at': 0} if rank else {}), **of_rank.get(rank, {})}))
        for rank in range(world)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(LIMIT)
        return [process.exitcode for process in processes]
    finally:
        for process in processes:
            process.kill()


def weights(out: Path, rank: int = 0) -> bytes:
    return (out / f'weights{rank}.safetensors').read_bytes()


def state(out: Path) -> dict[str, Any]:
    return torch.load(out / trainer.STATE, weights_only=True)
