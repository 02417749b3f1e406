"""The latched topics that describe the current vocabulary."""
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header
from vision_msgs.msg import LabelInfo, VisionInfo
from vl2v_msgs.msg import Vocabulary as VocabularyMessage
from vl2v_ros.nodes import messages
from vl2v_ros.words.vocabulary import Vocabulary

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class VocabularyTopics:
    """~/vocabulary, ~/vision_info and ~/label_info of a node."""

    def __init__(self, node: Node) -> None:
        """Create the topics; publish nothing yet."""
        self._node = node
        self._vocabulary = node.create_publisher(VocabularyMessage, '~/vocabulary', LATCHED)
        self._vision_info = node.create_publisher(VisionInfo, '~/vision_info', LATCHED)
        self._label_info = node.create_publisher(LabelInfo, '~/label_info', LATCHED)

    def announce(self, vocabulary: Vocabulary, score_threshold: float) -> None:
        """Publish a vocabulary that has become the current one."""
        self._vocabulary.publish(messages.to_vocabulary(vocabulary))
        self._vision_info.publish(messages.to_vision_info(
            vocabulary, self._vocabulary.topic_name, self._header()))
        self.announce_threshold(score_threshold)

    def announce_threshold(self, score_threshold: float) -> None:
        """Publish the score in [0, 1] that a label needs to be reported."""
        self._label_info.publish(messages.to_label_info(score_threshold, self._header()))

    def _header(self) -> Header:
        return Header(stamp=self._node.get_clock().now().to_msg())
