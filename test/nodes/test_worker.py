"""The worker thread: one batch of the newest images, answers and refusals, an orderly end."""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from support import tiny_models
from support.detector import to_regions
from support.ros_processes import wait_until
from vl2v_msgs.srv import ClassifyImage
from vl2v_ros.images.frame import Frame
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.nodes.messages import to_image
from vl2v_ros.nodes.parameters import ClassifierParameters
from vl2v_ros.nodes.services.classify_image import ImageRequest
from vl2v_ros.nodes.topics.region_pairs import Pair
from vl2v_ros.nodes.worker import Asked, Current, Predictions, Worker
from vl2v_ros.words.vocabulary import Vocabulary

VOCABULARY = tiny_models.given({'mug': [1.0]}, version=3)
CURRENT = Current(VOCABULARY, ClassifierParameters())


class Gate:
    """Stands for a classifier: notes its batches, and holds each until it is released."""

    runtime = SimpleNamespace(at_once=2)

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.go_on = threading.Semaphore(0)
        self.error: Exception | None = None

    def classify(self, frames: Sequence[Frame], vocabulary: Vocabulary, top_k: int,
                 unknown_threshold: float | None) -> list[Prediction]:
        self.batches.append(len(frames))
        self.go_on.acquire()
        if self.error:
            raise self.error
        return [Prediction(('mug',), (1.0,), (1.0,), False, 0.0, vocabulary.version,
                           np.ones(1, np.float32))] * len(frames)


class Outcome:
    """Collects what came of each image: frame_ids of answers, and refusals by camera."""

    def __init__(self) -> None:
        self.answered: list[str] = []
        self.refused: dict[str, str] = {}
        self.failures: list[Exception] = []


@dataclass(frozen=True)
class Camera:
    """Stands for the topics of a camera."""

    name: str
    outcome: Outcome = field(compare=False)

    def answer(self, asked: Asked, frame: Frame, predictions: Predictions, used: Current) -> None:
        image = asked.image if isinstance(asked, Pair) else asked
        self.outcome.answered.append(image.header.frame_id)

    def refuse(self, reason: str) -> None:
        self.outcome.refused[self.name] = reason


def picture(frame_id: str) -> Image:
    return to_image(np.zeros((4, 4), np.uint8), 'mono8', Header(frame_id=frame_id))


def boxes(name: str) -> Pair:
    image = picture(name)
    return Pair(image, to_regions(image.header, [(2, 2, 4, 4, name)] * 3))


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.go_on.release(1000)


@pytest.fixture
def outcome() -> Outcome:
    return Outcome()


@pytest.fixture
def worker(gate: Gate, outcome: Outcome) -> Worker:
    return Worker(gate, lambda: CURRENT, outcome.failures.append)


def begin(worker: Worker, gate: Gate, outcome: Outcome) -> None:
    """Bring the worker to hold a first image."""
    worker.submit(Camera('first', outcome), picture('first'))
    wait_until(lambda: gate.batches, 'a batch')


def test_what_waits_is_one_batch_of_the_newest_images(worker: Worker, gate: Gate, outcome: Outcome
                                                      ) -> None:
    begin(worker, gate, outcome)
    for name in ('front 1', 'rear 1', 'front 2', 'front 3'):
        worker.submit(Camera(name.split()[0], outcome), picture(name))
    gate.go_on.release(2)
    wait_until(lambda: len(outcome.answered) == 3, 'answers')
    assert gate.batches == [1, 2]
    assert outcome.answered == ['first', 'front 3', 'rear 1']
    assert [worker.dropped(Camera(name, outcome)) for name in ('front', 'rear', 'left')] == [
        2, 0, 0]
    worker.close()


@pytest.mark.parametrize(('max_rate', 'batches', 'held', 'order'), [
    (0.0, [1, 2, 2, 1, 1, 2, 1], 3, [
        'first', 'front 1', 'rear 1', 'front 2', 'boxes 1', 'boxes 2']),
    (1000.0, [1, 8, 1], 2, ['first', 'boxes 1', 'front 1', 'boxes 2', 'rear 1', 'front 2'])])
def test_images_come_between_boxes_unless_batches_are_limited(
        gate: Gate, outcome: Outcome, max_rate: float, batches: list[int], held: int,
        order: list[str]) -> None:
    used = Current(VOCABULARY, ClassifierParameters(max_rate=max_rate, region_min_size=1))
    worker = Worker(gate, lambda: used, outcome.failures.append)
    begin(worker, gate, outcome)
    for name in ('boxes 1', 'front 1', 'boxes 2', 'rear 1'):
        worker.submit(Camera(name, outcome),
                      boxes(name) if 'boxes' in name else picture(name))
    gate.go_on.release(held - 1)
    wait_until(lambda: len(gate.batches) == held, 'the batch that is held')
    worker.submit(Camera('front 2', outcome), picture('front 2'))
    gate.go_on.release(5)
    wait_until(lambda: len(outcome.answered) == 6, 'answers')
    assert (gate.batches, outcome.answered) == (batches, order)
    worker.close()


@pytest.fixture
def between(outcome: Outcome, gate: Gate) -> Worker:
    """Return a worker that holds an image which came between the boxes of another."""
    used = Current(VOCABULARY, ClassifierParameters(region_min_size=1))
    worker = Worker(gate, lambda: used, outcome.failures.append)
    worker.submit(Camera('boxes', outcome), boxes('boxes'))
    wait_until(lambda: gate.batches == [2], 'some boxes')
    worker.submit(Camera('front', outcome), picture('front'))
    gate.go_on.release()
    wait_until(lambda: gate.batches == [2, 1], 'the image')
    return worker


