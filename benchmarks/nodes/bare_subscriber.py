"""
A node that only receives images, and records the time from the stamp to the callback.

python benchmarks/nodes/bare_subscriber.py TOPIC; at its end it prints these times [s] as JSON.
"""
import json
import sys

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image


def main(topic: str) -> None:
    """Receive images until a signal comes."""
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
