"""The one thread that runs the model: newest image of every camera in, results out."""
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
import threading
import time
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from sensor_msgs.msg import CompressedImage, Image
from vl2v_ros import frame_profile
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.regions import cut_all
from vl2v_ros.model.classifier import Classifier
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.model.smoothing import Smoother, Track
from vl2v_ros.nodes.messages import to_box, to_frame
from vl2v_ros.nodes.parameters import ClassifierParameters
from vl2v_ros.nodes.topics.region_pairs import Pair
from vl2v_ros.nodes.topics.tracks import tracks
from vl2v_ros.words.vocabulary import Vocabulary

T = TypeVar('T')


class Cut(NamedTuple):
    """An image, and parts of it to label."""

    frame: Frame
    parts: Sequence[Frame]


Asked: TypeAlias = Image | CompressedImage | Pair | Cut
"""An image to label as a whole, or the boxes in it."""
Predictions: TypeAlias = Sequence[Prediction | None]
"""What an image shows, alone; or what its boxes show, in their order, None for too little."""

HEED = 0.1  # a changed max_rate takes effect within this time [s]
DEACTIVATED = 'the node was deactivated'  # reason of a refusal


class Newest(Generic[T]):
    """
    A box with one place per camera; a newer item replaces one that was not taken.

    It is thread-safe. `dropped` counts, per camera, the items that were replaced.
    """

    def __init__(self) -> None:
        """Make an empty, open box."""
        self._changed = threading.Condition()
        self._items: dict[Hashable, T] = {}
        self._closed = False
        self.dropped: dict[Hashable, int] = {}

    def put(self, camera: Hashable, item: T) -> bool:
        """Store the camera's newest item; return False, and do nothing, once the box is closed."""
        with self._changed:
            if self._closed:
                return False
            if camera in self._items:
                self.dropped[camera] = self.dropped.get(camera, 0) + 1
            self._items[camera] = item
            self._changed.notify()
            return True

    def take(self, timeout: float | None = None,
             choose: Callable[[Mapping[Hashable, T]], Collection[Hashable]] = tuple
             ) -> dict[Hashable, T]:
        """
        Wait for items and return some of them by camera; by default all.

        :param timeout: longest wait [s]; None: no limit.
        :param choose: returns which of the waiting items to take; the others stay.
        :return: camera -> item; empty after the timeout, or once the box is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout)
            return {} if self._closed else {
                camera: self._items.pop(camera) for camera in choose(self._items)}

    def close(self) -> dict[Hashable, T]:
        """Wake the worker and return the items that were not taken; `take` then returns none."""
        with self._changed:
            self._closed = True
            items, self._items = self._items, {}
            self._changed.notify_all()
            return items


class Current(NamedTuple):
    """The vocabulary and the parameters that are current when a batch begins."""

    vocabulary: Vocabulary
    parameters: ClassifierParameters


class Asker(Protocol):
    """
    What gives images to the worker, such as a camera; each has one place in the box.

    Its methods are called in the worker's thread, or where an image is refused at once.
    """

    def __hash__(self) -> int:
        """Tell one from another."""

    def answer(self, asked: Asked, frame: Frame, predictions: Predictions, used: Current) -> None:
        """Receive the result of an image, or of the boxes in it."""

    def refuse(self, reason: str) -> None:
        """Receive the reason why an image gets no result."""


class _Job(NamedTuple):
    asker: Asker
    asked: Asked
    received: int  # by time.perf_counter_ns
    follows: bool  # one of a sequence, such as a camera's


def whole(predictions: Predictions) -> Prediction:
    """Return what an image shows that was not asked for boxes."""
    prediction, = predictions
    assert prediction, 'a whole image always shows something'
    return prediction


class Worker:
    """
    Labels the newest images until it is closed.

    Those of all cameras are one batch. The boxes in an image are labelled apart from them, a few
    at a time, and images that wait come between: they would else wait for all boxes of all
    cameras. With max_rate all that waits is one batch.
    """

    def __init__(self, classifier: Classifier, snapshot: Callable[[], Current],
                 on_failure: Callable[[Exception], None]) -> None:
        """
        Start the thread.

        :param snapshot: returns the current vocabulary and parameters; called once per batch.
        :param on_failure: receives an error that no input has caused; it ends the thread.
        """
        self._smoother = Smoother(classifier)
        self._boxes_at_once = classifier.runtime.at_once
        self._snapshot, self._on_failure = snapshot, on_failure
        self._box: Newest[_Job] = Newest()
        self._working: list[_Job] = []  # what was begun: boxes, then images that came between
        self._passed_over: list[Hashable] = []  # whose boxes waited when images were taken
        self._max_rate = 0.0  # the current one, as far as it was read [Hz]; 0: no limit
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name='classifier', daemon=True)
        self._thread.start()

    def submit(self, asker: Asker, asked: Asked, follows: bool = False) -> None:
        """
        Put an image into the box; it replaces one of the same asker that waits.

        :param follows: it follows others of this asker, and may be smoothed with them.
        """
        if not self._box.put(asker, _Job(asker, asked, time.perf_counter_ns(), follows)):
            asker.refuse(DEACTIVATED)

    def dropped(self, asker: Asker) -> int:
        """Return how many images of this asker were replaced."""
        return self._box.dropped.get(asker, 0)

    def close(self) -> None:
        """Refuse what waits, and boxes that are not labelled yet; wait for the current batch."""
        self._closing.set()
        for job in self._box.close().values():
            job.asker.refuse(DEACTIVATED)
        self._thread.join()

    def _run(self) -> None:
        try:
            while jobs := self._box.take(choose=self._turn):
                started = time.monotonic()
                self._label(list(jobs.values()))
                self._pause(started)
        except Exception as error:  # noqa: BLE001 whatever it is, it must not go unseen
            for job in (*self._working, *self._box.close().values()):
                job.asker.refuse(f'the node failed: {error}')
            self._on_failure(error)

    def _turn(self, waiting: Mapping[Hashable, _Job]) -> Collection[Hashable]:
        """Return which of the waiting images come next."""
        if self._max_rate:
            return tuple(waiting)
        images = _images(waiting)
        boxes = [asker for asker in waiting if asker not in images]
        due = [asker for asker in boxes if asker in self._passed_over] if images else boxes
        self._passed_over = [] if due else boxes
        return due[:1] or images

    def _pause(self, started: float) -> None:
        """Wait until max_rate allows the next batch, also if it changes during the wait."""
        while self._max_rate and (rest := started + 1 / self._max_rate - time.monotonic()) > 0:
            if self._closing.wait(min(rest, HEED)):
                return
            self._max_rate = self._snapshot().parameters.max_rate

    def _label(self, jobs: Sequence[_Job]) -> None:
        """Label a batch: what its images show, or what the boxes in one show."""
        self._working += jobs
        used = self._snapshot()
        parameters = used.parameters
        self._max_rate = parameters.max_rate
        usable: list[tuple[_Job, Frame, list[Frame | None]]] = []
        frame_profile.begin([job.received for job in jobs])
        for job in jobs:
            try:
                usable.append((job, *_parts(job.asked, parameters)))
            except ValueError as error:
                job.asker.refuse(str(error))
            except Exception as error:  # noqa: BLE001 no message may end the node
                job.asker.refuse(f'{type(error).__name__}: {error}')
        frame_profile.mark('view')
        steady = parameters.smoothing > 0 or parameters.hysteresis > 0
        shown = [(part, track) for job, _, parts in usable for part, track in zip(
            parts, tracks(job.asker, job.asked, job.received) if steady and job.follows
            else [None] * len(parts), strict=True) if part]
        boxes = isinstance(jobs[0].asked, Pair | Cut) and not self._max_rate
        predictions = self._predict(shown, used,
                                    self._boxes_at_once if boxes else max(1, len(shown)))
        rest = iter(predictions or ())
        for job, frame, parts in usable:
            if predictions is None:
                job.asker.refuse(DEACTIVATED)
            else:
                job.asker.answer(job.asked, frame,
                                 [next(rest) if part else None for part in parts], used)
        del self._working[-len(jobs):]

    def _predict(self, shown: Sequence[tuple[Frame, Track | None]], used: Current, at_once: int
                 ) -> list[Prediction] | None:
        """
        Label parts of images, and between some and the next the images that wait.

        :return: a prediction for each; None if the node was deactivated meanwhile.
        """
        vocabulary, parameters = used
        predictions: list[Prediction] = []
        for start in range(0, len(shown), at_once):
            if start:
                if images := self._box.take(0, _images):
                    self._label(list(images.values()))
                if self._closing.is_set():
                    return None
            frames, followed = zip(*shown[start:start + at_once], strict=True)
            predictions += self._smoother.classify(
                frames, followed, vocabulary, parameters.top_k, parameters.unknown_threshold,
                parameters.smoothing, parameters.hysteresis)
        return predictions


def _images(waiting: Mapping[Hashable, _Job]) -> list[Hashable]:
    """Return who wants an image labelled as a whole."""
    return [asker for asker, job in waiting.items() if not isinstance(job.asked, Pair | Cut)]


def _parts(asked: Asked, parameters: ClassifierParameters) -> tuple[Frame, list[Frame | None]]:
    """Return an image, and what of it is to be labelled."""
    if isinstance(asked, Cut):
        return asked.frame, [*asked.parts]
    if not isinstance(asked, Pair):
        frame = to_frame(asked)
        return frame, [frame]
    frame = to_frame(asked.image)
    return frame, cut_all(frame, [to_box(region) for region in asked.regions.detections],
                          parameters.region_margin, parameters.region_min_size,
                          parameters.region_limit)
