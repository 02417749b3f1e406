"""
The least a node can do: receive images, and note how long each was under way.

python benchmarks/nodes/bare_subscriber.py TOPIC; told to stop, it prints the hops [s] as JSON.
"""
import json
import sys

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image


def main(topic: str) -> None:
    """Receive until told to stop."""
    rclpy.init()
    node = rclpy.create_node('bare_subscriber')
    hops: list[float] = []

    def receive(message: Image) -> None:
        stamp = message.header.stamp
        hops.append(node.get_clock().now().nanoseconds * 1e-9 - stamp.sec - stamp.nanosec * 1e-9)

    node.create_subscription(Image, topic, receive,
                             QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    print(json.dumps(hops))


if __name__ == '__main__':
    main(sys.argv[1])
