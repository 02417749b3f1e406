"""Open the teacher that a recipe names; and what a student takes along of it."""
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
    """Return whether a teacher is a service or a function, of which only answers are known."""
    return ':' in source.model and not source.model.endswith('.json')


def open_teacher(source: TeacherSource, device: str = 'cpu') -> Teacher:
    """Open the teacher that a recipe names; raises ValueError if it cannot be had."""
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
    Return the teacher's text side, which no prompt is asked of twice.

    :param source: where the teacher came from; what its recording knows is not asked.
    :param queries: counts them.
    """
    return CountedText(teacher, default_cache_dir(), Queries() if queries is None else queries,
                       recording=source.recording)


def tower_beside(source: TeacherSource, teacher: Teacher, folder: Path) -> TextTower:
    """
    Return what a student's checkpoint names as its text tower.

    A local one's files are put beside the checkpoint, where it looks for them: linked where the
    disk allows it, else copied. The prompts of a recording are written there; others of a black
    box are on the robot only as far as its cache has them.
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
