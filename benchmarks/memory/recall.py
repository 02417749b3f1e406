"""
Make a bag of what a camera saw on a tour past many things, and ask for some of them by text.

python benchmarks/memory/recall.py --data DATA

The things are products of the Grocery Store Dataset (DATA/photos/grocery/val), seen by a hand-held
camera, and the YCB renders of data/ycb_sample. Each is shown for ten seconds, in random order. An
answer is right if one of the first three sightings lies within the time of the thing, to 0.5 s.
"""
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
import json
from pathlib import Path
import sys
import time
from typing import Any

from benchmarks import machine
import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from tqdm import tqdm
from training.rendering.moving_camera import moved
import tyro
from vl2v_ros.command.bags import COMPRESSED_IMAGE, message_types, open_bag
from vl2v_ros.command.find import remember
from vl2v_ros.files import read_yaml, replacing, write_json
from vl2v_ros.images.folders import image_paths
from vl2v_ros.images.frame import to_rgb
from vl2v_ros.images.sources import read_image
from vl2v_ros.labeller import Labeller
from vl2v_ros.memory.memory import ALIKE, Memory
from vl2v_ros.memory.sighting import Found

ROOT = Path(__file__).resolve().parents[2]
SECOND = 10 ** 9  # [ns]
START = 1_700_000_000 * SECOND  # of the bag [ns]
SIZE = 480, 360  # of the views [px]
TOPIC = '/camera/image/compressed'
DOMAIN = 'studio'  # of the renders
FIRST, SLACK = 3, SECOND // 2  # answers that count, and how exact their times have to be [ns]


@dataclass(frozen=True)
class Options:
    """What is shown and asked."""

    data: Path  # Folder that holds photos/grocery/val.
    bag: Path = ROOT / 'build/benchmarks/tour'  # Folder of the bag to make, once.
    out: Path = ROOT / 'build/benchmarks/memory_recall.json'  # JSON file to write.
    things: int = 60  # Number of things that are shown.
    seconds: float = 10.0  # Time for which each is shown [s].
    rate: float = 5.0  # Images per second [Hz].
    questions: int = 10  # Number of things that are asked for, chosen at random.
    seed: int = 0  # Of the choice and order of things and questions, and of the movements.
    alike: float = ALIKE  # Cosine from which what is seen in a row is one sighting.
    checkpoint: Path = ROOT / 'models/student.safetensors'  # The student to ask.


@dataclass(frozen=True)
class Shown:
    """A thing, '' if it has no name that may be asked for, and its time by the stamps [ns]."""

    name: str
    start: int
    end: int


def things(options: Options, rng: np.random.Generator) -> list[tuple[str, Path]]:
    """Return a name and a picture of each thing, each name once before any is there twice."""
    found: dict[str, list[Path]] = {}
    for names, folder in (('grocery', options.data / 'photos/grocery/val'),
                          ('ycb', ROOT / 'data/ycb_sample/single' / DOMAIN)):
        known = read_yaml(ROOT / f'config/names/{names}.yaml')
        for kind in sorted(path for path in folder.iterdir() if path.is_dir()):
            found.setdefault(known.get(kind.name, ''), []).extend(image_paths(kind))
    nameless = found.pop('', [])
    chosen = [(name, paths[rng.integers(len(paths))]) for name, paths in found.items()]
    while len(chosen) < options.things:
        chosen.append(('', nameless[rng.integers(len(nameless))]))
    return [chosen[number] for number in rng.permutation(len(chosen))[:options.things]]


def views(picture: Path, options: Options, rng: np.random.Generator) -> Iterator[bytes]:
    """Yield what the camera sees of a thing, as JPEG."""
    photo = np.ascontiguousarray(to_rgb(read_image(picture))[..., ::-1])
    for view in moved(photo, SIZE, round(options.seconds * options.rate), options.rate, rng):
        yield cv2.imencode('.jpg', view, (cv2.IMWRITE_JPEG_QUALITY, 90))[1].tobytes()


def write_bag(options: Options) -> list[Shown]:
    """Write the bag; return what it shows."""
    rng, types, shown = np.random.default_rng(options.seed), message_types(), []
    stamp, step = START, round(SECOND / options.rate)
    with replacing(options.bag) as folder:
        with Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
            connection = writer.add_connection(TOPIC, COMPRESSED_IMAGE, typestore=types)
            for name, picture in tqdm(things(options, rng), unit='thing', disable=None):
                start = stamp
                for data in views(picture, options, rng):
                    message = types.types[COMPRESSED_IMAGE](
                        header=types.types['std_msgs/msg/Header'](
                            stamp=types.types['builtin_interfaces/msg/Time'](
                                sec=stamp // SECOND, nanosec=stamp % SECOND), frame_id='camera'),
                        format='jpeg', data=np.frombuffer(data, np.uint8))
                    writer.write(connection, stamp, types.serialize_cdr(message, COMPRESSED_IMAGE))
                    stamp += step
                shown.append(Shown(name, start, stamp - step))
        (folder / 'shown.json').write_text(json.dumps([asdict(one) for one in shown]))
    return shown


def place(found: Found, name: str, shown: Sequence[Shown]) -> int:
    """Return the place of the first right sighting, from 1; 0 if none of those asked for is."""
    times = [(one.start - SLACK, one.end + SLACK) for one in shown if one.name == name]
    return next((number for number, one in enumerate(found.sightings, 1)
                 if any(start <= one.first and one.last <= end for start, end in times)), 0)


def ask(options: Options, shown: Sequence[Shown]) -> dict[str, Any]:
    """Look through the bag once, then ask."""
    labeller, memory = Labeller.open(options.checkpoint), Memory(alike=options.alike)
    start = time.monotonic()
    with tqdm(unit='picture', disable=None) as progress:
        remember(open_bag(options.bag, [], print).pictures, labeller, memory, progress)
    seconds = time.monotonic() - start
    names = sorted({one.name for one in shown} - {''})
    places = {name: place(memory.find(labeller.vocabulary([name]).prototypes[0], 10), name, shown)
              for name in names}
    chosen = np.random.default_rng(options.seed).permutation(names)[:options.questions].tolist()
    return {'images': sum(round((one.end - one.start) / SECOND * options.rate) + 1
                          for one in shown), 'looked through [s]': seconds,
            'sightings': len(memory), 'things': len(shown),
            'questions': {name: places[name] for name in chosen},
            'found in the first three': sum(0 < places[name] <= FIRST for name in chosen),
            'of all names': {'names': len(names), 'found in the first three': sum(
                0 < one <= FIRST for one in places.values()), 'first': sum(
                    one == 1 for one in places.values())},
            'not in the first three': {name: one for name, one in places.items()
                                       if not 0 < one <= FIRST}}


def main() -> None:
    """Make the bag if it is not there, ask, print, and write the JSON."""
    options = tyro.cli(Options, description=__doc__)
    try:
        known = options.bag / 'shown.json'
        shown = ([Shown(**one) for one in json.loads(known.read_text())] if known.exists()
                 else write_bag(options))
        found = {'machine': machine.describe(), **ask(options, shown)}
    except (ValueError, OSError) as error:
        sys.exit(f'recall: {error}')
    print(json.dumps({name: value for name, value in found.items() if name != 'machine'},
                     indent=1))
    write_json(options.out, found)


if __name__ == '__main__':
    main()
