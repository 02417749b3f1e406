"""
Label many frames in one process, without ROS, and watch its memory.

python -m benchmarks.soak

It writes the memory and the rate after each part as JSON, and a picture of both beside it. The
growth is that from the end of the first tenth, in which caches fill, to the end.
"""
from dataclasses import dataclass
import os
from pathlib import Path
import sys
import time
from typing import Any

from benchmarks import machine
import matplotlib
import numpy as np
from tqdm import tqdm
import tyro
from vl2v_ros.files import replacing, write_json
from vl2v_ros.images.frame import Frame
from vl2v_ros.labeller import Labeller
from vl2v_ros.words.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parent.parent
SIZES = ((480, 640), (720, 1280), (360, 640))  # (H, W) of the frames, in turns [px]


@dataclass(frozen=True)
class Options:
    """What is run."""

    checkpoint: Path = ROOT / 'data/mini/student.safetensors'  # The student.
    frames: int = 200_000  # Number of frames.
    parts: int = 100  # How often the memory is read.
    labels: int = 100  # Number of labels; their prototypes are random.
    device: str = 'cpu'  # Device: cpu, cuda or cuda:N.
    out: Path = ROOT / 'docs/benchmarks/soak.json'  # JSON file to write.


def soak(options: Options) -> dict[str, Any]:
    """Return the result as JSON can hold it."""
    labeller = Labeller.open(options.checkpoint, options.device)
    rng, width = np.random.default_rng(0), labeller.spec.width
    frames = [Frame(rng.integers(0, 256, (height, across, 3), np.uint8))
              for height, across in SIZES]
    rows = rng.standard_normal((options.labels, width)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = tuple(f'label {number}' for number in range(options.labels))
    words = Vocabulary(names, ((),) * len(names), rows, 1, (), names, rows,
                       np.arange(len(names)), (), rows[:0])
    done, memory, rates = [], [], []
    each = max(1, options.frames // options.parts)
    for part in tqdm(range(options.parts), unit='part'):
        start = time.perf_counter()
        for number in range(each):
            labeller.classifier.classify([frames[number % len(frames)]], words)
        done.append((part + 1) * each)
        rates.append(each / (time.perf_counter() - start))
        memory.append(machine.memory(os.getpid()))
    return {'machine': machine.describe(), 'checkpoint': options.checkpoint.name,
            'runs on': labeller.classifier.runtime.description, 'frames': done,
            'memory [MiB]': memory, 'rate [Hz]': rates,
            'growth [MiB]': memory[-1] - memory[len(memory) // 10]}


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw memory and rate over the frames as a PNG."""
    matplotlib.use('Agg')
    from matplotlib import pyplot
    figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(7, 4))
    for axes, name in (above, 'memory [MiB]'), (below, 'rate [Hz]'):
        axes.plot(result['frames'], result[name])
        axes.set_ylabel(name)
        axes.set_ylim(0, 1.1 * max(result[name]))  # a flat line is not the frame
    below.set_xlabel('frames')
    figure.savefig(path, format='png', dpi=120, bbox_inches='tight')
    pyplot.close(figure)


def main() -> None:
    """Run, print a sentence, and write JSON and picture."""
    options = tyro.cli(Options, description=__doc__)
    if not 1 <= options.parts <= options.frames:
        sys.exit(f'soak: --parts: expected 1 to --frames, got {options.parts}')
    try:
        result = soak(options)
    except ValueError as error:
        sys.exit(f'soak: {error}')
    print(f'{result["runs on"]}\n{result["frames"][-1]} frames: memory '
          f'{result["memory [MiB]"][-1]:.1f} MiB, {result["growth [MiB]"]:.1f} MiB more than '
          'after the first tenth')
    write_json(options.out, result)
    with replacing(options.out.with_suffix('.png')) as temporary:
        draw(result, temporary)


if __name__ == '__main__':
    main()
