"""
vl2v_find: find a thing in recordings, by a text or a picture, without ROS.

vl2v_find recording.mcap 'a red mug'
vl2v_find videos/kitchen.mp4 photos --image mug.jpg --sheet found.jpg

It looks through bags, videos, folders and images, and prints when the most similar pictures were
taken. What looks the same in a row is one line, from its first to its last picture. With --sheet
it draws them on a page. Pictures are compared as wholes: a small thing in a large view is missed.
"""
import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
import sys

import cv2
import numpy as np
from tqdm import tqdm
from vl2v_ros.checks import number
from vl2v_ros.command.bags import seconds
from vl2v_ros.command.classify import open_input
from vl2v_ros.command.program import check_output, ending
from vl2v_ros.drawing import contact_sheet
from vl2v_ros.drawing.contact_sheet import Part, Tile
from vl2v_ros.files import one_line, replacing, shown
from vl2v_ros.images.encodings import decode
from vl2v_ros.images.frame import to_rgb
from vl2v_ros.images.sources import Picture, read_image
from vl2v_ros.labeller import Labeller
from vl2v_ros.memory import thumbnail
from vl2v_ros.memory.memory import ALIKE, GAP, Memory
from vl2v_ros.memory.sighting import Found, Seen, Sighting

BATCH = 16  # pictures that are embedded at once
MOST_SIGHTINGS = 1_000_000  # the oldest are forgotten then
SHEETS = ('.jpg', '.jpeg', '.png')
STILL = 'still'  # camera of pictures without a time


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, and check what needs no model."""
    parser = argparse.ArgumentParser(prog='vl2v_find', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('input', nargs='+', metavar='INPUT ... TEXT', help='bags (*.mcap, *.db3 or folders), '
        'videos, folders of images and images; and at the end what to look for, without --image')
    add('--image', type=Path, help='picture to look for, in place of the text')
    add('--count', type=number(int, 1, 1000), default=10,
        help='number of lines to print (default: %(default)s)')
    add('--sheet', type=Path, help='page of the pictures to write: *.jpg or *.png')
    add('--checkpoint', type=Path,
        help='student to run, *.safetensors; by default the one in the package')
    add('--device', default='auto', help='device that runs the student, as for vl2v_classify')
    add('--alike', type=number(float, -1, 1), default=ALIKE, help='cosine from which pictures in '
        'a row are one line (default: %(default)s)')
    add('--topic', action='append', default=[], help='image topic of a bag to read, may be given '
        'several times; by default all image topics')
    add('--recursive', action='store_true', help='read folders below a folder too')
    options = parser.parse_intermixed_args(arguments)
    options.text = '' if options.image else options.input.pop()
    if not options.input:
        parser.error('expected a recording, then what to look for in it, got '
                     f'{options.text!r:.80} alone')
    options.input = [Path(name) for name in options.input]
    if options.image and len(options.input) > 1 and not options.input[-1].exists():
        parser.error(f'--image: expected no text beside it, got {str(options.input[-1])!r:.80}')
    texts = [name for name in (options.text, *options.input) if not Path(name).exists()]
    if options.text and Path(options.text).exists() and len(texts) == 1:
        parser.error(f'expected what to look for as the last word, got {texts[0]!r:.80} before '
                     f'{options.text!r:.80}')
    if options.sheet and options.sheet.suffix.lower() not in SHEETS:
        parser.error(f'--sheet: expected a file that ends with {", ".join(SHEETS)}, got '
                     f'{options.sheet}')
    return options


def wanted(options: argparse.Namespace, labeller: Labeller) -> np.ndarray:
    """Return the (D,) float32 unit row of what is looked for; raises ValueError."""
    if not options.image:
        words = labeller.vocabulary([options.text])
        if words.note:
            print(f'vl2v_find: {words.note}', file=sys.stderr)
        return words.prototypes[0]
    try:
        return labeller.embed([read_image(options.image)])[0]
    except ValueError as error:
        raise ValueError(f'--image {options.image}: {error}') from error


def batches(pictures: Iterator[Picture]) -> Iterator[list[Picture]]:
    """Yield the pictures, some at a time."""
    while batch := list(islice(pictures, BATCH)):
        yield batch


def remember(pictures: Iterator[Picture], labeller: Labeller, memory: Memory,
             progress: tqdm) -> None:
    """Embed all pictures into a memory; raises ValueError if none can be read."""
    origin, number = labeller.origin, 0
    for batch in batches(pictures):
        rows = labeller.embed([picture.frame for picture in batch])
        for picture, row in zip(batch, rows, strict=True):
            number += 1
            still = picture.stamp is None
            stamp = 2 * GAP * number if picture.stamp is None else picture.stamp
            memory.see(origin, [Seen(
                row, stamp, STILL if still else picture.topic or shown(picture.file),
                shown(picture.file))], partial(drawn, picture))
        memory.save()
        progress.update(len(batch))


def drawn(picture: Picture, _: Seen) -> bytes:
    """Return a picture for the page."""
    return thumbnail.draw(picture.frame, None, contact_sheet.WIDTH)


def lines(found: Found) -> Iterator[str]:
    """Yield the table, line by line."""
    yield 'similarity  first [s]             last [s]              images  where'
    for sighting in found.sightings:
        still = sighting.camera == STILL
        first, last = ('-', '-') if still else map(seconds, (sighting.first, sighting.last))
        where = sighting.frame_id if still or sighting.camera == sighting.frame_id else (
            f'{sighting.frame_id} {sighting.camera}')
        yield (f'{sighting.similarity:10.3f}  {first:20}  {last:20}  {sighting.count:6}  {where}')


def tile(sighting: Sighting) -> Tile:
    """Return a picture of the page."""
    when = '/'.join(Path(sighting.frame_id).parts[-2:]) if sighting.camera == STILL else (
        f'{seconds(sighting.first)[:-6]} s')
    return Tile(to_rgb(decode(sighting.thumbnail)), when, max(0.0, sighting.similarity))


def draw(found: Found, heading: str, path: Path) -> None:
    """Write the page."""
    page = contact_sheet.draw([Part(heading, [tile(sighting) for sighting in found.sightings])])
    good, data = cv2.imencode(path.suffix.lower(), np.ascontiguousarray(page[..., ::-1]))
    assert good, path
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())
    print(f'wrote {shown(path)}')


def run(options: argparse.Namespace) -> None:
    """Do what the command line asks for; raises ValueError or OSError."""
    def skip(what: str) -> None:
        tqdm.write(f'skipped {what}', sys.stderr)

    check_output(options.sheet, (*options.input, options.image))
    labeller = Labeller.open(options.checkpoint, options.device)
    query = wanted(options, labeller)  # its errors are reported before the slow steps
    inputs = [open_input(path, options.topic, skip, options.recursive) for path in options.input]
    if options.topic and not any(source.topics for source in inputs):
        raise ValueError('--topic: expected a bag among the inputs, got none')
    count = sum(source.count for source in inputs)
    memory = Memory(None, MOST_SIGHTINGS, alike=options.alike)
    with tqdm(total=count or None, unit='picture', disable=None, leave=False) as progress:
        remember(chain.from_iterable(source.pictures for source in inputs), labeller, memory,
                 progress)
    found = memory.find(query, options.count)
    print('\n'.join(lines(found)))
    if options.sheet:
        asked = options.text or shown(options.image)
        draw(found, f'{one_line(asked)}: the most similar of {found.compared}', options.sheet)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exit with 1 and one line if it cannot be done."""
    with ending('vl2v_find'):
        run(parse(arguments))


if __name__ == '__main__':
    main()