def test_close_does_not_wait_for_the_other_boxes(between: Worker, gate: Gate, outcome: Outcome
                                                 ) -> None:
    closing = threading.Thread(target=between.close)
    closing.start()
    late = Camera('late', outcome)
    wait_until(lambda: between.submit(late, picture('late')) or outcome.refused, 'the end')
    gate.go_on.release()
    closing.join(10)
    assert not closing.is_alive() and gate.batches == [2, 1]
    assert outcome.answered == ['front']
    assert outcome.refused == dict.fromkeys(('late', 'boxes'), 'the node was deactivated')


def test_an_error_between_boxes_refuses_them_too(between: Worker, gate: Gate, outcome: Outcome
                                                 ) -> None:
    gate.error = RuntimeError('no memory')
    gate.go_on.release()
    wait_until(lambda: outcome.failures, 'failure')
    assert outcome.refused == dict.fromkeys(('boxes', 'front'), 'the node failed: no memory')
    between.close()


def test_a_bad_image_does_not_spoil_its_batch(worker: Worker, gate: Gate, outcome: Outcome
                                              ) -> None:
    begin(worker, gate, outcome)
    worker.submit(Camera('front', outcome), Image(encoding='rgb8'))
    worker.submit(Camera('rear', outcome), picture('good'))
    gate.go_on.release(2)
    wait_until(lambda: len(outcome.answered) == 2, 'answers')
    assert gate.batches == [1, 1]
    assert outcome.answered == ['first', 'good']
    assert 'at least 1 x 1 px, got 0 x 0' in outcome.refused['front']
    assert outcome.failures == []
    worker.close()


def test_whatever_is_wrong_with_a_message_is_its_refusal(
        worker: Worker, gate: Gate, outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(message: Image) -> Frame:
        raise AttributeError('no such thing')
    monkeypatch.setattr('vl2v_ros.nodes.worker.to_frame', fail)
    worker.submit(Camera('front', outcome), picture('odd'))
    wait_until(lambda: outcome.refused, 'refusal')
    assert outcome.refused == {'front': 'AttributeError: no such thing'}
    assert outcome.failures == []
    worker.close()


def test_close_waits_for_the_batch_in_work_and_refuses_the_rest(
        worker: Worker, gate: Gate, outcome: Outcome) -> None:
    begin(worker, gate, outcome)
    worker.submit(Camera('waiting', outcome), picture('waiting'))
    closing = threading.Thread(target=worker.close)
    closing.start()
    wait_until(lambda: 'waiting' in outcome.refused, 'refusal')
    assert closing.is_alive()
    gate.go_on.release()
    closing.join(10)
    assert not closing.is_alive()
    worker.submit(Camera('late', outcome), picture('late'))
    assert outcome.answered == ['first']
    assert outcome.refused == dict.fromkeys(('waiting', 'late'), 'the node was deactivated')


@pytest.mark.parametrize('error', [RuntimeError('CUDA out of memory'), MemoryError()])
def test_an_error_of_our_own_is_told_and_every_waiting_image_refused(
        worker: Worker, gate: Gate, outcome: Outcome, error: Exception) -> None:
    begin(worker, gate, outcome)
    worker.submit(Camera('waiting', outcome), picture('waiting'))
    gate.error = error
    gate.go_on.release()
    wait_until(lambda: outcome.failures, 'failure')
    assert outcome.failures == [error]
    assert outcome.refused.keys() == {'first', 'waiting'}
    worker.submit(Camera('late', outcome), picture('late'))
    assert 'late' in outcome.refused
    worker.close()


class Broken(Camera):
    """A camera whose results cannot be published."""

    def answer(self, *_: object) -> None:
        raise RuntimeError('cannot publish')


def test_an_answer_that_fails_is_an_error_of_our_own(worker: Worker, gate: Gate, outcome: Outcome
                                                     ) -> None:
    begin(worker, gate, outcome)
    request = ImageRequest(ClassifyImage.Request(image=picture('one batch')))
    worker.submit(request, request.asked)
    worker.submit(Broken('front', outcome), picture('one batch'))
    gate.go_on.release(2)
    wait_until(lambda: outcome.failures, 'failure')
    assert str(outcome.failures[0]) == 'cannot publish'
    assert outcome.refused == {'front': 'the node failed: cannot publish'}
    assert request.done.result().result.labels[0].label == 'mug'  # which was answered before
    worker.close()


def test_a_batch_is_read_against_one_vocabulary_and_one_set_of_parameters(
        gate: Gate, outcome: Outcome) -> None:
    asked = []

    def snapshot() -> Current:
        asked.append(None)
        return CURRENT
    worker = Worker(gate, snapshot, outcome.failures.append)
    begin(worker, gate, outcome)
    for name in ('front', 'rear', 'left'):
        worker.submit(Camera(name, outcome), picture(name))
    gate.go_on.release(2)
    wait_until(lambda: len(outcome.answered) == 4, 'answers')
    assert len(asked) == 2
    worker.close()


def test_closing_does_not_wait_for_max_rate(gate: Gate, outcome: Outcome) -> None:
    worker = Worker(gate, lambda: Current(VOCABULARY, ClassifierParameters(max_rate=0.001)),
                    outcome.failures.append)
    gate.go_on.release(100)
    begin(worker, gate, outcome)
    wait_until(lambda: outcome.answered, 'answer')
    closing = threading.Thread(target=worker.close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
