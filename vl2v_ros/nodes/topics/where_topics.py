"""Where labels are in the images of one camera: maps, and boxes where no detector gives any."""
from collections.abc import Callable
import time

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vl2v_ros import frame_profile
from vl2v_ros.drawing.heatmap import draw_maps
from vl2v_ros.images.frame import Frame
from vl2v_ros.nodes import messages
from vl2v_ros.nodes.loaded import Loaded
from vl2v_ros.nodes.topics.region_topics import RegionTopics
from vl2v_ros.nodes.worker import Current
from vl2v_ros.words.vocabulary import Vocabulary

MOST_DRAWN = 3  # labels on ~/heatmap where none is asked for
LEAST_DRAWN = 0.3  # highest value of a map that is then drawn


class WhereTopics:
    """
    The topic `~/heatmap` of one camera, and `~/detections` where nobody publishes `regions`.

    Both are made in the worker's thread, after the labels of an image, and only while somebody
    subscribes. They take half of its time at most: after each look, as much time passes before
    the next one.
    """

    def __init__(self, node: Node, name: str, regions: RegionTopics,
                 loaded: Callable[[], Loaded | None]) -> None:
        """
        Create the topic.

        :param loaded: returns the student that is ready to run, if there is one.
        """
        inside = f'{name}/' if name else ''
        self.heatmap = node.create_publisher(Image, f'~/{inside}heatmap', 1)
        self._regions, self._loaded = regions, loaded
        self._next = 0.0  # time of the next look by time.monotonic [s]

    def look(self, header: Header, frame: Frame, used: Current) -> None:
        """Publish what is wanted of a frame that was labelled."""
        vocabulary, parameters = used
        drawn = bool(self.heatmap.get_subscription_count())
        boxed = parameters.own_boxes and self._regions.are_missing()
        loaded, start = self._loaded(), time.monotonic()
        if loaded is None or not (drawn or boxed) or start < self._next:
            return
        where = loaded.cells.get(frame, parameters.where_size)
        if where is None:
            return
        maps = where.maps(frame, vocabulary, parameters.where_size)
        if boxed:
            self._regions.publish_own(header, frame, where.boxes(
                frame, maps, vocabulary, parameters.where_size, parameters.region_margin,
                parameters.top_k, parameters.unknown_threshold), parameters)
        if drawn:
            picture = draw_maps(frame, chosen(maps, vocabulary, parameters.heatmap_labels),
                                parameters.font)
            self.heatmap.publish(messages.to_image(picture, 'rgb8', header))
        frame_profile.mark('where')
        self._next = 2 * time.monotonic() - start


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
