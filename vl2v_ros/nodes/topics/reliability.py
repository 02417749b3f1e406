"""How reliably a topic is offered."""
from collections.abc import Sequence

from rclpy.qos import ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo


def offered_reliability(publishers: Sequence[TopicEndpointInfo]) -> ReliabilityPolicy:
    """Return reliable if all publishers of a topic are, else what works with any."""
    offered = {publisher.qos_profile.reliability for publisher in publishers}
    return ReliabilityPolicy.RELIABLE if offered == {ReliabilityPolicy.RELIABLE} else (
        ReliabilityPolicy.BEST_EFFORT)
