"""Where labels are in the images of one camera: maps, and boxes where no detector gives any."""
from collections.abc import Callable, Iterator
from functools import partial
import time
from typing import NamedTuple

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vl2v_ros import frame_profile
from vl2v_ros.drawing.heatmap import draw_maps
from vl2v_ros.images.frame import Frame
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.model.where import Maps, Where
from vl2v_ros.nodes import messages
from vl2v_ros.nodes.loaded import Loaded
from vl2v_ros.nodes.topics.camera_topics import CameraTopics
from vl2v_ros.nodes.topics.presence_topics import PresenceTopics
from vl2v_ros.nodes.topics.region_topics import RegionTopics
from vl2v_ros.nodes.worker import Current
from vl2v_ros.words.vocabulary import Vocabulary

MOST_DRAWN = 3  # labels on ~/heatmap where none is asked for
LEAST_DRAWN = 0.3  # highest value of a map that is then drawn
DONE = object()
SHORT = 1e-3  # [s]


class Wanted(NamedTuple):
    """Which results of a look somebody wants."""

    heatmap: bool
    presence: bool
    boxes: bool


class WhereTopics:
    """
    The topics `~/heatmap` and `~/presence` of one camera, and `~/detections` without `regions`.

    All are made in the worker's thread, after the labels of an image, and only while somebody
    subscribes. A look has steps; where an image waits to be labelled, that comes first. Looks take
    half of the worker's time at most: after each step, as much time passes before the next one.
    """

    def __init__(self, node: Node, camera: CameraTopics, regions: RegionTopics,
                 loaded: Callable[[], Loaded | None], waiting: Callable[[], bool]) -> None:
        """
        Create the topics; the camera's labelled frames are looked at from now on.

        :param loaded: returns the student that is ready to run, if there is one.
        :param waiting: returns whether an image waits to be labelled.
        """
        inside = f'{camera.name}/' if camera.name else ''
        self.heatmap = node.create_publisher(Image, f'~/{inside}heatmap', 1)
        self._presence = PresenceTopics(node, camera.name)
        self._regions, self._loaded, self._waiting = regions, loaded, waiting
        self._steps: Iterator[None] | None = None  # those that are left of a look
        self._next = 0.0  # time of the next step by time.monotonic [s]
        camera.look = self.look

    def look(self, header: Header, frame: Frame, prediction: Prediction, used: Current) -> None:
        """Go on with a look that was begun; else look at a frame that was labelled."""
        start = time.monotonic()
        if start < self._next:
            return
        if self._steps is None:
            self._steps = self._begin(header, frame, prediction, used)
        while self._steps:
            if next(self._steps, DONE) is DONE:
                self._steps = None
            elif self._waiting():
                break
        if (now := time.monotonic()) - start > SHORT:  # else nothing was wanted
            frame_profile.mark('where')
            self._next = 2 * now - start

    def stop(self) -> None:
        """Leave a look that was begun."""
        self._steps = None

    def _begin(self, header: Header, frame: Frame, prediction: Prediction, used: Current
               ) -> Iterator[None] | None:
        """Return the steps of a look at a frame; None if nobody wants one, or not yet."""
        wanted = Wanted(bool(self.heatmap.get_subscription_count()), self._presence.wanted(),
                        used.parameters.own_boxes and self._regions.are_missing())
        loaded = self._loaded()
        if loaded is None or not any(wanted):
            return None
        tell = partial(self._presence.publish, header, frame, used.vocabulary,
                       prediction.vector(), loaded.classifier.spec)
        where = loaded.cells.get(frame, used.parameters.where_size)
        if where is None:
            if wanted.presence:
                tell(None)
            return None
        return self._look(header, frame, used, where, tell, wanted)

    def _look(self, header: Header, frame: Frame, used: Current, where: Where,
              tell: Callable[[Maps], None], wanted: Wanted) -> Iterator[None]:
        vocabulary, parameters = used
        maps = where.maps(frame, vocabulary, parameters.where_size)
        if wanted.presence:
            tell(maps)
        if wanted.boxes:
            self._regions.publish_own(header, frame, (yield from where.boxes_in_steps(
                frame, maps, vocabulary, parameters.region_margin, parameters.top_k,
                parameters.unknown_threshold)), parameters)
        if wanted.heatmap:
            yield
            picture = draw_maps(frame, chosen(maps.fine, vocabulary, parameters.heatmap_labels),
                                parameters.font)
            self.heatmap.publish(messages.to_image(picture, 'rgb8', header))


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
