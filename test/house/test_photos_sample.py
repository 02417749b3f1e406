"""The photos that the demo plays: whose they are, and how many the student that ships names."""
from itertools import pairwise
import os
from pathlib import Path
import subprocess
import sys

import cv2
import numpy as np
import pytest
from support import photos_sample
from support.photos_sample import RATE, ROOT, SAMPLE
from vl2v_ros.model import checkpoint
from vl2v_ros.model.classifier import Classifier
from vl2v_ros.nodes.demo import OTHER_LABELS

STUDENT = ROOT / 'models' / 'student.safetensors'


def test_the_list_says_of_every_photo_what_is_right() -> None:
    shown = photos_sample.read_list()
    assert [row.stamp for row in shown] == list(range(len(shown)))
    assert len({row.photo for row in shown}) == len(shown) == 16
    assert all(row.photo.startswith('val/') for row in shown)  # students learn from train/
    assert {label for row in shown for label in row.labels} <= {*photos_sample.everyday()}
    assert {row.kind for row in shown} <= {*OTHER_LABELS.split(', ')}


def test_the_video_shows_each_photo_for_a_second() -> None:
    frames = photos_sample.read_frames()
    assert len(frames) == len(photos_sample.truth())
    assert {frame.pixels.shape for frame in frames} == {(360, 480, 3)}
    small = [cv2.resize(frame.pixels, (24, 18), interpolation=cv2.INTER_AREA).astype(float)
             for frame in frames]
    changes = np.array([np.abs(after - before).mean() for before, after in pairwise(small)])
    cuts = np.arange(1, len(changes) + 1) % RATE == 0
    assert changes[cuts].min() > 2 * changes[~cuts].max()
    assert np.median(changes[~cuts]) > 0.2  # the view moves in between


@pytest.mark.skipif('VL2V_DATA' not in os.environ, reason='needs the photos')
def test_the_video_is_what_the_script_makes(tmp_path: Path) -> None:
    out = tmp_path / 'sequence.mp4'
    subprocess.run([sys.executable, ROOT / 'training/photo_sequence.py', '--list',
                    SAMPLE / 'sequence.csv', '--photos',
                    Path(os.environ['VL2V_DATA']) / 'photos/grocery', '--out', out], check=True)
    made, shipped = cv2.VideoCapture(str(out)), photos_sample.read_frames()
    for frame in shipped:
        assert cv2.PSNR(made.read()[1], frame.pixels) > 35  # [dB]
    assert made.read()[1] is None


@pytest.mark.parametrize(('second', 'wanted'), [(False, 0.8), (True, 0.75)])
def test_the_shipped_student_names_the_photos(second: bool, wanted: float, tmp_path: Path) -> None:
    student = checkpoint.load(STUDENT)
    if not student.spec.text_tower.recording:
        pytest.skip('the student that ships knows no words of CLIP')
    labels = OTHER_LABELS.split(', ') if second else photos_sample.everyday()
    words = photos_sample.build_words(STUDENT, labels, tmp_path)
    frames, truth = photos_sample.read_frames(), photos_sample.truth()
    named = [prediction.labels[0]
             for prediction in Classifier(student, 'cpu').classify(frames, words)]
    right = sum(label in ((shown.kind,) if second else shown.labels)
                for label, shown in zip(named, truth, strict=True))
    print(f'{right} of {len(truth)} frames named rightly out of {len(labels)} labels')
    assert right > wanted * len(truth)


def test_it_is_small_and_says_whose_photos_these_are() -> None:
    assert (SAMPLE / 'sequence.mp4').stat().st_size < 3e6
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) < 6e6
    licence = (SAMPLE / 'LICENSE').read_text()
    assert licence.startswith('MIT License\n\nCopyright (c) 2019 Marcus Klasson\n')
    notice = (ROOT / 'NOTICE').read_text()
    assert 'data/photos_sample' in notice
    assert 'Grocery Store Dataset' in notice
