"""What reads files: for each kind its seeds, which of them are damaged, and how it is read."""
from collections.abc import Callable, Iterator
from dataclasses import dataclass
import os
from pathlib import Path
from random import Random
import shutil

from reliability import mutations, seeds

Mutate = Callable[[bytes, Random, list[bytes]], bytes]
TEXTS = ('.yaml', '.csv', '.txt', '.obj', '.mtl')
MUTATIONS: dict[str, Mutate] = {
    **dict.fromkeys(TEXTS, mutations.mutate_text), '.json': mutations.mutate_json,
    '.safetensors': mutations.mutate_safetensors}  # all others: bytes


def image(folder: Path, target: Path) -> None:
    from vl2v_ros.images.encodings import check_whole
    from vl2v_ros.images.sources import read_image
    read_image(target)
    check_whole(target.read_bytes())


def video(folder: Path, target: Path) -> None:
    from vl2v_ros.images.sources import open_video
    for _ in open_video(target, said).pictures:
        pass


def bag(folder: Path, target: Path) -> None:
    from vl2v_ros.command.bags import is_bag, open_bag
    path = target if target.parent.name == 'alone' else target.parent
    assert is_bag(path) or target.name == 'metadata.yaml'
    for _ in open_bag(path, (), said).pictures:
        pass


def vocabulary(folder: Path, target: Path) -> None:
    from vl2v_ros.words.vocabulary_file import dump, parse
    dump(parse(str(target)))


def recipe(folder: Path, target: Path) -> None:
    from training import recipe_file
    recipe_file.read(target)


def table(folder: Path, target: Path) -> None:
    """Read one of the smaller files of training, by its name."""
    from training import enrich, photo_sequence, recordings, study
    from training.data import captions, class_names, splits
    from training.data.image_index import make_index
    from training.measuring import photo_sets
    from vl2v_ros.words.labels import Entry
    known = {'mug': Entry(('A cup.',))}
    index = make_index(folder, ['a/b/0.png', 'a/b/1.png'], ['b', 'b'], ['a', 'a'])
    {'split': splits.read_object_split, 'names': class_names.read_names,
     'classes': class_names.read_classes, 'study': study.read_study,
     'sets': lambda path: photo_sets.read_sets(path, folder),
     'facts': lambda path: captions.read_facts(path, ['mug'], known),
     'captions': lambda path: captions.read_captions(path, index),
     'sequence': photo_sequence.read_list, 'prompts': recordings.read_prompts,
     'labels': enrich.read}[target.stem](target)


def student(folder: Path, target: Path) -> None:
    from vl2v_ros.model import checkpoint
    from vl2v_ros.model.runtime import openvino_runtime
    from vl2v_ros.words.cached_text import open_text_tower
    if target.name != 'student.safetensors':
        return recording(folder, target)
    spec = checkpoint.open_stored(target, folder).spec
    open_text_tower(spec.text_tower, spec.width, target.parent, folder / 'cache')
    found = checkpoint.load(target)
    if found.int8:
        openvino_runtime.read(found.int8, found.spec)


def tower(folder: Path, target: Path) -> None:
    from vl2v_ros.words.cached_text import open_text_tower
    from vl2v_ros.words.clip_text import ClipText
    from vl2v_ros.words.encoder import identify, TextTower
    place = TextTower('tiny.json', 'tiny.safetensors')
    if target.suffix == '.json':  # else a config of a million layers would be built, as it says
        whole = identify(place, folder.parent.parent / 'seeds' / folder.name)
        place = TextTower(place.model, place.pretrained, whole)
    open_text_tower(place, 8, folder, folder / 'cache')
    ClipText(place, folder).encode(['a mug'])


def recording(folder: Path, target: Path) -> None:
    from training.recordings import read_table
    from vl2v_ros.words.recording import read
    (read_table if target.suffix == '.npz' else read)(target)


def coco(folder: Path, target: Path) -> None:
    from training.data.coco import read_crops, read_scenes
    from vl2v_ros.images.coco import read_boxes
    read_crops(folder)
    read_scenes(folder)
    for path in folder.glob('*/annotations.json'):
        read_boxes(path)


def shards(folder: Path, target: Path) -> None:
    from training.data.shards import find_shards, ShardImages
    found = ShardImages(find_shards(folder), 16, folder / 'log')
    for _ in found:
        pass
    for line in found.corrupt():
        said(line)


def mesh(folder: Path, target: Path) -> None:
    from training.rendering.meshes import find_meshes
    from training.rendering.scene import why_unusable
    for found in find_meshes(folder):
        if why := why_unusable(found):
            raise ValueError(why)


