"""
Measure what a student names on photos it was not trained on, as it runs on a robot.

python training/naming.py photos --checkpoint STUDENT.safetensors --out FOLDER --data DATA
python training/naming.py photos --checkpoint STUDENT.safetensors --out FOLDER \
    --photos MY_PHOTOS --names my_names.yaml
python training/naming.py teacher --checkpoint STUDENT.safetensors --out FOLDER \
    --recording photos/clip_vit_b32.safetensors --images photos/recorded/coco

`photos` names labelled photos, over the names of their own list and over all that the recording
beside the student knows; `teacher` compares the student with a teacher's recorded answers. Both
print a table, and write result.json into --out.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import json
from pathlib import Path
import sys

from embedding_cache import file_digests
from image_index import Index
import metrics
import numpy as np
from photo_sets import known_names, PhotoSet, read_photos, read_set, read_sets
from report import markdown_table
import torch
import tyro
from vl2v_ros import checkpoint, recording, vocabulary
from vl2v_ros.cached_text import CachedText, default_cache_dir, open_text_tower
from vl2v_ros.files import replacing
from vl2v_ros.frame import Frame
from vl2v_ros.recording import Recording
from vl2v_ros.runtime import create, Runtime
from vl2v_ros.vocabulary import Entry

from config import ROOT

ALIGNED = (2, 3, 5)  # k of M_vlalign, as in the paper
FIVE = 5  # nearest names
BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Command:
    """What is measured, and how."""

    checkpoint: Path
    """The student, as distill.py wrote it, and beside it the recording of its text tower."""
    out: Path
    """The folder for result.json."""
    templates: tuple[str, ...] = ()
    """What a name is asked by, such as 'a photo of {a} {label}'; by default the student's own."""
    device: str = 'cpu'
    """What the student runs on: cpu, cuda or auto, as on the robot."""


@dataclass(frozen=True, kw_only=True)
class Photos(Command):
    """Name labelled photos."""

    sets: Path = ROOT / 'config/photo_sets.yaml'
    """The sets of photos; see there."""
    data: Path = Path()
    """The folder that the sets' images lie below."""
    photos: Path | None = None
    """Measure these instead of the sets: a folder with photos, at any depth."""
    names: Path | None = None
    """What --photos show: a YAML file that maps their folders to names; by default the folders'
    own names."""


@dataclass(frozen=True, kw_only=True)
class Teacher(Command):
    """Compare with a teacher's recorded answers."""

    recording: Path
    """The recording with the teacher's answers to images."""
    images: tuple[Path, ...]
    """Folders of images; each gives a row of the table. A {} in the path of the checkpoint stands
    for the folder's name, if each was left out of a training in turn."""
    together: bool = False
    """The student was trained on none of the folders; else, on all but the one that is measured.
    The mean that is taken off is of the answers that were trained on."""


class Robot:
    """A student as a robot runs it, and its text tower."""

    def __init__(self, path: Path, device: str, templates: Sequence[str]) -> None:
        """Load the student; raises ValueError."""
        student = checkpoint.load(path)
        self.spec = student.spec
        self.templates = tuple(templates) or self.spec.templates
        self.encoder: CachedText = open_text_tower(self.spec.text_tower, self.spec.width,
                                                   path.parent, default_cache_dir())
        self.runtime: Runtime = create(student, device)
        print(f'{path} runs on {self.runtime.description}', file=sys.stderr)

    def embed(self, index: Index) -> torch.Tensor:
        """Return (N, D) unit embeddings of whole images."""
        parts = [range(start, min(start + BATCH, len(index)))
                 for start in range(0, len(index), BATCH)]
        return torch.from_numpy(np.concatenate(
            [self.runtime.embed([Frame(index.read(row)) for row in part]) for part in parts]))


def photos(command: Photos) -> dict[str, object]:
    """Name the photos of each set; raises ValueError for what cannot be read or encoded."""
    if command.photos is None and command.names is not None:
        raise ValueError('--names: expected --photos too, which it is the names of')
    sets = read_sets(command.sets, command.data) if command.photos is None else {
        command.photos.name: PhotoSet(command.photos, command.names)}
    robot = Robot(command.checkpoint, command.device, command.templates)
    rows, notes = [], []
    for name, one in sets.items():
        row, said = named(robot, one)
        rows.append({'photos': name, **row})
        notes += [f'{name}: {text}' for text in said]
    return {**facts(command, robot), 'table': rows, 'notes': notes}


def named(robot: Robot, photo_set: PhotoSet) -> tuple[dict[str, object], list[str]]:
    """
    Name the photos of one set.

    :return: a line of the table, accuracies in percent, of several domains their mean; and notes.
    """
    shown = read_set(photo_set, robot.encoder, robot.templates)
    rows, labels = robot.embed(shown.index), torch.from_numpy(shown.labels)
    row = {'count': len(shown.index), 'names': len(shown.words.labels)}
    similarities = rows @ torch.tensor(shown.words.prototypes).T
    row |= {f'{what} [%]': value for what, value in accuracies(
        similarities, labels, shown.index).items()}
    if robot.encoder.names:
        known, places = known_names(robot.encoder, shown.words, robot.templates)
        row |= {'all names': len(known.labels)} | {
            f'{what} of all [%]': value for what, value in accuracies(
                rows @ torch.tensor(known.prototypes).T, torch.from_numpy(places)[labels],
                shown.index).items()}
    left_out = [f'left out are {shown.left_out}'] * bool(shown.left_out)
    return row, left_out + [shown.words.note] * bool(shown.words.note)


