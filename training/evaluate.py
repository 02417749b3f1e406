"""
Measure a student: its accuracy, how it generalises, and how well it detects unknown images.

python training/evaluate.py --checkpoint STUDENT.safetensors --out FOLDER --config RECIPE.yaml
python training/evaluate.py --checkpoint STUDENT.safetensors --out FOLDER --scenes RENDERS/clutter
python training/evaluate.py --text --checkpoint STUDENT.safetensors --out FOLDER

Images, split and teacher come from the recipe, as in training; an option such as --data.images
changes a field of it. Writes result.json and report.html into --out. With --text it writes what
text_space.py measures; the teacher is then the text tower of the checkpoint.
"""
from collections.abc import Mapping
from dataclasses import dataclass, replace
import json
from pathlib import Path
import sys
from typing import Any

from training.data.task import read_task, shard_task, vocabulary_of
from training.learning.trainee import open_device, Trainee
from training.measuring import text_space
from training.measuring.pages import report
from training.measuring.student import evaluate, Page
from training.recipe import Recipe
from training.recipe_file import read_command
from training.teachers import opening
from training.teachers.embedding_cache import CachedTeacher
from training.teachers.teacher import Teacher
import tyro
from vl2v_ros.files import write_json
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime.choose import create
from vl2v_ros.model.spec import StudentSpec
from vl2v_ros.words.cached_text import default_cache_dir


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(Recipe):
    """The student to evaluate; all fields of a recipe are options as well."""

    checkpoint: Path
    """The student (*.safetensors), as distill.py writes it."""
    out: Path
    """Folder for result.json and report.html."""
    scenes: Path | None = None
    """A `clutter` dataset of render.py: each object in its scenes is tested as well."""
    calibrate: bool = False
    """Choose temperature and unknown threshold, and write them into the checkpoint."""
    as_robot: bool = False
    """Run the student as on the CPU of a robot: in int8 if the checkpoint has it (export.py
    --int8), in half precision if the CPU supports it, else in float32."""
    text: bool = False
    """Measure the text space instead, and what descriptions change on plain images."""


def show(result: Mapping[str, Any]) -> None:
    """Print the tables."""
    print(report.markdown_table(result['table']))
    print('\nIts teacher:\n' + report.markdown_table(result['teacher']))
    print('\n' + ', '.join(f'{name} {value:.3g}' for name, value in result['figures'].items()))
    for reason in result['left_out']:
        print(f'Left out: {reason}')


def check_teacher(spec: StudentSpec, teacher: Teacher, path: Path) -> None:
    """Raise ValueError if the teacher is not the one that the checkpoint names."""
    for name, wanted, got in (('width', spec.width, teacher.width),
                              ('identity', spec.text_tower.identity, teacher.identity)):
        if wanted not in ('', got):
            raise ValueError(f'{path}: expected a teacher of {name} {wanted}, got one of {got}; '
                             'name the one the student was distilled from as --teacher.model and '
                             '--teacher.pretrained')


def run(options: EvaluateOptions) -> dict[str, Any]:
    """Evaluate a checkpoint and write the results; raises ValueError for wrong inputs."""
    done = options.out / 'result.json'
    if done.is_file() and 'checkpoint' not in json.loads(done.read_text()):
        raise ValueError(f'{done} is the result of a training; choose another --out')
    if options.data.presence:
        raise ValueError('data.presence: expected images of single objects, got scenes; the '
                         "result.json that distill.py writes has a student's figures of presence")
    student = checkpoint.load(options.checkpoint)
    runtime = create(student, 'cpu') if options.as_robot else None
    if runtime:
        print(f'{options.checkpoint} runs on {runtime.description}')
    device = open_device(options.device)
    teacher = opening.open_teacher(options.teacher, str(device))
    check_teacher(student.spec, teacher, options.checkpoint)
    data = options.data
    task = replace(shard_task(data)[0] if data.shards else read_task(data), scenes=options.scenes)
    words = vocabulary_of(task.labels, data, opening.cached(teacher, options.teacher))
    before, trainee = student.spec, Trainee(student).to(device)
    trainee.runtime = runtime
    result = {'checkpoint': str(options.checkpoint)} | evaluate(
        trainee, task, words, CachedTeacher(teacher, default_cache_dir() / 'embeddings'),
        Page(options.out, options.checkpoint.name,
             {'checkpoint': str(options.checkpoint), 'backbone': before.backbone,
              'teacher': teacher.identity, 'trained on': before.trained_on}),
        choose=options.calibrate)
    write_json(done, result)
    if student.spec != before:
        checkpoint.save(student.half(), options.checkpoint, student.int8)  # its weights stayed
    return result


def main() -> None:
    """Evaluate as the command line says, and print the tables."""
    try:
        recipe, arguments = read_command(sys.argv[1:])
        default = EvaluateOptions(**{**vars(recipe), 'out': tyro.MISSING}, checkpoint=tyro.MISSING)
        options = tyro.cli(EvaluateOptions, default=default, args=arguments, description=__doc__)
        if options.text and options.as_robot:
            raise ValueError('expected --text or --as-robot, got both')
        if options.text:
            print(text_space.run(options.checkpoint, options.out, options.data,
                                 open_device(options.device)))
        else:
            show(run(options))
    except (ValueError, OSError) as error:
        sys.exit(f'evaluate: {error}')


if __name__ == '__main__':
    main()
