"""config/record_qos.yaml: all topics of the classifier, asked for as it offers them."""
from pathlib import Path

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import pytest
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    qos_check_compatible,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
)
from support.ros_processes import Ros, wait_until
from vl2v_msgs.msg import Vocabulary
import yaml

FILE = Path(__file__).parents[2] / 'config/record_qos.yaml'
POLICIES = {'history': HistoryPolicy, 'reliability': ReliabilityPolicy,
            'durability': DurabilityPolicy}


@pytest.fixture(scope='module')
def profiles() -> dict[str, QoSProfile]:
    """Read the file as rosbag2 does: the short keys of policies, and a depth."""
    content = yaml.safe_load(FILE.read_text(encoding='utf-8'))
    return {topic: QoSProfile(**{
        name: POLICIES[name].get_from_short_key(value) if name in POLICIES else int(value)
        for name, value in profile.items()}) for topic, profile in content.items()}


def test_all_topics_are_asked_for_as_they_are_offered(
        ros: Ros, settings: dict[str, object], profiles: dict[str, QoSProfile]) -> None:
    with ros.start('classifier_node', settings | {'autostart': False}  # so it offers a bond, too
                   ).wait_for_output('waits to be configured'):
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            assert ros.call(ChangeState, 'classifier/change_state',
                            transition=Transition(id=transition)).success
        wait_until(lambda: profiles.keys() == dict(
            ros.node.get_publisher_names_and_types_by_node('classifier', '/')
            ).keys() - {'/rosout', '/parameter_events'}, 'the topics of the file')
        for topic, wanted in profiles.items():
            offer, = ros.node.get_publishers_info_by_topic(topic)
            offered = offer.qos_profile
            compatible, why = qos_check_compatible(offered, wanted)
            assert compatible != QoSCompatibility.ERROR, (topic, why)
            assert (wanted.durability, wanted.reliability) == (
                offered.durability, offered.reliability), topic
        latched = ros.subscribe(Vocabulary, 'classifier/vocabulary',
                                profiles['/classifier/vocabulary'])
        assert latched.wait_for(bool).labels  # it was sent before
