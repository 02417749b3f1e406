"""
A camera driver of its own process, which writes the truth into each header's frame_id.

python frame_publisher.py FRAMES.npz TOPIC COUNT RATE ENCODING RELIABILITY SETTLE; prints what it
sent as JSON. SETTLE is what it waits once it is heard [s].
"""
import json
import sys
import time

import cv2
import numpy as np
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vl2v_ros.nodes.messages import byte_array, to_image

FROM_RGB = {'rgb8': None, 'bgr8': cv2.COLOR_RGB2BGR, 'rgba8': cv2.COLOR_RGB2RGBA,
            'bgra8': cv2.COLOR_RGB2BGRA, 'mono8': cv2.COLOR_RGB2GRAY}


def to_message(rgb: np.ndarray, encoding: str) -> Image | CompressedImage:
    if encoding == 'jpeg':
        _, data = cv2.imencode('.jpg', rgb[..., ::-1])
        return CompressedImage(format='jpeg', data=byte_array(data))
    pixels = rgb if encoding == 'rgb8' else cv2.cvtColor(rgb, FROM_RGB[encoding])
    return to_image(pixels, encoding, Header())


def main(path: str, topic: str, count: str, rate: str, encoding: str, reliability: str,
         settle: str) -> None:
    with np.load(path) as file:
        frames = [(label, to_message(file[label], encoding)) for label in file.files]
    rclpy.init()
    node = rclpy.create_node('frame_publisher')
    publisher = node.create_publisher(type(frames[0][1]), topic, QoSProfile(
        depth=5, reliability=ReliabilityPolicy[reliability.upper()]))
    while not publisher.get_subscription_count():
        time.sleep(0.01)
    time.sleep(float(settle))  # until the other side has matched too
    sent, lateness, due = {}, 0.0, time.monotonic()
    for number in range(int(count)):
        # A frame that is late delays those after it, as with a camera: two never come at once.
        time.sleep(max(0.0, due - time.monotonic()))
        lateness = max(lateness, time.monotonic() - due)
        due = max(due, time.monotonic()) + 1 / float(rate)
        label, message = frames[number % len(frames)]
        stamp = node.get_clock().now().to_msg()
        message.header = Header(stamp=stamp, frame_id=f'{label}#{number}')
        publisher.publish(message)
        sent[message.header.frame_id] = stamp.sec, stamp.nanosec
    time.sleep(0.5)  # what is under way would be lost with the process
    print(json.dumps({'sent': sent, 'lateness': lateness}))


if __name__ == '__main__':
    main(*sys.argv[1:])
