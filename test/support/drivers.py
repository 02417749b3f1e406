"""
Stand-ins of camera drivers: names, types, QoS, encodings and frame_ids as in their sources.

python drivers.py DRIVER SCENE.npz [--ros-args ...]; publishes the scene ten times a second until
it is stopped. The scene has (H, W, 3) uint8 RGB as `rgb` and (H, W) distances [m] as `depth`.
docs/integrations.md names the versions of the drivers.
"""
from collections.abc import Callable, Mapping
import sys
from typing import Any, NamedTuple

from builtin_interfaces.msg import Time
import cv2
import numpy as np
import rclpy
from rclpy.clock import Clock as SteadyClock
from rclpy.clock import ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.publisher import Publisher
from rclpy.qos import qos_profile_system_default, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vl2v_ros.nodes.messages import byte_array, to_image

PERIOD = 0.1  # [s]
SIMULATED = 42 * 10 ** 9  # simulated time at the start [ns]
SYSTEM = qos_profile_system_default
MM = 1000  # in a metre


def yuyv(rgb: np.ndarray) -> np.ndarray:
    """Return (H, W, 2) uint8: Y of each pixel, U and V of the first of two."""
    y, v, u = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb))
    colours = np.stack([u[:, ::2], v[:, ::2]], axis=2).reshape(y.shape)
    limited = np.stack([16 + y * (219 / 255), 128 + (colours - 128.0) * (224 / 255)], axis=2)
    return limited.round().astype(np.uint8)


def raw_depth(values: np.ndarray, encoding: str) -> Image:
    height, width = values.shape
    return Image(height=height, width=width, step=width * values.itemsize, encoding=encoding,
                 data=byte_array(values))


def in_millimetres(depth: np.ndarray) -> np.ndarray:
    """Return uint16 values as a RealSense has them; 0: none."""
    return np.where(np.isfinite(depth), depth * MM, 0).astype(np.uint16)


def calibration(rgb: np.ndarray) -> CameraInfo:
    height, width = rgb.shape[:2]
    focal, x, y = 0.8 * width, width / 2 - 0.5, height / 2 - 0.5
    return CameraInfo(height=height, width=width, distortion_model='plumb_bob', d=[0.0] * 5,
                      k=[focal, 0.0, x, 0.0, focal, y, 0.0, 0.0, 1.0],
                      r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
                      p=[focal, 0.0, x, 0.0, 0.0, focal, y, 0.0, 0.0, 0.0, 1.0, 0.0])


def uncalibrated(rgb: np.ndarray) -> CameraInfo:
    return CameraInfo(height=rgb.shape[0], width=rgb.shape[1])


def jpeg(rgb: np.ndarray, form: str) -> CompressedImage:
    return CompressedImage(format=form,
                           data=byte_array(cv2.imencode('.jpg', rgb[..., ::-1])[1]))


class Topic(NamedTuple):
    """
    A topic of a driver.

    make: makes its message of a scene; None: the driver offers the topic, and sends nothing.
    lazy: sent only while somebody subscribes, as image_transport's plugins do.
    """

    name: str
    kind: type
    qos: QoSProfile
    make: Callable[[Mapping[str, np.ndarray]], Any] | None
    lazy: bool = False


class Driver(NamedTuple):
    """A driver; simulated: its stamps are of a time of its own, which it sends on /clock."""

    node: str
    namespace: str
    frame_id: str
    topics: tuple[Topic, ...]
    simulated: bool = False


def rgb8(scene: Mapping[str, np.ndarray]) -> Image:
    return to_image(scene['rgb'], 'rgb8', Header())


def with_plugin(name: str, qos: QoSProfile, image: Callable[[Mapping[str, np.ndarray]], Any],
                info: Callable[[np.ndarray], CameraInfo], info_qos: QoSProfile, inside: str = ''
                ) -> tuple[Topic, ...]:
    """Return what image_transport offers of a camera, with its plugin for JPEG."""
    return (Topic(f'{inside}{name}', Image, qos, image),
            Topic(f'{inside}{name}/compressed', CompressedImage, qos,
                  lambda scene: jpeg(scene['rgb'], 'rgb8; jpeg compressed bgr8'), lazy=True),
            Topic(f'{inside}camera_info', CameraInfo, info_qos, lambda scene: info(scene['rgb'])))


