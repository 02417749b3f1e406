"""A student on the CPU and labels that it has seen."""
from pathlib import Path

import numpy as np
import pytest
from support import shapes
from support.runtimes import FRAMES
import torch
from torch.optim.swa_utils import update_bn
from vl2v_ros.images.preprocess import preprocess
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime.choose import create
from vl2v_ros.model.runtime.matching import Runtime
from vl2v_ros.model.spec import StudentSpec
from vl2v_ros.model.student import Student
from vl2v_ros.words import vocabulary
from vl2v_ros.words.clip_text import ClipText
from vl2v_ros.words.encoder import TextTower
from vl2v_ros.words.labels import check_labels


@pytest.fixture(scope='module',
                params=['mobilenetv3_small_100', 'test_vit2', 'shapes'])
def student(request: pytest.FixtureRequest, shapes_student: Path) -> Student:
    """Return a student; its random weights, if any, stand in training mode."""
    if request.param == 'shapes':
        return checkpoint.load(shapes_student)
    torch.manual_seed(0)
    student = Student(StudentSpec(request.param, 64, 224, TextTower('none', 'none')))
    # Without statistics of its own, batch normalisation lets random weights fade to nothing.
    update_bn([preprocess(FRAMES, 224, 'shortest')], student)
    return student


@pytest.fixture(scope='module')
def on_cpu(student: Student) -> Runtime:
    """Return what a CPU runs: OpenVINO, or torch where that is not installed."""
    return create(student, 'cpu', half=False)


@pytest.fixture(scope='module')
def seen_labels(shapes_student: Path) -> np.ndarray:
    """Return the prototypes of shapes.SEEN_LABELS."""
    tower = checkpoint.load(shapes_student).spec.text_tower
    return vocabulary.build(check_labels(shapes.SEEN_LABELS),
                            ClipText(tower, shapes_student.parent), 1).prototypes
