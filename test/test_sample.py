"""The sample of YCB renders that ships with the package."""
from collections.abc import Iterator
import csv
import json
from pathlib import Path

from coco import read_scenes
import cv2
from domains import DOMAINS
from image_index import label_of, read_folders
import numpy as np
from splits import read_object_split, split_objects
from vl2v_ros import checkpoint, vocabulary, vocabulary_file
from vl2v_ros.classifier import Classifier
from vl2v_ros.frame import Frame
from vl2v_ros.text import ClipText

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / 'data' / 'ycb_sample'
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


def read_video(path: Path) -> Iterator[Frame]:
    video = cv2.VideoCapture(str(path))
    while (pixels := video.read()[1]) is not None:
        yield Frame(pixels, 'bgr')


def test_the_shipped_student_names_the_objects_of_the_sequence() -> None:
    with (SAMPLE / 'sequence.csv').open() as file:
        truth = [row['class'] for row in csv.DictReader(file)]
    assert set(truth) <= {*SPLIT.id, *SPLIT.ood}
    frames = list(read_video(SAMPLE / 'sequence.mp4'))
    assert len(frames) == len(truth) == 180

    student = ROOT / 'models' / 'student.safetensors'
    classifier = Classifier(checkpoint.load(student), 'cpu')
    encoder = ClipText(classifier.spec.text_tower, student.parent)
    file = vocabulary_file.parse(str(ROOT / 'config' / 'vocabularies' / 'ycb.yaml'))
    words = vocabulary.build(file.entries, encoder, 1, file.templates, file.background)
    named = [prediction.labels[0] for prediction in classifier.classify(frames, words)]
    right = sum(label == label_of(name) for label, name in zip(named, truth))
    print(f'{right} of {len(truth)} frames named rightly out of {len(words.labels)} labels')
    assert right > 0.9 * len(truth)


def test_it_is_small_and_says_whose_objects_these_are() -> None:
    assert sum(path.stat().st_size for path in SAMPLE.rglob('*') if path.is_file()) < 12e6
    card = json.loads((SAMPLE / 'dataset.json').read_text())
    assert 'YCB' in card['attribution']
    assert card['licence'] == 'CC BY 4.0'
    notice = (ROOT / 'NOTICE').read_text()
    assert 'data/ycb_sample' in notice
    assert 'Creative Commons Attribution 4.0' in notice
