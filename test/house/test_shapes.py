"""Shapes: the drawings, and the toy student that names them."""
from collections.abc import Sequence
from pathlib import Path
import shutil

import cv2
import numpy as np
import pytest
from support import shapes
import torch
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.preprocess import crop
from vl2v_ros.model import checkpoint
from vl2v_ros.model.classifier import Classifier
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.words import vocabulary
from vl2v_ros.words.clip_text import ClipText
from vl2v_ros.words.labels import check_labels
from vl2v_ros.words.vocabulary import Vocabulary

BATCH = 30
every_size = pytest.mark.parametrize('width, height, count', [(640, 480, 300), (1920, 1080, 120)])


@pytest.fixture(scope='module')
def classifier(shapes_student: Path) -> Classifier:
    return Classifier(checkpoint.load(shapes_student), 'cpu')


@pytest.fixture(scope='module')
def encoder(shapes_student: Path, classifier: Classifier) -> ClipText:
    return ClipText(classifier.spec.text_tower, shapes_student.parent)


@pytest.fixture(scope='module')
def seen_labels(encoder: ClipText) -> Vocabulary:
    return vocabulary.build(check_labels(shapes.SEEN_LABELS), encoder, 1)


def as_jpeg(pixels: np.ndarray) -> Frame:
    """Return RGB pixels as they come out of a compressed topic."""
    written, data = cv2.imencode('.jpg', pixels[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 80))
    assert written
    return Frame(cv2.imdecode(data, cv2.IMREAD_COLOR), 'bgr')


def classify(classifier: Classifier, vocabulary: Vocabulary, labels: Sequence[str], width: int,
             height: int) -> list[Prediction]:
    """Draw frames that the student has not seen in training, and have them named."""
    rng, predictions = np.random.default_rng(20_000 + width), []
    for start in range(0, len(labels), BATCH):
        frames = [as_jpeg(shapes.draw(label, width, height, rng))
                  for label in labels[start:start + BATCH]]
        predictions += classifier.classify(frames, vocabulary)
    return predictions


@every_size
@pytest.mark.long
def test_held_out_frames_get_their_label(classifier: Classifier, seen_labels: Vocabulary,
                                         width: int, height: int, count: int) -> None:
    truth = (shapes.SEEN_LABELS * count)[:count]
    predictions = classify(classifier, seen_labels, truth, width, height)
    wrong = [(label, prediction.labels[0])
             for label, prediction in zip(truth, predictions, strict=True)
             if prediction.labels[0] != label]
    assert len(wrong) <= 0.01 * count, wrong
    unknown = [label for label, prediction in zip(truth, predictions, strict=True)
               if prediction.unknown]
    assert len(unknown) <= 0.05 * count, unknown


