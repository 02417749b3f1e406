"""
Render labelled images of textured meshes: `single` (one object each) and `clutter` (heaps).

python training/render.py --meshes MESHES --out DATASET

The same command resumes a dataset that was stopped.
"""
import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed, Executor, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
import json
import multiprocessing
import os
from pathlib import Path
import sys
import zlib

import cv2
import numpy as np
from tqdm import tqdm
from training.data.splits import read_object_split
from training.rendering import clutter, dataset_files
from training.rendering.domains import DOMAINS
from training.rendering.engine import mujoco, WANTED
from training.rendering.meshes import find_meshes, Mesh
from training.rendering.scene import why_unusable
from training.rendering.single import SingleScene

CHUNK = 20  # pictures of an object per domain that are rendered as one piece of work
QUALITY = 92  # of JPEG files


@dataclass(frozen=True)
class Settings:
    """The settings that determine the pixels; a folder has pictures of one of these only."""

    seed: int = 0
    size: int = 224
    """Side of single pictures [px]."""
    clutter_size: tuple[int, int] = (640, 480)
    """Width and height of clutter pictures [px]."""
    domains: tuple[str, ...] = tuple(DOMAINS)


@dataclass(frozen=True)
class Unit:
    """A piece of work that is done once: its name, number of pictures, function and arguments."""

    name: str
    pictures: int
    run: Callable[..., list[dict[str, object]]]
    arguments: tuple[object, ...]