def archive(folder: Path, target: Path) -> None:
    from training.rendering import archives
    out = folder / 'out'
    try:
        archives.unpack(target, out)
    except archives.Refused as error:
        raise ValueError(str(error)) from error
    finally:
        shutil.rmtree(out, ignore_errors=True)


def cache(folder: Path, target: Path) -> None:
    from training.teachers.embedding_cache import open_store
    from training.teachers.recorded import cached_rows
    cached_rows('a/b', 8, tuple('abc'), folder)
    store = open_store(folder / 'embeddings', 'a/b', 8)
    store.rows(list(store.positions))


def said(text: str) -> None:
    """Receive a sentence on what was left out; it has to be one."""
    if why := why_no_sentence(text):
        raise AssertionError(f'said {why}: {text!r:.300}')


def why_no_sentence(text: str) -> str:
    """Return why a text is no message for people; '' if it is one."""
    if len(text) > 2000:
        return f'{len(text)} characters'
    if not all(letter.isprintable() for letter in text):
        return 'more than a line, or what cannot be shown'
    return '' if len(text.split()) > 2 else 'less than a sentence'


@dataclass(frozen=True)
class Kind:
    """
    A kind of files.

    write: writes the seeds into an empty folder.
    read: reads the damaged file `target` in `folder`, as the program does.
    part: its part of all trials.
    damaged: pattern of the seeds that are damaged; the others lie beside.
    """

    write: Callable[[Path], None]
    read: Callable[[Path, Path], None]
    part: float
    damaged: str = '**/*'

    def targets(self, folder: Path) -> list[Path]:
        return sorted(path for path in folder.glob(self.damaged) if path.is_file())


KINDS = {
    'image': Kind(seeds.images, image, 0.3),
    'video': Kind(seeds.videos, video, 0.06),
    'bag': Kind(seeds.bags, bag, 0.12),
    'vocabulary': Kind(seeds.words, vocabulary, 0.1),
    'recipe': Kind(seeds.recipes, recipe, 0.06),
    'table': Kind(seeds.tables, table, 0.1),
    'student': Kind(seeds.students, student, 0.03, '**/*.safetensors'),
    'tower': Kind(seeds.towers, tower, 0.02),
    'recording': Kind(seeds.recordings, recording, 0.06),
    'coco': Kind(seeds.coco, coco, 0.05),
    'shards': Kind(seeds.shards, shards, 0.03),
    'mesh': Kind(seeds.meshes, mesh, 0.03),
    'archive': Kind(seeds.archives, archive, 0.02),
    'cache': Kind(seeds.caches, cache, 0.02),
}


class Damaged:
    """The seeds of a kind in a folder, of which one at a time is damaged."""

    def __init__(self, name: str, folder: Path, seed: int) -> None:
        self._name, self._seed = name, seed
        self.folder = folder
        self._whole = {path: path.read_bytes() for path in KINDS[name].targets(folder)}
        self._written: Path | None = None

    def damage(self, number: int) -> Path:
        """Damage one file, the same way for the same number; mend the one before."""
        self.mend()
        rng = Random(f'{self._seed} {self._name} {number}')
        path = rng.choice(list(self._whole))
        alike = [data for other, data in self._whole.items() if other.suffix == path.suffix]
        mutate = MUTATIONS.get(path.suffix, mutations.mutate_bytes)
        self._written = path
        path.write_bytes(mutate(self._whole[path], rng, alike))
        return path

    def mend(self) -> None:
        if self._written:
            self._written.write_bytes(self._whole[self._written])


def damaged(name: str, seeds_of: Path, scratch: Path, seed: int) -> Damaged:
    """Copy the seeds of a kind into a scratch folder."""
    folder = scratch / name
    if not folder.exists():
        shutil.copytree(seeds_of / name, folder)
    return Damaged(name, folder, seed)


def order(trials: int, only: str = '') -> Iterator[tuple[str, int]]:
    """Yield (kind, number) of each trial; the kinds take turns."""
    parts = {name: kind.part for name, kind in KINDS.items() if only in ('', name)}
    total = sum(parts.values())
    due = dict.fromkeys(parts, 0.0)
    done = dict.fromkeys(parts, 0)
    for _ in range(trials):
        for name, part in parts.items():
            due[name] += part / total
        name = max(due, key=lambda one: due[one])
        due[name] -= 1
        yield name, done[name]
        done[name] += 1


def write_seeds(folder: Path, only: str = '') -> None:
    """Write the seeds of all kinds, each into a folder with its name."""
    for name, kind in KINDS.items():
        if only in ('', name):
            (folder / name).mkdir(parents=True)
            kind.write(folder / name)
    os.sync()