def accuracies(similarities: torch.Tensor, labels: torch.Tensor, index: Index
               ) -> dict[str, float]:
    """Return how often the first name, or one of five, is right; the mean of domains [%]."""
    first, five = [], []
    for domain in np.unique(index.domains):
        mine = torch.from_numpy(index.domains == domain)
        first.append(metrics.accuracy(similarities[mine], labels[mine]))
        nearest = similarities[mine].topk(min(FIVE, similarities.shape[1])).indices
        five.append((nearest == labels[mine, None]).any(1).double().mean().item())
    return {'top-1': 100 * float(np.mean(first)), 'top-5': 100 * float(np.mean(five))}


def teacher(command: Teacher) -> dict[str, object]:
    """Compare student and teacher on each folder; raises ValueError for what does not fit."""
    found = recording.read(command.recording)
    answers = {digest.tobytes().hex(): row
               for row, digest in enumerate(found.image_digests)}  # -> number of its row
    indices = {folder: read_photos(folder) for folder in command.images}
    numbers = {folder: answered(folder, index, answers) for folder, index in indices.items()}
    rows, robot, path = [], None, None
    for folder, index in indices.items():
        if path != (path := Path(str(command.checkpoint).replace('{}', folder.name))):
            robot = Robot(path, command.device, command.templates)
            check_teacher(robot, found, path)
            words = prototypes(robot)
        unseen = set().union(*(numbers.values() if command.together else [numbers[folder]]))
        trained = np.setdiff1d(np.arange(len(found.image_rows)), list(unseen - {-1}))
        there = np.array(numbers[folder]) >= 0
        guide = found.image_rows[np.array(numbers[folder])[there]]
        rows.append({'images': folder.name, 'count': int(there.sum())} | against_teacher(
            robot.embed(index.take(there)), unit(guide), words,
            unit(found.image_rows[trained]).mean(0)))
    if len(rows) > 1:
        rows.append({'images': 'mean of them'} | {
            name: float(np.mean([row[name] for row in rows])) for name in rows[0]
            if name not in ('images', 'count')})
    return {**facts(command, robot), 'table': rows, 'notes': [
        f'{folder.name}: {lacking} images without an answer are left out'
        for folder in indices if (lacking := numbers[folder].count(-1))]}


def answered(folder: Path, index: Index, answers: Mapping[str, int]) -> list[int]:
    """Return the number of each image's answer, -1 for none; raises ValueError for no answer."""
    numbers = [answers.get(digest, -1)
               for digest in file_digests([index.root / file for file in index.files])]
    if max(numbers) < 0:
        raise ValueError(f'--images: expected some that the recording has an answer to, found '
                         f'none in {folder}; answers are found by the content of files')
    return numbers


def check_teacher(robot: Robot, found: Recording, path: Path) -> None:
    """Raise ValueError for answers of another teacher than the student's."""
    if robot.encoder.identity != found.identity or robot.spec.width != found.width:
        raise ValueError(f'--recording: expected answers of {robot.encoder.identity}, width '
                         f'{robot.spec.width}, whose space {path} is in, got those of '
                         f'{found.identity}, width {found.width}')


def prototypes(robot: Robot) -> torch.Tensor:
    """Return (C, D) of all names that are known; raises ValueError if there are fewer than 5."""
    if len(robot.encoder.names) < FIVE:
        raise ValueError(f'expected a recording with names beside the checkpoint, found '
                         f'{len(robot.encoder.names)} names; distill.py writes it there')
    return torch.tensor(vocabulary.build(dict.fromkeys(robot.encoder.names, Entry()),
                                         robot.encoder, 1, robot.templates).prototypes)


def against_teacher(student: torch.Tensor, guide: torch.Tensor, words: torch.Tensor,
                    mean: torch.Tensor) -> dict[str, float]:
    """
    Compare (N, D) unit embeddings.

    :param words: (C, D) prototypes. mean: (D,) what is taken off for the centred cosine.
    """
    distance, angle = metrics.feature_distance(student, guide)
    mine, theirs = student @ words.T, guide @ words.T  # (N, C)
    among = (theirs.topk(FIVE).indices == mine.argmax(1)[:, None]).any(1)
    centred = torch.nn.functional.cosine_similarity(student - mean, guide - mean)
    return {'cosine': (student * guide).sum(1).mean().item(), 'centred': centred.mean().item(),
            "first among the teacher's five [%]": 100 * among.double().mean().item(),
            'mse': distance, 'angle [deg]': angle} | {
        f'M_vlalign({k})': metrics.vl_alignment(mine, theirs, k) for k in ALIGNED}


def unit(rows: np.ndarray) -> torch.Tensor:
    """Return float16 unit rows as unit rows of float32."""
    return torch.nn.functional.normalize(torch.from_numpy(rows.astype(np.float32)), dim=1)


def facts(command: Command, robot: Robot) -> dict[str, object]:
    """Return what a result was made with."""
    return {'checkpoint': str(command.checkpoint), 'runtime': robot.runtime.description,
            'trained on': robot.spec.trained_on, 'templates': list(robot.templates)}


def main() -> None:
    """Measure as the command line says, and print the table."""
    try:
        command = tyro.cli(Photos | Teacher, description=__doc__)
        result = {Photos: photos, Teacher: teacher}[type(command)](command)
        print(markdown_table(result['table']))
        for note in result['notes']:
            print(f'\n{note}')
        command.out.mkdir(parents=True, exist_ok=True)
        with replacing(command.out / 'result.json') as temporary:
            temporary.write_text(json.dumps(result, indent=1))
    except (ValueError, OSError) as error:
        sys.exit(f'naming: {error}')


if __name__ == '__main__':
    main()
