"""
A camera for benchmarks: sends one picture again and again, at given rates.

python benchmarks/nodes/camera.py WIDTH HEIGHT raw|compressed TOPIC [TOPIC ...]

For each line of JSON on standard input, {"rate": Hz, "seconds": s, "together": bool}, it sends
that many frames on every topic and answers with one line: {"sent": [[stamp [ns], ...] of each
topic]}. Several topics send together, as cameras with a common trigger do, or take turns within a
period. The message is made beforehand; only its stamp changes.
"""
import json
from pathlib import Path
import sys
import time

import cv2
import rclpy
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vl2v_ros.nodes.messages import byte_array, to_image

PICTURE = Path(__file__).resolve().parents[2] / 'data/ycb_sample/single/tabletop'
JPEG_QUALITY = 90
QUEUE = 10  # frames; the default of most drivers


def message(width: int, height: int, transport: str) -> Image | CompressedImage:
    """Return a render of the sample, enlarged to width x height [px]."""
    picture = cv2.imread(str(sorted(PICTURE.rglob('*.jpg'))[0]))
    assert picture is not None, PICTURE
    pixels = cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)
    if transport == 'compressed':
        _, data = cv2.imencode('.jpg', pixels, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
        return CompressedImage(format='bgr8; jpeg compressed bgr8', data=byte_array(data))
    return to_image(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), 'rgb8', Header())


def send(node: Node, publishers: list[Publisher], picture: Image | CompressedImage, rate: float,
         seconds: float, together: bool) -> list[list[int]]:
    """
    Send at `rate` [Hz] on each topic.

    A late frame delays those after it, as with a camera: two frames are never sent at once.

    :return: the stamps of each topic [ns].
    """
    sent: list[list[int]] = [[] for _ in publishers]
    due, pause = time.monotonic(), 1 / rate if together else 1 / (rate * len(publishers))
    for number in range(max(1, round(rate * seconds)) * len(publishers)):
        topic = number % len(publishers)
        if topic == 0 or not together:
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic()) + pause
        stamp = node.get_clock().now()
        picture.header.stamp = stamp.to_msg()
        publishers[topic].publish(picture)
        sent[topic].append(stamp.nanoseconds)
    return sent


def main(width: str, height: str, transport: str, *topics: str) -> None:
    """Follow the lines of standard input until it ends."""
    picture = message(int(width), int(height), transport)
    rclpy.init()
    node = rclpy.create_node('camera')
    publishers = [node.create_publisher(type(picture), topic, QUEUE) for topic in topics]
    for line in sys.stdin:
        wanted = json.loads(line)
        sent = send(node, publishers, picture, **wanted)
        print(json.dumps({'sent': sent}), flush=True)


if __name__ == '__main__':
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        pass
