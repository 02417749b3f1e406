"""
Measure the time from frames in host memory to labels, of the student and of CLIP's image towers.

python benchmarks/component.py

It needs no ROS. The student runs as on the robot. open_clip's ViT-B/32, which is its teacher, and
ViT-B/16 run as most nodes run them: open_clip's own transform on PIL images, then PyTorch, in half
precision on a GPU. In the rows 'our runtime' these ViTs have the resize and the engine of the
student, so only the model differs. A student with its ONNX file beside it is measured by ONNX
Runtime, too. The weights of the towers are random, as only time is measured.
The models take turns round by round, so other work of the machine slows all of them alike.
"""
from collections.abc import Callable, Iterator
import copy
from dataclasses import asdict, dataclass
from functools import cache
from itertools import cycle
import logging
from pathlib import Path
import re
import statistics
import sys
from tempfile import TemporaryDirectory
import time
from typing import Any, cast

from benchmarks import machine
import numpy as np
import open_clip
from PIL import Image
import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm
import tyro
from vl2v_ros.files import write_json
from vl2v_ros.images.frame import Frame
from vl2v_ros.model import checkpoint
from vl2v_ros.model.checkpoint import StoredStudent
from vl2v_ros.model.classifier import Classifier
from vl2v_ros.model.spec import StudentSpec
from vl2v_ros.model.student import Student
from vl2v_ros.words.encoder import TextTower
from vl2v_ros.words.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parent.parent
Label = Callable[[np.ndarray], object]  # frames (B, H, W, 3)
"""(H, W, 3) uint8 RGB frames -> the labels of each."""


@dataclass(frozen=True)
class Options:
    """What is measured."""

    checkpoint: Path = ROOT / 'models/student.safetensors'  # The student to measure.
    width: int = 1280  # Width of the frames [px].
    height: int = 720  # Height of the frames [px].
    batches: tuple[int, ...] = (1, 4, 16)  # Batch sizes.
    only: tuple[str, ...] = ()  # Names of the models to measure; none: all.
    labels: int = 100
    """Number of labels in the vocabulary; their prototypes are random."""
    top_k: int = 5  # Number of labels per result.
    rounds: int = 5  # Number of rounds; in each, every model is measured once.
    seconds: float = 0.5
    """Duration of a measurement, per round, model and batch size [s]; at least one batch."""
    device: str = 'auto'
    """Device to measure on: auto, cpu, cuda or cuda:N; the CPU if there is no such GPU."""
    out: Path = ROOT / 'build/benchmarks/component.json'  # JSON file to write.


def say(line: str) -> None:
    """Print a line beside the progress bar."""
    tqdm.write(f'component: {line}')


def one_line(error: Exception) -> str:
    return f'{type(error).__name__}: {" ".join(str(error).split())[:200]}'


def pick_device(asked: str) -> str:
    """Return the device to measure on: the CPU if the wanted GPU is missing."""
    found = torch.cuda.device_count()
    wanted = re.fullmatch(r'auto|cpu|cuda(?::(\d+))?', asked, re.ASCII)
    if not wanted:
        raise ValueError(f'--device: expected auto, cpu, cuda or cuda:N, got {asked!r}')
    if asked == 'cpu':
        return asked
    if int(wanted[1] or 0) < found:
        return 'cuda' if asked == 'auto' else asked
    say(f'no GPU for --device {asked}: torch {torch.__version__} finds {found} CUDA devices; '
        'measures on the CPU')
    return 'cpu'


