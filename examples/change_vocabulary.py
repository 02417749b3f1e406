"""
Give a running classifier other labels: python examples/change_vocabulary.py banana mug drill.

Needs ROS 2, and a classifier: ros2 launch vl2v_ros classify.launch.py image:=/camera/image_raw
"""
import sys

import rclpy
from rclpy.client import Client
from vl2v_msgs.srv import SetVocabulary


def main(labels: list[str]) -> None:
    """Replace the vocabulary, and print what the node says of it."""
    rclpy.init()
    node = rclpy.create_node('change_vocabulary')
    client: Client = node.create_client(SetVocabulary, '/classifier/set_vocabulary')
    if not client.wait_for_service(timeout_sec=10):
        sys.exit('no classifier offers /classifier/set_vocabulary; start one first')
    request = SetVocabulary.Request(operation=SetVocabulary.Request.REPLACE, labels=labels)
    answer = client.call_async(request)
    rclpy.spin_until_future_complete(node, answer, timeout_sec=60)
    response = answer.result()
    rclpy.shutdown()
    if response is None or not response.success:
        sys.exit(response.message if response else 'no answer within 60 s')
    print(f'version {response.version}: {response.message}')


if __name__ == '__main__':
    main(sys.argv[1:])
