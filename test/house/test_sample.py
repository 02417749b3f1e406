"""The sample of YCB renders that ships with the package."""
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import photos_sample
import torch
from training.data.coco import read_scenes
from training.data.image_index import read_folders
from training.data.splits import read_object_split, split_objects
from training.rendering.domains import DOMAINS
from vl2v_ros.images.frame import Frame
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime.choose import create
from vl2v_ros.model.runtime.device_resize import DeviceResize
from vl2v_ros.model.runtime.matching import Matches
from vl2v_ros.model.runtime.torch_runtime import match_on_device
from vl2v_ros.model.student import Student
from vl2v_ros.words.vocabulary import Vocabulary

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / 'data' / 'ycb_sample'
STUDENT = ROOT / 'data' / 'mini' / 'student.safetensors'
SPLIT = read_object_split(ROOT / 'config' / 'splits' / 'ycb_robot.yaml')


def test_every_object_of_the_split_is_there_in_every_domain() -> None:
    index = read_folders(SAMPLE / 'single')
    assert not index.corrupt
    assert set(index.class_names) == {*SPLIT.id, *SPLIT.ood}
    assert set(index.domain_names) == set(DOMAINS)
    counts = np.zeros((26, 5), int)
    np.add.at(counts, (index.labels, index.domains), 1)
    assert (counts == 8).all()
    sets = split_objects(index, SPLIT)
    assert len(sets.x_id) == 14 * 5 * 8
    assert len(sets.x_ood) == 12 * 5 * 8


def test_scenes_of_both_kinds_are_there() -> None:
    index = read_scenes(SAMPLE / 'clutter')
    sets = split_objects(index, SPLIT)
    assert not index.corrupt
    assert len(sets.x_id) == len(sets.x_ood) == 10


def match_as_on_a_gpu(student: Student, frames: list[Frame], words: Vocabulary) -> Matches:
    """Do what the GPU does, but on the CPU."""
    spec, cpu = student.spec, torch.device('cpu')
    resize = DeviceResize(spec.image_size, spec.resize_mode, cpu, torch.float32)
    rows = torch.from_numpy(np.concatenate([words.prototypes, words.background_rows]))
    with torch.inference_mode():
        return match_on_device(student(resize(frames)), rows, len(words.labels), 5,
                               spec.temperature)


@pytest.mark.parametrize('device', ['cpu', *(pytest.param(device, marks=pytest.mark.cuda)
                                    for device in ('half', 'float32'))])
@pytest.mark.long
def test_the_gpu_gives_the_labels_of_the_cpu(device: str, tmp_path: Path) -> None:
    student = checkpoint.load(STUDENT)
    words = photos_sample.build_words(STUDENT, photos_sample.everyday(), tmp_path)
    stills = sorted((SAMPLE / 'single').rglob('*.jpg'))[::20]
    frames = [*(Frame(cv2.imread(str(path)), 'bgr') for path in stills),
              *photos_sample.read_frames()[::30]]
    arguments = (frames, words.prototypes, words.background_rows, 5, student.spec.temperature)
    matches = (match_as_on_a_gpu(student, frames, words) if device == 'cpu' else
               create(student, 'cuda', device == 'half').match(*arguments))
    expected = create(student, 'cpu').match(*arguments)
    # uint8 on the CPU rounds what the GPU does not: two labels as near as that may change places.
    clear = -np.diff(expected.similarities[:, :2])[:, 0] > 0.005
    assert clear.sum() > 0.75 * len(frames) > 50
    assert np.array_equal(matches.indices[clear, 0], expected.indices[clear, 0])


def test_it_is_small_and_says_whose_objects_these_are() -> None:
    assert sum(path.stat().st_size for path in SAMPLE.rglob('*') if path.is_file()) < 12e6
    card = json.loads((SAMPLE / 'dataset.json').read_text())
    assert 'YCB' in card['attribution']
    assert card['licence'] == 'CC BY 4.0'
    notice = (ROOT / 'NOTICE').read_text()
    assert 'data/ycb_sample' in notice
    assert 'Creative Commons Attribution 4.0' in notice
