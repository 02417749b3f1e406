"""
Compare what a running classifier sees with a text: python examples/compare_with_text.py 'a mug'.

Needs ROS 2, and a classifier: ros2 launch vl2v_ros classify.launch.py image:=/camera/image_raw
"""
from contextlib import suppress
import sys

import rclpy
from rclpy.client import Client
from rclpy.executors import ExternalShutdownException
from vl2v_msgs.msg import Embedding
from vl2v_msgs.srv import EncodeText
from vl2v_ros.words.vectors.origin import Origin, unit_rows


def main(text: str) -> None:
    """Print the cosine of each image and the text."""
    rclpy.init()
    node = rclpy.create_node('compare_with_text')
    client: Client = node.create_client(EncodeText, '/classifier/encode_text')
    if not client.wait_for_service(timeout_sec=10):
        sys.exit('no classifier offers /classifier/encode_text')
    answer = client.call_async(EncodeText.Request(texts=[text]))
    rclpy.spin_until_future_complete(node, answer, timeout_sec=60)
    response = answer.result()
    if response is None or not response.success:
        sys.exit(response.message if response else 'no answer within 60 s')
    space, wanted = Origin(response.space), response.vectors

    def on_embedding(message: Embedding) -> None:  # refuses a text of another tower
        [row] = unit_rows(message.vector, Origin(message.space), space)
        print(f'{row @ wanted:.2f} {text}', flush=True)
    node.create_subscription(Embedding, '/classifier/embedding', on_embedding, 10)
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)


if __name__ == '__main__':
    main(*(sys.argv[1:] or sys.exit(__doc__)))