@every_size
def test_empty_ground_is_unknown(classifier: Classifier, seen_labels: Vocabulary, width: int,
                                 height: int, count: int) -> None:
    predictions = classify(classifier, seen_labels, [''] * (count // 4), width, height)
    named = [prediction for prediction in predictions if not prediction.unknown]
    assert len(named) <= 0.05 * len(predictions), named


def test_words_of_shapes_alone_name_the_shape(classifier: Classifier, encoder: ClipText) -> None:
    words = vocabulary.build(check_labels(shapes.SHAPES), encoder, 2)
    truth = shapes.SEEN_LABELS * 4
    predictions = classify(classifier, words, truth, 640, 480)
    wrong = [(label, prediction.labels[0])
             for label, prediction in zip(truth, predictions, strict=True)
             if prediction.labels[0] != label.split()[1]]
    assert len(wrong) <= 0.05 * len(truth), wrong


def test_every_label_is_seen_in_training_or_left_out_of_it() -> None:
    assert sorted(shapes.SEEN_LABELS + shapes.UNSEEN_LABELS) == sorted(shapes.LABELS)
    assert not set(shapes.SEEN_LABELS) & set(shapes.UNSEEN_LABELS)
    words = {word for label in shapes.SEEN_LABELS for word in label.split()}
    assert words == {*shapes.COLOURS, *shapes.SHAPES}  # each word alone was seen


@pytest.mark.parametrize('shape', shapes.SHAPES + shapes.OTHER_SHAPES)
@pytest.mark.parametrize('width, height', [(320, 240), (240, 320), (97, 97)])
@pytest.mark.parametrize('place', [None, (-1, -1), (1, 1), (0, 0)])
def test_shape_is_drawn_where_the_student_looks(
        shape: str, width: int, height: int, place: tuple[float, float] | None) -> None:
    pixels = shapes.draw(f'red {shape}', width, height, np.random.default_rng(5), place)
    assert (pixels.shape, pixels.dtype) == ((height, width, 3), np.uint8)
    red = pixels[..., 0] > pixels[..., 1:].max(2).astype(int) + 60
    assert red.sum() > 0.01 * min(width, height) ** 2
    # All but the blurred edge of a shape that touches the square's own.
    assert crop(red[..., None], 'shortest').sum() > 0.99 * red.sum()
    if place:
        side, centre = min(width, height), np.argwhere(red).mean(0)[::-1]
        offset = (centre - (width / 2, height / 2)) / side
        assert np.all(np.abs(offset) < 0.12) if place == (0, 0) else np.all(offset * place > 0)


def test_ground_alone_shows_no_colour() -> None:
    pixels = shapes.draw('', 320, 240, np.random.default_rng(5)).astype(int)
    assert (pixels.max(2) - pixels.min(2)).max() < 60
    assert pixels.std() > 1


def test_same_seed_draws_the_same_picture() -> None:
    pictures = [shapes.draw('blue star', 64, 48, np.random.default_rng(seed))
                for seed in (1, 1, 2)]
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_sequence_is_a_folder_of_jpegs_in_order(tmp_path: Path) -> None:
    shapes.draw_sequence(tmp_path / 'new' / 'frames', ['red star', 'blue cross'], 3, 64, 48)
    files = sorted((tmp_path / 'new' / 'frames').iterdir())
    assert [file.name for file in files] == [
        f'{label:02d}_{frame:02d}.jpg' for label in range(2) for frame in range(3)]
    pictures = [cv2.imread(str(file)) for file in files]  # BGR
    assert {picture.shape for picture in pictures} == {(48, 64, 3)}
    redness = [picture[..., 2].astype(int) - picture[..., 0] for picture in pictures]
    assert all(surplus.max() > 60 for surplus in redness[:3])
    assert all(surplus.min() < -60 for surplus in redness[3:])
    assert not np.array_equal(pictures[0], pictures[1])  # it goes round


@pytest.fixture
def copied(shapes_student: Path, tmp_path: Path) -> Path:
    """Return a folder with a toy student of its own."""
    return Path(shutil.copytree(shapes_student.parent, tmp_path / 'shapes'))


def test_pairs_left_out_of_training_are_named_far_above_chance(
        classifier: Classifier, encoder: ClipText) -> None:
    words = vocabulary.build(check_labels(shapes.LABELS), encoder, 1)
    truth = shapes.UNSEEN_LABELS * 24
    best = [prediction.labels[0] for prediction in classify(classifier, words, truth, 320, 240)]
    assert np.mean([name == label
                    for name, label in zip(best, truth, strict=True)]) > 0.5  # 0.03 by chance
    assert np.mean([name.split()[0] == label.split()[0]
                    for name, label in zip(best, truth, strict=True)]) > 0.95


def test_descriptions_unknown_to_the_toy_do_not_mislead_it(
        classifier: Classifier, encoder: ClipText) -> None:
    sentence = 'Somebody painted it on a wall.'
    words = vocabulary.build(check_labels(
        shapes.SEEN_LABELS, [sentence] * len(shapes.SEEN_LABELS)), encoder, 1)
    truth = shapes.SEEN_LABELS * 4
    best = [prediction.labels[0] for prediction in classify(classifier, words, truth, 320, 240)]
    assert np.mean([name == label for name, label in zip(best, truth, strict=True)]) >= 0.95


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train for two steps only: the student is useless, but made in the same way."""
    for name, value in (('IMAGES', 120), ('STEPS', 2), ('TEXT_STEPS', 2)):
        monkeypatch.setattr(shapes, name, value)


@pytest.mark.usefixtures('short')
@pytest.mark.long
def test_same_seed_trains_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (('one', 5), ('same', 5), ('other', 6)):
        torch.rand(3)  # whatever the state of the global generator
        shapes.train(tmp_path / name, seed)
    names = {'shapes.safetensors', 'shapes_text.json', 'shapes_text.safetensors'}
    # Left out is what is made for OpenVINO: nodes of a graph are numbered on in a process.
    one, same, other = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()
                         if path.suffix not in ('.graph', '.cells')}
                        for name in ('one', 'same', 'other'))
    assert one.keys() == names and one == same
    assert {name for name in names if one[name] != other[name]} == names - {'shapes_text.json'}


@pytest.mark.usefixtures('short')
def test_training_leaves_generator_and_threads_as_they_were(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    shapes.train(tmp_path)
    assert torch.equal(torch.rand(4), expected)
    assert torch.get_num_threads() == threads


@pytest.mark.usefixtures('short')
def test_what_is_trained_can_be_read_by_all_who_may(tmp_path: Path) -> None:
    (tmp_path / 'plain').touch()
    shapes.train(tmp_path / 'shapes')
    assert ({path.stat().st_mode for path in (tmp_path / 'shapes').iterdir()}
            == {(tmp_path / 'plain').stat().st_mode})
