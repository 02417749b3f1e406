"""Open the teacher of a recipe; store its text tower and its prompts beside a student."""
from dataclasses import replace
import os
from pathlib import Path
import shutil

from training.recipe import TeacherSource
from training.teachers.http_teacher import HttpTeacher
from training.teachers.queries import CountedText, Queries
from training.teachers.recorded import check_identity, keep
from training.teachers.teacher import load_callable, OpenClipTeacher, Teacher
from vl2v_ros.files import replacing
from vl2v_ros.words import recording
from vl2v_ros.words.cached_text import default_cache_dir
from vl2v_ros.words.encoder import TextEncoder, TextTower

PROMPTS = 'known_prompts.safetensors'  # beside a student, of its teacher's recording


def is_black_box(source: TeacherSource) -> bool:
    """Return whether a teacher is a service or a function, which only answers queries."""
    return ':' in source.model and not source.model.endswith('.json')


def open_teacher(source: TeacherSource, device: str = 'cpu') -> Teacher:
    """Open the teacher of a recipe; raises ValueError if it cannot be loaded or reached."""
    if source.model.startswith(('http://', 'https://')):
        teacher: Teacher = HttpTeacher(source.model)
    elif is_black_box(source):
        teacher = load_callable(source.model)
    else:
        teacher = OpenClipTeacher(TextTower(source.model, source.pretrained), Path(), device)
    if source.recording:
        found = recording.read(source.recording)
        check_identity(found, teacher.identity)
        keep(found, default_cache_dir())
    return teacher


def cached(teacher: Teacher, source: TeacherSource, queries: Queries | None = None
           ) -> TextEncoder:
    """
    Return the teacher's text encoder with its cache, so that no prompt is asked twice.

    :param source: source of the teacher; prompts in its recording are not asked.
    :param queries: counts the prompts.
    """
    return CountedText(teacher, default_cache_dir(), Queries() if queries is None else queries,
                       recording=source.recording)


def tower_beside(source: TeacherSource, teacher: Teacher, folder: Path) -> TextTower:
    """
    Return the text tower for a student's checkpoint, and put its files beside the checkpoint.

    Files of a local text tower are linked, or copied if the disk has no links. The prompts of a
    recording are written there too. If the teacher is a service or a function, a robot knows other
    prompts only from its cache.
    """
    known = ''
    if source.recording:
        found, known = recording.read(source.recording), PROMPTS
        recording.write(replace(found, image_size=0, image_digests=found.image_digests[:0],
                                image_rows=found.image_rows[:0]), folder / known)
    if is_black_box(source):
        return TextTower(source.model, '', teacher.identity, known)
    tower = TextTower(source.model, source.pretrained, teacher.identity, known)
    if not tower.is_local:
        return tower
    for name in (tower.model, tower.pretrained):
        target = folder / Path(name).name
        if target.exists() and target.samefile(name):
            continue
        with replacing(target) as temporary:  # several processes may do so at once
            try:
                os.link(name, temporary)
            except OSError:
                shutil.copyfile(name, temporary)
    return TextTower(Path(tower.model).name, Path(tower.pretrained).name, tower.identity, known)
