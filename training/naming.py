"""
Measure a student on photos that it was not trained on, as it runs on a robot.

python training/naming.py photos --checkpoint STUDENT.safetensors --out FOLDER --data DATA
python training/naming.py photos --checkpoint STUDENT.safetensors --out FOLDER \
    --photos MY_PHOTOS --names my_names.yaml
python training/naming.py teacher --checkpoint STUDENT.safetensors --out FOLDER \
    --recording photos/clip_vit_b32.safetensors --images photos/recorded/coco
python training/naming.py unknown --checkpoint STUDENT.safetensors --out FOLDER --data DATA
python training/naming.py precisions --checkpoint STUDENT.safetensors --out FOLDER --data DATA
python training/naming.py boxes --checkpoint STUDENT.safetensors --out FOLDER \
    --images renders/clutter --names config/names/ycb.yaml
python training/naming.py steadiness --checkpoint STUDENT.safetensors --out FOLDER --data DATA
python training/naming.py distances --meshes meshes --out FOLDER
python training/naming.py where --checkpoint STUDENT.safetensors --out FOLDER \
    --images photos/grocery/val --boxes config/where/grocery_boxes.yaml \
    --names config/names/grocery.yaml
python training/naming.py presence --checkpoint STUDENT.safetensors --out FOLDER \
    --images photos/grocery/val --boxes config/where/grocery_boxes.yaml \
    --names config/names/grocery.yaml
python training/naming.py teach --checkpoint STUDENT.safetensors --out FOLDER \
    --images photos/grocery/train --classes Leek Red-Beet

`photos` measures the accuracy on labelled photos: among the names of their own list, and among all
names in the recording beside the student. `teacher` compares the student with a teacher's recorded
answers. `unknown` measures how well photos are found unknown whose names are not in the list, for
lists of several lengths (rules.py); with --calibrate it writes threshold and temperature into the
checkpoint. `precisions` compares the precisions of this CPU, whatever a robot would choose: the
time from a 1280x720 frame to its embedding (the fastest of each round: median of the rounds, and
range), mean and lowest cosine with float32, and the accuracy. `boxes` names the boxes of COCO
annotations as the node names those of a detector. `steadiness` measures how often the labels of a
moving camera change, and how long the right one takes, for values of the parameters smoothing and
hysteresis. `distances` measures the places that the node finds by depth, on heaps that it renders.
`where` finds boxes without a detector, as the node does for ~/detections, and compares them with
known ones. `presence` measures the probabilities of ~/presence that the maps give. `teach` names
photos of things that were taught by a few others, as ~/teach does. Each prints a table, and writes
result.json into --out.
"""
from collections.abc import Callable
from dataclasses import dataclass
import sys
from typing import Annotated, Any

import torch
from training.measuring.answers import Teacher, teacher
from training.measuring.boxes import Boxes, boxes
from training.measuring.distances import Distances, distances
from training.measuring.pages.report import markdown_table
from training.measuring.photo_sets import (
    accuracies,
    known_names,
    PhotoSet,
    read_set,
    Sets,
    sets_of,
)
from training.measuring.precisions import Precisions, precisions
from training.measuring.robot import facts, Robot
from training.measuring.scenes.told import Presence, presence
from training.measuring.scenes.where import where, WhereIs
from training.measuring.steadiness import Steadiness, steadiness
from training.measuring.teaching import Teaching, teaching
from training.measuring.unknown import Unknown, unknown
import tyro
from vl2v_ros.files import write_json


@dataclass(frozen=True, kw_only=True)
class Photos(Sets):
    """Measure the accuracy on labelled photos."""


def photos(command: Photos) -> dict[str, Any]:
    """Name the photos of each set; raises ValueError if photos or names cannot be used."""
    robot = Robot(command.checkpoint, command.device, command.templates)
    rows, notes = [], []
    for name, one in sets_of(command).items():
        row, said = named(robot, one)
        rows.append({'photos': name, **row})
        notes += [f'{name}: {text}' for text in said]
    return {**facts(command, robot), 'table': rows, 'notes': notes}


def named(robot: Robot, photo_set: PhotoSet) -> tuple[dict[str, object], list[str]]:
    """
    Name the photos of one set.

    :return: a row of the table, accuracies in percent (mean of the domains); and notes.
    """
    shown = read_set(photo_set, robot.encoder, robot.templates)
    rows, labels = robot.embed(shown.index), torch.from_numpy(shown.labels)
    row: dict[str, object] = {'count': len(shown.index), 'names': len(shown.words.labels)}
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


def shortly(value: object) -> object:
    """Return a list of numbers as one text, any other value unchanged."""
    if not isinstance(value, list):
        return value
    return ' '.join(f'{one:.0f}' if max(value) > 1.5 else f'{one:.2f}' for one in value)


def main() -> None:
    """Measure as the command line says, and print the table."""
    try:
        command = tyro.cli(
            Photos | Teacher | Unknown | Precisions | Boxes | Steadiness | Distances
            | Presence | Annotated[Teaching, tyro.conf.subcommand('teach')]
            | Annotated[WhereIs, tyro.conf.subcommand('where')], description=__doc__)
        measures: dict[type, Callable[[Any], dict[str, Any]]] = {
            Photos: photos, Teacher: teacher, Unknown: unknown, Precisions: precisions,
            Boxes: boxes, Steadiness: steadiness, Distances: distances, Presence: presence,
            WhereIs: where, Teaching: teaching}
        result = measures[type(command)](command)
        print(markdown_table([{name: shortly(value) for name, value in row.items()}
                              for row in result['table']]))
        for note in result['notes']:
            print(f'\n{note}')
        command.out.mkdir(parents=True, exist_ok=True)
        write_json(command.out / 'result.json', result)
    except (ValueError, OSError) as error:
        sys.exit(f'naming: {error}')


if __name__ == '__main__':
    main()
