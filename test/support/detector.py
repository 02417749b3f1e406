"""
A detector of its own process: for each image, the boxes of its scene, under the image's header.

python detector.py BOXES.json TOPIC REGIONS [EVERY]; the file has the boxes of each scene, as
centre, size [px] and id. An image's frame_id is its scene, see frame_publisher.py. EVERY: of so
many images one is looked at.
"""
import itertools
import json
from pathlib import Path
import sys

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray


def to_regions(header: Header, boxes: list[tuple[float, float, float, float, str]]
               ) -> Detection2DArray:
    detections = []
    for x, y, width, height, name in boxes:
        box = BoundingBox2D(size_x=float(width), size_y=float(height))
        box.center.position.x, box.center.position.y = float(x), float(y)
        detections.append(Detection2D(header=header, bbox=box, id=name))
    return Detection2DArray(header=header, detections=detections)


def main(path: str, topic: str, regions: str, every: str = '1') -> None:
    scenes = json.loads(Path(path).read_text())
    rclpy.init()
    node = rclpy.create_node('detector')
    publisher = node.create_publisher(Detection2DArray, regions, 10)
    turns = itertools.cycle([True, *[False] * (int(every) - 1)])

    def detect(image: Image) -> None:
        if next(turns):
            publisher.publish(to_regions(image.header,
                                         scenes[image.header.frame_id.split('#')[0]]))

    node.create_subscription(Image, topic, detect, qos_profile_sensor_data)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass


if __name__ == '__main__':
    main(*sys.argv[1:])
