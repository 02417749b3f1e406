"""Which labels are present in the images of one camera, each by itself."""
import numpy as np
from rclpy.node import Node
from std_msgs.msg import Header
from vl2v_msgs.msg import PresenceArray
from vl2v_ros.images.frame import Frame
from vl2v_ros.model import presence
from vl2v_ros.model.spec import StudentSpec
from vl2v_ros.model.where import Maps
from vl2v_ros.nodes import messages
from vl2v_ros.words.vocabulary import Vocabulary


class PresenceTopics:
    """
    The topic `~/presence` of one camera.

    A student that was trained with two prompts per label tells presence by them, and its maps
    tell only where; of others the maps tell both.
    """

    def __init__(self, node: Node, name: str) -> None:
        """Create the topic."""
        inside = f'{name}/' if name else ''
        self._topic = node.create_publisher(PresenceArray, f'~/{inside}presence', 10)

    def wanted(self) -> bool:
        """Return whether somebody subscribes."""
        return bool(self._topic.get_subscription_count())

    def publish(self, header: Header, frame: Frame, vocabulary: Vocabulary,
                row: np.ndarray, spec: StudentSpec, maps: Maps | None) -> None:
        """
        Publish the presence of all labels, if the student can tell it.

        :param row: (D,) unit embedding of the frame.
        :param spec: of the student.
        :param maps: of the frame; None: there are none, or not yet.
        """
        if vocabulary.presence is not None:
            probabilities = presence.by_prompts(row, vocabulary.presence, spec.temperature)
        elif maps is not None:
            probabilities = presence.by_maps(maps, spec.presence_line)
        else:
            return
        height, width = frame.pixels.shape[:2]
        places = None if maps is None else presence.places(maps.fine, width, height)
        self._topic.publish(messages.to_presence(
            presence.ordered(vocabulary.labels, probabilities, places), header,
            vocabulary.version))
