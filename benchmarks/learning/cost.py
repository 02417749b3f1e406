"""
Print what a million images cost, worked out from rates that were measured.

python -m benchmarks.learning.cost --price-per-hour 2.5

The rates stand in docs/results and docs/benchmarks, each with its machine; one of a busy GPU is
that of its own benchmark, and no pipeline reaches it that feeds too slowly. Bytes per image are
measured now, on shards of a folder of images. Prices are in any currency: the table is in it, too.
"""
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
import statistics
import sys
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.learning.training_parts import STEPS
from training.rendering.dataset_files import write_shards
import tyro
from vl2v_ros.files import read_json
from vl2v_ros.images.folders import image_files

ROOT = Path(__file__).resolve().parents[2]
MILLION = 1_000_000
DIGEST, KEY = 32, 16  # of an image, in a recording and in the cache [bytes]


@dataclass(frozen=True)
class Options:
    """Prices, and the images whose bytes are measured."""

    price_per_hour: float
    """Price of the machine per hour."""
    price_per_gb_month: float = 0.023
    """Price of storage, per GB and month."""
    price_per_gb: float = 0.0
    """Price of what is read over the network, per GB; often 0 within a region."""
    images: Path = ROOT / 'data/ycb_sample/single'
    """Folder of JPEG images, at any depth."""
    most: int = 1000
    """Number of images that are packed into shards."""
    width: int = 512
    """Width D of the embeddings."""


class Rate(NamedTuple):
    """A measured rate; `machine` did it."""

    what: str
    machine: str
    images_per_second: float


def rates(results: Path = ROOT / 'docs/results', gpu: Path = ROOT / 'docs/benchmarks/on_gpu.json'
          ) -> Iterator[Rate]:
    """Yield the measured rates; raises ValueError for a file that is not there."""
    parts = read_json(results / 'training_parts.json')
    middle = {name: statistics.median(used) for name, used in parts['CPU per image [ms]'].items()}
    cpu = parts['machine']['cpu']
    yield Rate('decode and augment, one by one', f'{cpu}, 1 thread',
               1e3 / (middle['read'] + middle['augment one by one']))
    for step, of in STEPS.items():
        yield Rate(f'train the shipped student, 224 px: {step}', f'{cpu}, 1 thread',
                   1e3 / sum(middle[part] for part in of))
    step = read_json(results / 'training_step.json')
    yield Rate('train MobileNetV2, 112 px, bfloat16', f'{cpu}, 2 cores', max(
        statistics.median(found) for found in step['images/s'].values()))
    asked = read_json(results / 'teacher_rate.json')
    yield Rate('ask a teacher over HTTP, the asking alone', f'{asked["machine"]["cpu"]}, 2 cores',
               max(statistics.median(run['images/s']) for run in asked['runs'].values()))
    found = read_json(gpu)
    beside = found['parts']['component']['result']['milliseconds']
    for name, how in (('ViT-B/32', 'PIL and eager PyTorch'),
                      ('ViT-B/32, our runtime', 'our runtime')):
        yield Rate(f'embed 1280x720 frames with ViT-B/32, {how}', found['device'], max(
            1e3 * int(batch) / statistics.median(times) for batch, times in beside[name].items()))
    step = found['parts']['step']['result']
    yield Rate('train MobileNetV2, 112 px, bfloat16, no input', found['device'], max(
        statistics.median(run) for run in step['images/s'].values()))


def bytes_in_shards(options: Options) -> tuple[float, float]:
    """Return the bytes per image of JPEG files, and of the shards that hold them."""
    files = [file for file in image_files(options.images) if file.suffix == '.jpg']
    files = files[::max(1, len(files) // options.most)][:options.most]
    if not files:
        raise ValueError(f'--images: expected JPEG images, found none in {options.images}')
    with TemporaryDirectory() as name:
        out = Path(name)
        (out / 'single').symlink_to(options.images.resolve())
        records = [{'file': f'single/{file}', 'kind': 'single', 'domain': file.parts[0],
                    'width': 224, 'height': 224, 'objects': [
                        {'class': file.parent.name, 'box': [10, 10, 100, 100], 'visible': 0.9}]}
                   for file in files]
        shards = write_shards(out, records, len(records))
        packed = sum((out / 'shards' / shard).stat().st_size for shard in shards)
    plain = sum((options.images / file).stat().st_size for file in files)
    return plain / len(files), packed / len(files)


def tables(options: Options) -> str:
    """Return Markdown: time and price of the machines, then bytes and their price."""
    lines = ['| what | machine | images/s | hours per million images | price per million |',
             '|---|---|---:|---:|---:|']
    found = list(rates())
    for what, machine, rate in found:
        hours = MILLION / rate / 3600
        lines.append(f'| {what} | {machine} | {rate:.0f} | {hours:.2f} | '
                     f'{hours * options.price_per_hour:.2f} |')
    plain, packed = bytes_in_shards(options)
    kept = 'stored, price a month'
    rows = [(f'JPEG files of {options.images.name}', plain, kept),
            ('the same in shards', packed, kept),
            ('shards, read once over the network', packed, 'read, price'),
            (f'embedding of width {options.width}, in a recording', 2 * options.width + DIGEST,
             kept),
            ('the same in the cache', 2 * options.width + KEY, kept)]
    lines += ['', '| what | bytes per image | GB per million | is | price per million |',
              '|---|---:|---:|---|---:|']
    for what, size, done in rows:
        price = options.price_per_gb if done == 'read, price' else options.price_per_gb_month
        gigabytes = size * MILLION / 1e9
        lines.append(f'| {what} | {size:.0f} | {gigabytes:.2f} | {done} | '
                     f'{gigabytes * price:.3f} |')
    fastest = max(found, key=lambda rate: rate.images_per_second)
    lines += ['', f'{fastest.images_per_second:.0f} images/s of these shards need '
              f'{fastest.images_per_second * packed / 1e6:.0f} MB/s of the network.']
    return '\n'.join(lines)


def main() -> None:
    """Print the tables."""
    options = tyro.cli(Options, description=__doc__)
    if min(options.most, options.width) < 1 or min(
            options.price_per_hour, options.price_per_gb_month, options.price_per_gb) < 0:
        sys.exit('cost: expected prices of 0 or more, and --most and --width of at least 1, got '
                 f'{options}')
    try:
        print(tables(options))
    except (ValueError, OSError) as error:
        sys.exit(f'cost: {error}')


if __name__ == '__main__':
    main()