def usb_cam(image: Callable[[Mapping[str, np.ndarray]], Any]) -> Driver:
    return Driver('usb_cam', '/', 'default_cam', with_plugin(
        'image_raw', QoSProfile(depth=100), image, uncalibrated, QoSProfile(depth=100)))


DRIVERS = {
    'realsense2_camera': Driver('camera', '/camera', 'camera_color_optical_frame', (
        *with_plugin('image_raw', SYSTEM, rgb8, calibration, QoSProfile(depth=10), '~/color/'),
        Topic('~/aligned_depth_to_color/image_raw', Image, SYSTEM,
              lambda scene: raw_depth(in_millimetres(scene['depth']), '16UC1')),
        Topic('~/aligned_depth_to_color/camera_info', CameraInfo, QoSProfile(depth=10),
              lambda scene: calibration(scene['rgb'])))),
    'usb_cam mjpeg2rgb': usb_cam(rgb8),
    'usb_cam yuyv': usb_cam(lambda scene: to_image(yuyv(scene['rgb']), 'yuv422_yuy2', Header())),
    # The camera's own JPEG; image_transport's topic for raw images is offered all the same.
    'usb_cam mjpeg': Driver('usb_cam', '/', 'default_cam', (
        Topic('image_raw', Image, QoSProfile(depth=100), None),
        Topic('image_raw/compressed', CompressedImage, QoSProfile(depth=100),
              lambda scene: jpeg(scene['rgb'], 'jpeg')),
        Topic('camera_info', CameraInfo, QoSProfile(depth=100),
              lambda scene: uncalibrated(scene['rgb'])))),
    'v4l2_camera': Driver('v4l2_camera', '/', 'camera', with_plugin(
        'image_raw', SYSTEM, rgb8, uncalibrated, SYSTEM)),
    'ros_gz_bridge': Driver('ros_gz_bridge', '/', 'camera_optical', (
        Topic('/rgbd_camera/image', Image, QoSProfile(depth=10), rgb8),
        Topic('/rgbd_camera/depth_image', Image, QoSProfile(depth=10),
              lambda scene: raw_depth(scene['depth'].astype(np.float32), '32FC1')),
        Topic('/rgbd_camera/camera_info', CameraInfo, QoSProfile(depth=10),
              lambda scene: calibration(scene['rgb']))), simulated=True)}


def main(name: str, path: str) -> None:
    driver = DRIVERS[name]
    rclpy.init()
    node = rclpy.create_node(driver.node, namespace=driver.namespace)
    with np.load(path) as scene:
        made = [(node.create_publisher(topic.kind, topic.name, topic.qos), topic,
                 topic.make(scene) if topic.make else None) for topic in driver.topics]
    clock = node.create_publisher(Clock, '/clock', 10) if driver.simulated else None
    simulated = SIMULATED

    def now() -> Time:
        nonlocal simulated
        if clock is None:
            return node.get_clock().now().to_msg()
        simulated += int(PERIOD * 1e9)
        stamp = Time(sec=simulated // 10 ** 9, nanosec=simulated % 10 ** 9)
        clock.publish(Clock(clock=stamp))
        return stamp

    def wanted(publisher: Publisher, topic: Topic) -> bool:
        return not topic.lazy or bool(publisher.get_subscription_count())

    def send() -> None:
        header = Header(stamp=now(), frame_id=driver.frame_id)
        for publisher, topic, message in made:
            if message is not None and wanted(publisher, topic):
                message.header = header
                publisher.publish(message)
    node.create_timer(PERIOD, send, clock=SteadyClock(clock_type=ClockType.STEADY_TIME))
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass


if __name__ == '__main__':
    main(*sys.argv[1:3])
