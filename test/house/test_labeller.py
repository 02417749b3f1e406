"""Labeller: images and words in, predictions out, with nothing assembled by hand."""
from pathlib import Path
import subprocess
import sys

import cv2
import numpy as np
import pytest
from support import offline_student, photos_sample
from vl2v_ros import Labeller
from vl2v_ros.images.frame import Frame, to_rgb

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures('warm_cache')


@pytest.fixture(scope='module')
def photo() -> np.ndarray:
    return np.ascontiguousarray(to_rgb(photos_sample.read_frames()[15]))


def test_the_shipped_student_labels_files_pixels_and_frames(
        photo: np.ndarray, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / 'photo.png'), photo[..., ::-1])
    labeller, shown = Labeller.open(), photos_sample.read_list()[0]
    labels = [shown.labels[0], 'mug', 'power drill']
    found = [labeller.label(image, labels)
             for image in (photo, Frame(photo), tmp_path / 'photo.png',
                           str(tmp_path / 'photo.png'))]
    assert all(one == found[0] for one in found)
    assert set(found[0].labels) == set(labels) and found[0].vocabulary_version == 1
    [row] = labeller.embed([photo])
    texts = labeller.encoder.encode([f'a photo of a {label}' for label in labels[1:]]).rows
    assert row.shape == (512,) and texts.shape == (2, 512)
    assert np.linalg.norm(row) == pytest.approx(1, abs=1e-5)


def test_words_are_encoded_once_and_may_be_of_every_kind(photo: np.ndarray) -> None:
    labeller = Labeller.open()
    words = labeller.vocabulary(['mug', 'banana'])
    assert labeller.label(photo, words).labels == labeller.label(photo, 'mug, banana').labels
    labeller.label(photo, ('mug', 'banana'))
    first = labeller._named
    labeller.label(photo, ['mug', 'banana'])
    assert labeller._named is first
    file = ROOT / 'config/vocabularies/everyday.yaml'
    assert len(labeller.vocabulary(file).labels) > 250
    assert len(labeller.label(photo, file, top_k=7).labels) == 7


@pytest.mark.parametrize('image, message', [
    ('nowhere.jpg', 'expected an image file, got a file that cannot be read'),
    (np.zeros((4, 4), np.float32), 'expected'), (np.zeros((0, 4, 3), np.uint8), 'expected')])
def test_what_is_no_image_is_refused(image: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Labeller.open().label(image, ['mug'])


def test_a_label_is_taught_by_pictures_that_show_something(photo: np.ndarray) -> None:
    labeller = Labeller.open()
    for images, said in (([], "expected at least one example of 'my thing', got none"),
                         ([photo * 0], 'picture 1: expected an image that shows something')):
        with pytest.raises(ValueError, match=said):
            labeller.teach(['mug'], 'my thing', images)
    file = labeller.teach(['mug'], 'my thing', [photo, photo[:, ::-1]])
    again = labeller.teach(file, 'My Thing', [photo])
    words = labeller.vocabulary(again)
    assert words.labels == ('mug', 'my thing') and len(words.examples['my thing']) == 3
    assert labeller.label(photo, words).labels[0] == 'my thing'


def test_what_is_no_student_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='none.safetensors'):
        Labeller.open(tmp_path / 'none.safetensors')
    path = offline_student.write(tmp_path)
    with pytest.raises(ValueError, match='cuda'):
        Labeller.open(path, device='cuda:99').label(np.zeros((4, 4, 3), np.uint8), ['mug'])


def test_the_package_is_imported_without_what_it_does_not_use() -> None:
    said = subprocess.run(
        [sys.executable, '-c', 'import sys, vl2v_ros; first = len(sys.modules); '
         'print("numpy" in sys.modules, vl2v_ros.Labeller.__name__, "torch" in sys.modules)'],
        capture_output=True, text=True, check=True)
    assert said.stdout == 'False Labeller False\n'
    with pytest.raises(AttributeError, match='Labeler'):
        import vl2v_ros
        vl2v_ros.Labeler
