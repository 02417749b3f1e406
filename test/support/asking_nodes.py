"""Nodes that ask a language model for descriptions."""
import itertools

from rclpy.qos import DurabilityPolicy, QoSProfile
from support.chat_server import KEY
from support.ros_processes import Process, Ros
from vl2v_msgs.srv import SetVocabulary

Request = SetVocabulary.Request
ENVIRONMENT = {'OPENAI_API_KEY': KEY, 'no_proxy': '127.0.0.1'}
LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
NUMBERS = itertools.count()


def start(ros: Ros, settings: dict[str, object], *arguments: str) -> Process:
    process = ros.start('classifier_node', settings, *arguments, env=ENVIRONMENT)
    return process.wait_for_output('labels images of')


def new_labels(count: int = 2) -> list[str]:
    """Return labels that no cache knows."""
    return [f'thing {next(NUMBERS)}' for _ in range(count)]
