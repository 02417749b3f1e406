"""
A node that acts on labels: it says when what the camera shows changes.

python examples/label_listener.py [--ros-args -r /classifier/labels:=/robot/classifier/labels]
"""
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from vl2v_msgs.msg import LabelArray


class LabelListener(Node):
    """Logs the best label whenever it is another one than before."""

    def __init__(self) -> None:
        """Subscribe to what the classifier says of its first camera."""
        super().__init__('label_listener')
        self._last = ''
        self.create_subscription(LabelArray, '/classifier/labels', self._on_labels, 10)

    def _on_labels(self, message: LabelArray) -> None:
        label = 'unknown' if message.unknown else message.labels[0].label
        if label != self._last:
            self._last = label
            self.get_logger().info(f'the camera shows: {label}')


if __name__ == '__main__':
    rclpy.init()
    try:
        rclpy.spin(LabelListener())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
