"""The worker thread: one batch of the newest images, answers and refusals, an orderly end."""
from collections.abc import Callable, Iterator, Sequence
import threading

import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from support import tiny_models
from support.ros_processes import wait_until
from vl2v_ros.images.frame import Frame
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.nodes.messages import to_image
from vl2v_ros.nodes.parameters import ClassifierParameters
from vl2v_ros.nodes.worker import Job, Worker
from vl2v_ros.words.vocabulary import Vocabulary

VOCABULARY = tiny_models.given({'mug': [1.0]}, version=3)


class Gate:
    """Stands for a classifier: notes its batches, and holds each until it may go on."""

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
        return [Prediction(('mug',), (1.0,), (1.0,), False, 0.0, vocabulary.version)] * len(frames)


class Outcome:
    """Collects what came of each image, by its frame_id."""

    def __init__(self) -> None:
        self.answered: list[str] = []
        self.refused: dict[str, str] = {}
        self.failures: list[Exception] = []

    def job(self, name: str, image: Image | None = None) -> Job:
        message = image or to_image(np.zeros((4, 4), np.uint8), 'mono8', Header())
        return Job(message, lambda *_: self.answered.append(name),
                   lambda reason: self.refused.update({name: reason}))


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
    return Worker(gate, lambda: (VOCABULARY, ClassifierParameters()), outcome.failures.append)


def begin(worker: Worker, gate: Gate, outcome: Outcome) -> None:
    """Bring the worker to hold a first image."""
    worker.submit('first', outcome.job('first'))
    wait_until(lambda: gate.batches, 'a batch')


def test_what_waits_is_one_batch_of_the_newest_images(worker: Worker, gate: Gate, outcome: Outcome
                                                      ) -> None:
    begin(worker, gate, outcome)
    for name in ('front 1', 'rear 1', 'front 2', 'front 3'):
        worker.submit(name.split()[0], outcome.job(name))
    gate.go_on.release(2)
    wait_until(lambda: len(outcome.answered) == 3, 'answers')
    assert gate.batches == [1, 2]
    assert outcome.answered == ['first', 'front 3', 'rear 1']
    assert (worker.dropped('front'), worker.dropped('rear'), worker.dropped('left')) == (2, 0, 0)
    worker.close()


def test_a_bad_image_does_not_spoil_its_batch(worker: Worker, gate: Gate, outcome: Outcome
                                              ) -> None:
    begin(worker, gate, outcome)
    worker.submit('front', outcome.job('bad', Image(encoding='rgb8')))
    worker.submit('rear', outcome.job('good'))
    gate.go_on.release(2)
    wait_until(lambda: len(outcome.answered) == 2, 'answers')
    assert gate.batches == [1, 1]
    assert outcome.answered == ['first', 'good']
    assert 'at least 1 x 1 px, got 0 x 0' in outcome.refused['bad']
    assert outcome.failures == []
    worker.close()


def test_whatever_is_wrong_with_a_message_is_its_refusal(
        worker: Worker, gate: Gate, outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(message: Image) -> Frame:
        raise AttributeError('no such thing')
    monkeypatch.setattr('vl2v_ros.nodes.worker.to_frame', fail)
    worker.submit('front', outcome.job('odd'))
    wait_until(lambda: outcome.refused, 'refusal')
    assert outcome.refused == {'odd': 'AttributeError: no such thing'}
    assert outcome.failures == []
    worker.close()


def test_close_waits_for_the_batch_in_work_and_refuses_the_rest(
        worker: Worker, gate: Gate, outcome: Outcome) -> None:
    begin(worker, gate, outcome)
    worker.submit('front', outcome.job('waiting'))
    closing = threading.Thread(target=worker.close)
    closing.start()
    wait_until(lambda: 'waiting' in outcome.refused, 'refusal')
    assert closing.is_alive()
    gate.go_on.release()
    closing.join(10)
    assert not closing.is_alive()
    worker.submit('front', outcome.job('late'))
    assert outcome.answered == ['first']
    assert outcome.refused == dict.fromkeys(('waiting', 'late'), 'the node was deactivated')


@pytest.mark.parametrize('error', [RuntimeError('CUDA out of memory'), MemoryError()])
def test_an_error_of_our_own_is_told_and_every_waiting_image_refused(
        worker: Worker, gate: Gate, outcome: Outcome, error: Exception) -> None:
    begin(worker, gate, outcome)
    worker.submit('front', outcome.job('waiting'))
    gate.error = error
    gate.go_on.release()
    wait_until(lambda: outcome.failures, 'failure')
    assert outcome.failures == [error]
    assert outcome.refused.keys() == {'first', 'waiting'}
    worker.submit('front', outcome.job('late'))
    assert 'late' in outcome.refused
    worker.close()


def test_an_answer_that_fails_is_an_error_of_our_own(gate: Gate, outcome: Outcome) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError('cannot publish')
    refuse: Callable[[str], None] = outcome.refused.setdefault
    worker = Worker(gate, lambda: (VOCABULARY, ClassifierParameters()), outcome.failures.append)
    worker.submit('front', Job(to_image(np.zeros((4, 4), np.uint8), 'mono8', Header()), fail,
                               refuse))
    gate.go_on.release()
    wait_until(lambda: outcome.failures, 'failure')
    assert str(outcome.failures[0]) == 'cannot publish'
    worker.close()


def test_a_batch_is_read_against_one_vocabulary_and_one_set_of_parameters(
        gate: Gate, outcome: Outcome) -> None:
    asked = []

    def snapshot() -> tuple[Vocabulary, ClassifierParameters]:
        asked.append(None)
        return VOCABULARY, ClassifierParameters()
    worker = Worker(gate, snapshot, outcome.failures.append)
    begin(worker, gate, outcome)
    for name in ('front', 'rear', 'left'):
        worker.submit(name, outcome.job(name))
    gate.go_on.release(2)
    wait_until(lambda: len(outcome.answered) == 4, 'answers')
    assert len(asked) == 2
    worker.close()


def test_closing_does_not_wait_for_max_rate(gate: Gate, outcome: Outcome) -> None:
    worker = Worker(gate, lambda: (VOCABULARY, ClassifierParameters(max_rate=0.001)),
                    outcome.failures.append)
    gate.go_on.release(100)
    begin(worker, gate, outcome)
    wait_until(lambda: outcome.answered, 'answer')
    closing = threading.Thread(target=worker.close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
