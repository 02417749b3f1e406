"""config/sros2/policy.xml: it allows what the running nodes do on the network, and no more."""
import os
from pathlib import Path
from xml.etree import ElementTree

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import pytest
from support.ros_processes import Ros, wait_until
from vision_msgs.msg import Detection3DArray

POLICY = Path(__file__).parents[2] / 'config/sros2/policy.xml'
PHOTOS = Path(__file__).parents[2] / 'data/ycb_sample/single/dim/011_banana'
HUMBLE_LACKS = {('reply', 'get_type_description')}
# What an action is made of, on the side of its server.
ACTION = (('publish', 'feedback'), ('publish', 'status'), ('reply', 'send_goal'),
          ('reply', 'cancel_goal'), ('reply', 'get_result'))
Rules = set[tuple[str, str]]


def expanded(name: str, namespace: str, node: str) -> str:
    """Return a name of the policy in full, as sros2 expands it."""
    if name.startswith('~'):
        name = node + name[1:]
    return name if name.startswith('/') else f'{namespace.rstrip("/")}/{name}'


def allowed(node: str, namespace: str = '/') -> Rules:
    """Return what the policy allows a node, as (action, full name)."""
    profile, = ElementTree.parse(POLICY).findall(f'enclaves/enclave[@path="/{node}"]//profile')
    assert profile.attrib == {'ns': '/', 'node': node}
    named = [(action, entry.text or '') for rules in profile for action in rules.attrib
             for entry in rules]
    assert len(named) == len(set(named))
    if os.environ.get('ROS_DISTRO') == 'humble':
        named = [(action, name) for action, name in named
                 if (action, name.removeprefix('~/')) not in HUMBLE_LACKS]
    full = {(action, expanded(name, namespace, node)) for action, name in named}
    actions = {name for action, name in full if action == 'execute'}
    return {(action, name) for action, name in full if action != 'execute'} | {
        (part, f'{name}/_action/{topic}') for name in actions for part, topic in ACTION}


def done(ros: Ros, node: str, namespace: str = '/') -> Rules:
    """Return what a running node does, as (action, full name)."""
    asked = {'publish': ros.node.get_publisher_names_and_types_by_node,
             'subscribe': ros.node.get_subscriber_names_and_types_by_node,
             'reply': ros.node.get_service_names_and_types_by_node,
             'request': ros.node.get_client_names_and_types_by_node}
    if (node, namespace) not in ros.node.get_node_names_and_namespaces():
        return set()
    return {(action, name) for action, ask in asked.items() for name, _ in ask(node, namespace)}


def test_the_classifier_does_what_it_may_and_no_more(ros: Ros, settings: dict[str, object]
                                                     ) -> None:
    with ros.start('classifier_node', settings | {'autostart': False, 'use_sim_time': True}
                   ).wait_for_output('waits to be configured') as process:
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            assert ros.call(ChangeState, 'classifier/change_state',
                            transition=Transition(id=transition)).success
        process.wait_for_output('labels images of')
        ros.subscribe(Detection3DArray, 'classifier/detections_3d')  # so that it listens to depth
        wait_until(lambda: len(done(ros, 'classifier')) >= len(allowed('classifier')), 'its graph')
        assert done(ros, 'classifier') == allowed('classifier')


def test_the_camera_does_what_it_may_and_no_more(ros: Ros) -> None:
    topics = {'raw': ('publish', '/ns/image'), 'compressed': ('publish', '/ns/image/compressed')}
    for transport, topic in topics.items():
        may = allowed('camera', '/ns') - {*topics.values()} | {topic}
        with ros.start('camera_node', {'source': str(PHOTOS), 'image_transport': transport,
                                       'use_sim_time': True}, '-r', '__ns:=/ns', fresh=True
                       ).wait_for_output(f'on {topic[1]}:'):
            wait_until(lambda may=may: len(done(ros, 'camera', '/ns')) >= len(may), 'its graph')
            wait_until(lambda topic=topic: topic in done(ros, 'camera', '/ns'), 'its image topic')
            assert done(ros, 'camera', '/ns') == may
        wait_until(lambda: not done(ros, 'camera', '/ns'), 'its end')


def test_the_memory_does_what_it_may_and_no_more(ros: Ros, tmp_path: Path) -> None:
    may = allowed('memory')
    with ros.start('remembering.memory_node', {
            'file': tmp_path / 'memory.sqlite', 'positions': True, 'use_sim_time': True}
            ).wait_for_output('remembers in'):
        wait_until(lambda: len(done(ros, 'memory')) >= len(may), 'its graph')
        assert done(ros, 'memory') == may


@pytest.mark.parametrize(('name', 'full'), [
    ('~/labels', '/robot/classifier/labels'), ('image', '/robot/image'), ('/rosout', '/rosout')])
def test_names_are_expanded(name: str, full: str) -> None:
    assert expanded(name, '/robot', 'classifier') == full