@dataclass
class Outcome:
    """All records of a run, in the order of the units, and what was skipped and why."""

    records: list[dict[str, object]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def render_single(mesh: Mesh, start: int, stop: int, settings: Settings, out: Path
                  ) -> list[dict[str, object]]:
    """Write pictures `start` to `stop` of one object in every domain; return their records."""
    scene = SingleScene(mesh, settings.size, _seed_of(mesh.name, settings.seed))
    try:
        records = []
        for domain in settings.domains:
            for number in range(start, stop):
                picture = scene.picture(domain, DOMAINS[domain], number)
                name = _single_name(domain, mesh, number)
                _write_image(out / name, picture.rgb, QUALITY)
                records.append({'file': name, 'kind': 'single', 'domain': domain,
                                'width': settings.size, 'height': settings.size,
                                'objects': [{'class': mesh.name, 'box': picture.box,
                                             'visible': round(picture.visible, 4)}]})
        return records
    except ValueError:  # a skipped unit leaves nothing behind
        for domain in settings.domains:
            for number in range(start, stop):
                (out / _single_name(domain, mesh, number)).unlink(missing_ok=True)
        raise
    finally:
        scene.close()


def _single_name(domain: str, mesh: Mesh, number: int) -> str:
    return f'single/{domain}/{mesh.name}/{number:05d}.jpg'


def render_heap(meshes: Sequence[Mesh], domain: str, number: int, settings: Settings, out: Path
                ) -> list[dict[str, object]]:
    """Write one heap as each camera sees it: colour, depth [mm] and object of each pixel."""
    heap = clutter.heap(meshes, domain, settings.clutter_size, settings.seed, number)
    records = []
    for camera, (view, annotations) in heap.views.items():
        stem = f'clutter/{domain}/{number:05d}_{camera}'
        assert view.depth is not None, 'a heap is seen with depth'
        _write_image(out / f'{stem}.jpg', view.rgb, QUALITY)
        _write_image(out / f'{stem}_depth.png', np.rint(view.depth * 1000).clip(0, 65535).astype(
            np.uint16))
        _write_image(out / f'{stem}_ids.png', (view.ids + 1).astype(np.uint8))
        records.append({
            'file': f'{stem}.jpg', 'kind': 'clutter', 'domain': domain, 'camera': camera,
            'width': settings.clutter_size[0], 'height': settings.clutter_size[1],
            'objects': [{'class': heap.names[entry.index], 'id': entry.index + 1,
                         'box': entry.box, 'area': entry.area,
                         'visible': round(entry.visible, 4)} for entry in annotations]})
    return records


def _seed_of(name: str, seed: int) -> int:
    return int(np.random.SeedSequence([seed, *name.encode()]).generate_state(1)[0])


def _write_image(path: Path, pixels: np.ndarray, quality: int | None = None) -> None:
    if pixels.ndim == 3:
        pixels = pixels[..., ::-1]
    options = [] if quality is None else [cv2.IMWRITE_JPEG_QUALITY, quality]
    dataset_files.write(path, cv2.imencode(path.suffix, pixels, options)[1].tobytes())


def units(meshes: Sequence[Mesh], pools: Sequence[Sequence[Mesh]], settings: Settings, count: int,
          out: Path) -> Iterator[Unit]:
    """Cut the work into units; each domain has a heap of each pool."""
    for mesh in meshes:
        for start in range(0, count, CHUNK):
            stop = min(count, start + CHUNK)
            yield Unit(f'single_{mesh.name}_{start}_{stop}',
                       (stop - start) * len(settings.domains), render_single,
                       (mesh, start, stop, settings, out))
    for domain in settings.domains:
        for number, pool in enumerate(map(tuple, pools)):
            of = zlib.crc32(' '.join(mesh.name for mesh in pool).encode())
            yield Unit(f'clutter_{domain}_{number}_of_{of:08x}', len(clutter.CAMERAS), render_heap,
                       (pool, domain, number, settings, out))


def usable(meshes: Sequence[Mesh], root: Path, pool: Executor
           ) -> tuple[list[Mesh], dict[str, str]]:
    """
    Return the meshes in a folder that can be read, and name -> reason for the others.

    :raises ValueError: if none can be read.
    """
    reasons = dict(zip([mesh.name for mesh in meshes], pool.map(why_unusable, meshes),
                       strict=True))
    skipped = {name: reason for name, reason in reasons.items() if reason}
    if len(skipped) == len(meshes):
        why = '; '.join(f'{name}: {reason}' for name, reason in skipped.items())
        raise ValueError(f'expected a mesh that can be read, found none in {root} ({why}); '
                         'repair one')
    return [mesh for mesh in meshes if not reasons[mesh.name]], skipped


def run(work: Sequence[Unit], out: Path, pool: Executor) -> Outcome:
    """
    Do the units that are not done yet, in the processes of a pool.

    :raises OSError: as soon as a file cannot be written; files written before are complete.
    """
    outcome, done = Outcome(), {}
    parts = out / '.parts'
    for unit in work:
        part = parts / f'{unit.name}.json'
        if part.is_file():
            done[unit.name] = json.loads(part.read_text())
    progress = tqdm(total=sum(unit.pictures for unit in work), unit='image', smoothing=0,
                    initial=sum(unit.pictures for unit in work if unit.name in done))
    with progress:
        running = {pool.submit(unit.run, *unit.arguments): unit
                   for unit in work if unit.name not in done}
        try:
            for future in as_completed(running):
                unit = running[future]
                try:
                    done[unit.name] = future.result()
                    dataset_files.write(parts / f'{unit.name}.json',
                                        json.dumps(done[unit.name]).encode())
                except ValueError as error:
                    outcome.skipped[unit.name] = str(error)
                progress.update(unit.pictures)
        except OSError:
            pool.shutdown(cancel_futures=True)
            raise
    for unit in work:
        outcome.records.extend(done.get(unit.name, []))
    return outcome


def check_settings(settings: Settings, out: Path) -> None:
    """
    Store the settings of a folder's pictures.

    :raises ValueError: if the folder has pictures with other settings.
    """
    path = out / '.parts' / 'settings.json'
    wanted = json.loads(json.dumps(asdict(settings)))
    if path.is_file():
        found = json.loads(path.read_text())
        changed = [f'{name} {found.get(name)} instead of {wanted[name]}' for name in wanted
                   if found.get(name) != wanted[name]]
        if changed:
            raise ValueError(f'{out} holds pictures that were made with {", ".join(changed)}; '
                             'choose another folder or the same settings')
    dataset_files.write(path, json.dumps(wanted).encode())


def check_graphics() -> None:
    """Raise ValueError where nothing can be rendered without a screen."""
    try:
        mujoco.GLContext(16, 16).free()
    except Exception as error:  # noqa: BLE001 each platform has its own
        raise ValueError(f'expected {WANTED} ({error})') from error


def main() -> None:
    """Render a dataset, or resume one."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--meshes', type=Path, required=True,
                        help='folder of meshes, <class>/*.obj')
    parser.add_argument('--out', type=Path, required=True, help='folder of the dataset to write')
    parser.add_argument('--count', type=int, default=20,
                        help='single images per object and domain')
    parser.add_argument('--heaps', type=int, default=4, help='heaps per domain, two images each')
    parser.add_argument('--domains', nargs='+', choices=DOMAINS, default=list(DOMAINS),
                        help='domains to render; by default all')
    parser.add_argument('--objects', nargs='+', help='classes to render; by default all')
    parser.add_argument('--split', type=Path, metavar='FILE', help='render only the classes of '
                        'this object split; every other heap has its id classes alone')
    parser.add_argument('--mixed', type=int, metavar='N', help='with --split: only the last N '
                        'heaps of a domain have all classes')
    parser.add_argument('--size', type=int, default=224, help='side of single images [px]')
    parser.add_argument('--heap-size', type=int, nargs=2, default=Settings.clutter_size,
                        help='width and height of the images of heaps [px]')
    parser.add_argument('--seed', type=int, default=0,
                        help='seed of all random numbers; the same seed gives the same pixels')
    parser.add_argument('--workers', type=int, default=os.cpu_count(),
                        help='number of processes; by default one per core')
    parser.add_argument('--shards', type=int, default=0, metavar='N',
                        help='also write WebDataset shards of N images each')
    options = parser.parse_args()
    settings = Settings(options.seed, options.size, (*options.heap_size,), (*options.domains,))
    try:
        check_graphics()
        split = read_object_split(options.split) if options.split else None
        if split and options.objects:
            raise ValueError('expected --objects or --split, got both')
        meshes = find_meshes(options.meshes,
                             [*split.id, *split.ood] if split else options.objects)
        for mesh in meshes:
            if mesh.texture is None:
                print(f'{mesh.name}: no texture, rendered grey', file=sys.stderr)
        check_settings(settings, options.out)
        # Forked processes would share a renderer's state.
        with ProcessPoolExecutor(options.workers, multiprocessing.get_context('spawn')) as pool:
            meshes, skipped = usable(meshes, options.meshes, pool)
            pools = clutter.pools(meshes, split.id if split else (), options.heaps, options.mixed)
            work = list(units(meshes, pools, settings, options.count, options.out))
            outcome = run(work, options.out, pool)
        outcome.skipped.update(skipped)
        shards = dataset_files.write_shards(
            options.out, outcome.records, options.shards) if options.shards else []
        card = dataset_files.write_dataset(options.out, outcome.records, outcome.skipped, meshes,
                                           asdict(settings), options.meshes, shards)
    except ValueError as error:
        sys.exit(f'render: {error}')
    except OSError as error:
        sys.exit(f'render: stopped: {error}; the same command resumes the dataset')
    print(f'{sum(card["counts"].values())} images in {options.out}')
    for name, reason in outcome.skipped.items():
        print(f'skipped {name}: {reason}')
    sys.exit(1 if outcome.skipped and not outcome.records else 0)


if __name__ == '__main__':
    main()
