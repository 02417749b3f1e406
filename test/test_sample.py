"""The sample of YCB renders that ships with the package."""
import csv
import json
from pathlib import Path

import cv2
from domains import DOMAINS
from image_index import read_folders
import numpy as np
from splits import read_object_split, split_objects

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
    from coco import read_scenes
    index = read_scenes(SAMPLE / 'clutter')
    sets = split_objects(index, SPLIT)
    assert not index.corrupt
    assert len(sets.x_id) == len(sets.x_ood) == 10


def test_the_sequence_has_a_class_for_each_frame() -> None:
    with (SAMPLE / 'sequence.csv').open() as file:
        truth = [row['class'] for row in csv.DictReader(file)]
    assert set(truth) <= {*SPLIT.id, *SPLIT.ood}
    video = cv2.VideoCapture(str(SAMPLE / 'sequence.mp4'))
    frames = 0
    while video.read()[0]:
        frames += 1
    assert frames == len(truth) == 180


def test_it_is_small_and_says_whose_objects_these_are() -> None:
    assert sum(path.stat().st_size for path in SAMPLE.rglob('*') if path.is_file()) < 12e6
    card = json.loads((SAMPLE / 'dataset.json').read_text())
    assert 'YCB' in card['attribution']
    assert card['licence'] == 'CC BY 4.0'
    notice = (ROOT / 'NOTICE').read_text()
    assert 'data/ycb_sample' in notice
    assert 'Creative Commons Attribution 4.0' in notice
