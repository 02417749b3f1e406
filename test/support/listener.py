"""Do nothing but listen to a camera: python listener.py TOPIC."""
import sys

import rclpy
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

if __name__ == '__main__':
    rclpy.init()
    node = rclpy.create_node('listener')
    node.create_subscription(Image, sys.argv[1], lambda _: None, QoSProfile(depth=1))
    rclpy.spin(node)