def vocabulary(labels: int, width: int) -> Vocabulary:
    """Return labels with random prototypes; no background."""
    rows = np.random.default_rng(0).standard_normal((labels, width)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = tuple(f'label {number}' for number in range(labels))
    return Vocabulary(names, ((),) * labels, rows, 1, (), names, rows, np.arange(labels), (),
                      rows[:0])


def by_our_runtime(student: 'Student | StoredStudent | Tower', options: Options, device: str
                   ) -> Label:
    """Return a function that labels frames as the robot does."""
    # A tower has all that a runtime asks a student for.
    classifier = Classifier(cast(Student, student), device)
    say(f'{student.spec.backbone} runs on {classifier.runtime.description}')
    words = vocabulary(options.labels, student.spec.width)
    return lambda frames: classifier.classify([Frame(pixels) for pixels in frames], words,
                                              options.top_k)


def as_commonly_done(model: Any, transform: Callable[[Image.Image], torch.Tensor],
                     width: int, options: Options, device: str) -> Label:
    """Return a function that labels frames by PIL and an open_clip model in PyTorch."""
    dtype = torch.float32 if device == 'cpu' else torch.float16
    model = copy.deepcopy(model).to(device, dtype)
    words = vocabulary(options.labels, width)
    prototypes = torch.from_numpy(words.prototypes).to(device, dtype)

    @torch.inference_mode()
    def label(frames: np.ndarray) -> list[list[str]]:
        images = torch.stack([transform(Image.fromarray(pixels)) for pixels in frames])
        embeddings = model.encode_image(images.to(device, dtype), normalize=True)
        top = (embeddings @ prototypes.T).topk(min(options.top_k, options.labels))
        return [[words.labels[index] for index in row] for row in top.indices.tolist()]

    return label


class Tower(nn.Module):
    """An open_clip image tower in the shape of a Student, for our runtime."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, visual: Any, name: str, width: int) -> None:
        super().__init__()
        self.spec = StudentSpec(name, width, visual.image_size[0], TextTower('none', 'none'),
                                visual.image_mean, visual.image_std)
        self.visual, self.int8 = visual, None
        self.register_buffer('mean', torch.tensor(self.spec.mean).view(3, 1, 1))
        self.register_buffer('std', torch.tensor(self.spec.std).view(3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return functional.normalize(self.visual((images - self.mean) / self.std), dim=-1)


def contenders(options: Options, device: str) -> dict[str, Callable[[], tuple[Label, int]]]:
    """Return name -> function that builds the model and counts its weights."""
    def count(model: nn.Module) -> int:
        return sum(weight.numel() for weight in model.parameters())

    def student() -> tuple[Label, int]:
        model = checkpoint.load(options.checkpoint)
        return by_our_runtime(model, options, device), count(model)

    def by_onnx() -> tuple[Label, int]:
        with TemporaryDirectory() as graphs:
            stored = checkpoint.open_stored(options.checkpoint, Path(graphs))
            provider = device.partition(':')[0]
            return by_our_runtime(stored, options, f'onnx:{provider}'), count(stored.load())

    @cache  # seconds, for random weights
    def made(name: str) -> tuple[Any, Callable[[Image.Image], torch.Tensor]]:
        model, _, transform = open_clip.create_model_and_transforms(name)
        return model.eval(), transform

    def tower(name: str, ours: bool) -> tuple[Label, int]:
        model, transform = made(name)
        weights = count(model.visual)
        width = open_clip.get_model_config(name)['embed_dim']
        label = (by_our_runtime(Tower(model.visual, name, width), options, device) if ours else
                 as_commonly_done(model, transform, width, options, device))
        return label, weights

    exported = options.checkpoint.with_suffix('.onnx').is_file()
    return {'student': student,
            **({'student, ONNX Runtime': by_onnx} if exported else {}),
            'ViT-B/32': lambda: tower('ViT-B-32', False),
            'ViT-B/16': lambda: tower('ViT-B-16', False),
            'ViT-B/32, our runtime': lambda: tower('ViT-B-32', True),
            'ViT-B/16, our runtime': lambda: tower('ViT-B-16', True)}


def milliseconds(label: Label, batches: Iterator[np.ndarray], seconds: float) -> float:
    """Return the mean time of a batch, one after the other for some seconds."""
    done, start = 0, time.perf_counter()
    while True:
        label(next(batches))
        done, passed = done + 1, time.perf_counter() - start
        if passed >= seconds:
            return 1e3 * passed / done


def measure(options: Options, device: str) -> dict[str, Any]:
    """Return the result as JSON can hold it."""
    frames = np.random.default_rng(0).integers(
        0, 256, (2 * max(options.batches), options.height, options.width, 3), np.uint8)
    # Different frames each time, as from a camera, so that no cache holds them all.
    batches = {size: cycle([frames[start:start + size] for start in range(
        0, len(frames) - size + 1, size)]) for size in options.batches}
    built = {name: build for name, build in contenders(options, device).items()
             if name in (options.only or (name,))}
    models: dict[str, Label] = {}
    weights, left_out = {}, {}
    times: dict[str, dict[int, list[float]]] = {}

    def leave_out(name: str, error: Exception) -> None:
        left_out[name] = one_line(error)
        models.pop(name, None)
        times.pop(name, None)
        say(f'{name} is left out: {left_out[name]}')

    for name, build in built.items():
        try:
            models[name], weights[name] = build()
            times[name] = {size: [] for size in options.batches}
        except Exception as error:  # noqa: BLE001 the other models are still measured
            leave_out(name, error)
    for turn in tqdm(range(-1, options.rounds), unit='round'):
        for name, label in list(models.items()):
            try:
                for size in options.batches:
                    # The first turn is for warming up.
                    seconds = options.seconds if turn >= 0 else options.seconds / 4
                    passed = milliseconds(label, batches[size], seconds)
                    if turn >= 0:
                        times[name][size].append(passed)
            except Exception as error:  # noqa: BLE001 the same
                leave_out(name, error)
    return {'machine': machine.describe() | {'device': device},
            'options': {
                key: str(value).removeprefix(f'{ROOT}/') if isinstance(value, Path) else value
                for key, value in asdict(options).items()},
            'milliseconds': times, 'weights': weights, 'left out': left_out}


def table(result: dict[str, Any]) -> str:
    """Return Markdown; a cell holds milliseconds per batch and images/s, medians of the rounds."""
    def per_image(name: str) -> list[float]:
        """Return the milliseconds of each round at the best batch."""
        by_size = times[name]
        best = min(by_size, key=lambda size: statistics.median(by_size[size]) / size)
        return [passed / best for passed in by_size[best]]

    times = result['milliseconds']
    sizes = result['options']['batches']
    lines = ['| model | million weights | ' + ' | '.join(f'batch {size}: ms (images/s)'
                                                          for size in sizes)
             + " | images/s at its best batch | time at its best batch / student's |",
             '|---|' + '---:|' * (len(sizes) + 3)]
    for name, by_size in times.items():
        middles = [statistics.median(by_size[size]) for size in sizes]
        cells = [f'{middle:.2f} ({1e3 * size / middle:.0f})'
                 for size, middle in zip(sizes, middles, strict=True)]
        ratio = '-'
        if 'student' in times:
            ratios = [other / own for other, own
                      in zip(per_image(name), per_image('student'), strict=True)]
            ratio = f'{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})'
        lines.append(' | '.join([f'| {name}', f'{result["weights"][name] / 1e6:.1f}', *cells,
                                 f'{1e3 / statistics.median(per_image(name)):.0f}', f'{ratio} |']))
    return '\n'.join(lines)


def main() -> None:
    """Measure, print the table, and write the JSON."""
    options = tyro.cli(Options, description=__doc__)
    for name in ('width', 'height', 'batches', 'labels', 'top_k', 'rounds'):
        value = getattr(options, name)
        if value == () or np.min(value) < 1:
            sys.exit(f'component: --{name}: expected at least 1, got {value}')
    try:
        device = pick_device(options.device)
    except ValueError as error:
        sys.exit(f'component: {error}')
    unknown = set(options.only) - contenders(options, device).keys()
    if unknown:
        sys.exit(f'component: --only: expected some of {", ".join(contenders(options, device))}, '
                 f'got {", ".join(sorted(unknown))}')
    options.out.parent.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.WARNING)  # open_clip says of each model that its weights are random
    result = measure(options, device)
    print(machine.sentence(result['machine']))
    result['table'] = table(result)
    print(f'{options.width}x{options.height}, {options.labels} labels\n\n{result["table"]}')
    write_json(options.out, result)


if __name__ == '__main__':
    main()
