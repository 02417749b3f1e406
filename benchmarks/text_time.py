"""
Measure the time of encoding a list of labels, per label: by a text tower, and from the cache.

python benchmarks/text_time.py

The text towers are that of the shipped student and, to show the cost of a real CLIP, open_clip's
ViT-B/32 with random weights.
"""
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
import time

import open_clip
import torch
import tyro
from vl2v_ros.files import write_json
from vl2v_ros.model import checkpoint
from vl2v_ros.words import cached_text, clip_text

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Options:
    """What is measured."""

    out: Path = ROOT / 'build/benchmarks/text.json'  # JSON file to write.
    labels: int = 1000
    """Number of labels for the shipped tower; ViT-B/32 gets a fortieth, as it is that slow."""
    rounds: int = 5  # Number of times that each tower is measured.


def per_label(encode: Callable[[list[str]], object], count: int) -> float:
    """Return the time per label [ms]."""
    prompts = [f'a photo of object {number}' for number in range(count)]
    start = time.perf_counter()
    encode(prompts)
    return 1e3 * (time.perf_counter() - start) / count


def measure(options: Options) -> dict[str, list[float]]:
    """Return the time per label of each round [ms]."""
    path = ROOT / 'data/mini/student.safetensors'
    spec = checkpoint.load(path).spec
    tower = clip_text.ClipText(spec.text_tower, path.parent)
    model = open_clip.create_model('ViT-B-32').eval()
    tokenize = open_clip.get_tokenizer('ViT-B-32')

    @torch.inference_mode()
    def encode_by_clip(prompts: list[str]) -> None:
        for start in range(0, len(prompts), clip_text.BATCH):
            model.encode_text(tokenize(prompts[start:start + clip_text.BATCH]))

    found: dict[str, list[float]] = {}
    for turn in range(-1, options.rounds):
        with TemporaryDirectory() as folder:
            def cached() -> cached_text.CachedText:
                return cached_text.CachedText('tower', spec.width, lambda: tower, Path(folder))
            times = {'not cached': per_label(cached().encode, options.labels),
                     'cached on disk': per_label(cached().encode, options.labels),
                     'ViT-B/32, not cached': per_label(encode_by_clip, options.labels // 40 or 1)}
        if turn >= 0:  # the first is for warming up
            for name, value in times.items():
                found.setdefault(name, []).append(value)
    return found


def main() -> None:
    """Measure, print, and write the JSON."""
    options = tyro.cli(Options, description=__doc__)
    found = measure(options)
    for name, times in found.items():
        print(f'{name}: {min(times):.3f} to {max(times):.3f} ms per label')
    write_json(options.out, found)


if __name__ == '__main__':
    main()
