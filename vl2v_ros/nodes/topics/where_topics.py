"""Where labels are in the images of one camera: maps, and boxes where no detector gives any."""
from collections.abc import Callable
from functools import partial
import time
from typing import NamedTuple

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vl2v_ros.drawing.heatmap import draw_maps
from vl2v_ros.images.frame import Frame
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.model.where import confirmed, propose, Proposed
from vl2v_ros.nodes import messages
from vl2v_ros.nodes.loaded import Loaded, Running
from vl2v_ros.nodes.topics.camera_topics import CameraTopics
from vl2v_ros.nodes.topics.presence_topics import PresenceTopics
from vl2v_ros.nodes.topics.region_topics import RegionTopics
from vl2v_ros.nodes.worker import Asked, Current, Cut, Predictions, Worker
from vl2v_ros.words.vocabulary import Vocabulary

MOST_DRAWN = 3  # labels on ~/heatmap where none is asked for
LEAST_DRAWN = 0.3  # highest value of a map that is then drawn


class Wanted(NamedTuple):
    """Which results of a look somebody wants."""

    heatmap: bool
    presence: bool
    boxes: bool


class _Asked(NamedTuple):
    """The boxes of a look that are labelled for a second look, since a time [s]."""

    since: float
    header: Header
    vocabulary: Vocabulary
    proposed: list[Proposed]


class WhereTopics:
    """
    The topics `~/heatmap` and `~/presence` of one camera, and `~/detections` without `regions`.

    All are made of some of the images that were labelled, one at a time, and only while somebody
    subscribes: maps in the looker's thread, the second look at boxes in the worker's. Both rest
    after each look for as long as it took.
    """

    def __init__(self, node: Node, camera: CameraTopics, regions: RegionTopics,
                 state: Callable[[], tuple[Loaded | None, Running | None]]) -> None:
        """
        Create the topics; the camera's labelled frames are looked at from now on.

        :param state: returns the student that is ready to run, and the running threads.
        """
        inside = f'{camera.name}/' if camera.name else ''
        self._heatmap = node.create_publisher(Image, f'~/{inside}heatmap', 1)
        self._presence = PresenceTopics(node, camera.name)
        camera.look = self.look
        self._regions, self._state = regions, state
        self._asked: _Asked | None = None  # what the worker has not answered yet
        self._next = 0.0  # time from which on there may be a look by time.monotonic [s]

    def look(self, header: Header, frame: Frame, prediction: Prediction, used: Current) -> None:
        """Let a frame that was labelled be looked at, if somebody wants that."""
        wanted = Wanted(bool(self._heatmap.get_subscription_count()), self._presence.wanted(),
                        used.parameters.own_boxes and self._regions.are_missing())
        loaded, running = self._state()
        if (any(wanted) and loaded and running and not self._asked
                and time.monotonic() >= self._next):
            running.looker.submit(self, partial(self._look, header, frame, prediction, used,
                                                wanted, loaded, running.worker))

    def _look(self, header: Header, frame: Frame, prediction: Prediction, used: Current,
              wanted: Wanted, loaded: Loaded, worker: Worker) -> None:
        vocabulary, parameters = used
        where = loaded.cells.get(frame, parameters.where_size)
        maps = where.maps(frame, vocabulary, parameters.where_size) if where else None
        if wanted.presence:
            self._presence.publish(header, frame, vocabulary, prediction.vector(),
                                   loaded.classifier.spec, maps)
        if maps is None:
            return
        if wanted.boxes and not self._asked:
            proposed = propose(frame, maps, parameters.region_margin)
            self._asked = _Asked(time.monotonic(), header, vocabulary, proposed)
            worker.submit(self, Cut(frame, [one.part for one in proposed]))
        if wanted.heatmap:
            picture = draw_maps(frame, chosen(maps.fine, vocabulary, parameters.heatmap_labels),
                                parameters.font)
            self._heatmap.publish(messages.to_image(picture, 'rgb8', header))

    def answer(self, asked: Asked, frame: Frame, predictions: Predictions, used: Current) -> None:
        """Publish boxes after the second look, if it was by the vocabulary of the maps."""
        look, self._asked = self._asked, None
        assert look, 'only what was asked for is answered'
        self._next = 2 * time.monotonic() - look.since
        if used.vocabulary is look.vocabulary:
            self._regions.publish_own(look.header, frame, confirmed(
                look.proposed, [one for one in predictions if one], look.vocabulary),
                used.parameters)

    def refuse(self, reason: str) -> None:
        """Give up a look; the next one will do."""
        self._asked = None


def chosen(maps: np.ndarray, vocabulary: Vocabulary, labels: tuple[str, ...]
           ) -> dict[str, np.ndarray]:
    """
    Return the maps to draw: those of some labels, or of the surest ones if there are none.

    :param maps: (h, w, C), of the labels of the vocabulary.
    :param labels: what is asked for; what the vocabulary lacks is left out.
    """
    if any(labels):
        return {label: maps[..., vocabulary.labels.index(label)] for label in labels
                if label in vocabulary.labels}
    highest = maps.max((0, 1))
    return {vocabulary.labels[number]: maps[..., number]
            for number in np.argsort(-highest)[:MOST_DRAWN].tolist()
            if highest[number] >= LEAST_DRAWN}
