"""vl2v_demo --scene: rendered clutter with the names of its boxes and how far they are."""
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
import math
from pathlib import Path
import subprocess
import time

import cv2
import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray, Detection3DArray
from vl2v_ros.files import read_json, read_yaml, replacing, share
from vl2v_ros.images.frame import to_rgb
from vl2v_ros.nodes.demo_parts.processes import NAMESPACE, running, spin, START_TIMEOUT
from vl2v_ros.nodes.messages import byte_array, to_frame, to_image
from vl2v_ros.nodes.topics.region_pairs import nanoseconds

NAMES = 'config/names/ycb.yaml'
FRAME = 'camera_optical_frame'
FIELD_OF_VIEW = 45.0  # vertical, of the cameras of the renders [deg]
SMALLEST, LEAST_VISIBLE = 32, 0.5  # boxes that are shown: shorter side [px], part in sight
SLACK = 5.0  # region_slack, so that a slow machine answers too [s]
AGAIN = 1.0  # what may have got lost is sent again after this time [s]
WIDTH = 480  # of a picture on the page [px]


@dataclass(frozen=True)
class Scene:
    """
    One picture and its objects.

    bgr: (H, W, 3) uint8. depth: (H, W) uint16 [mm].
    objects: everyday name, and left, top, width, height [px] of each box.
    """

    name: str
    bgr: np.ndarray
    depth: np.ndarray
    objects: Sequence[tuple[str, Sequence[float]]]


def scenes() -> Iterator[Scene]:
    """Read the clutter that ships with the package."""
    called = read_yaml(share() / NAMES)
    for path in sorted((share() / 'data/ycb_sample/clutter').glob('*/annotations.json')):
        coco = read_json(path)
        classes = {entry['id']: called[entry['name']] for entry in coco['categories']}
        for image in coco['images']:
            file = path.parent / image['file_name']
            yield Scene(
                f'{path.parent.name}/{file.stem}', _read(file),
                _read(file.with_name(f'{file.stem}_depth.png')),
                [(classes[entry['category_id']], entry['bbox']) for entry in coco['annotations']
                 if entry['image_id'] == image['id'] and entry['visible'] >= LEAST_VISIBLE
                 and min(entry['bbox'][2:]) >= SMALLEST])


def _read(file: Path) -> np.ndarray:
    pixels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)  # 16 bits of depth, too
    if pixels is None:
        raise ValueError(f'{file}: expected an image of the demo, found none')
    return pixels


class Table(Node):
    """A camera with depth and a detector that finds all objects, and who looks at the answers."""

    def __init__(self) -> None:
        """Offer and listen to the topics of the classifier in NAMESPACE."""
        super().__init__('table', namespace=NAMESPACE)
        self._images = self.create_publisher(Image, 'image', 1)
        self._depths = self.create_publisher(Image, 'depth', 1)
        self._infos = self.create_publisher(CameraInfo, 'camera_info', 1)
        self._regions = self.create_publisher(Detection2DArray, 'regions', 1)
        self._found: dict[int, Detection2DArray] = {}  # by stamp [ns]
        self._placed: dict[int, Detection3DArray] = {}
        self._overlays: dict[int, Image] = {}
        for kind, topic, kept in (
                (Detection2DArray, 'detections', self._found),
                (Detection3DArray, 'detections_3d', self._placed),
                (Image, 'overlay', self._overlays)):
            self.create_subscription(
                kind, f'classifier/{topic}',
                lambda message, kept=kept: kept.update(
                    {nanoseconds(message.header.stamp): message}), 10)

    def show(self, scene: Scene, processes: Sequence[subprocess.Popen[bytes]]
             ) -> tuple[np.ndarray, Detection2DArray, dict[str, float]]:
        """
        Send a scene until it is answered.

        :return: its overlay, (H, W, 3) uint8 RGB; the boxes with their names; distances by id [m].
        """
        stamp = self.get_clock().now().nanoseconds
        after = stamp + 1  # of an image that comes when the boxes have their places
        picture = to_image(scene.bgr, 'bgr8', _header(after))
        spin(self, processes, START_TIMEOUT, _sending(
            lambda: self._send(scene, stamp),
            lambda: stamp in self._found and stamp in self._placed), 'detection')
        spin(self, processes, START_TIMEOUT, _sending(
            lambda: self._images.publish(picture), lambda: after in self._overlays), 'picture')
        far = {one.id: one.bbox.center.position.z for one in self._placed[stamp].detections}
        return to_rgb(to_frame(self._overlays.pop(after))), self._found[stamp], far

    def _send(self, scene: Scene, stamp: int) -> None:
        header, (height, width) = _header(stamp), scene.depth.shape
        focal = height / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2)
        self._infos.publish(CameraInfo(
            header=header, width=width, height=height, distortion_model='plumb_bob', d=[0.0] * 5,
            k=[focal, 0.0, width / 2 - 0.5, 0.0, focal, height / 2 - 0.5, 0.0, 0.0, 1.0]))
        self._depths.publish(Image(
            header=header, width=width, height=height, encoding='16UC1', step=2 * width,
            data=byte_array(scene.depth.view(np.uint8))))
        self._images.publish(to_image(scene.bgr, 'bgr8', header))
        self._regions.publish(Detection2DArray(header=header, detections=[
            _region(header, box, str(number)) for number, (_, box) in enumerate(scene.objects)]))


def _sending(send: Callable[[], None], answered: Callable[[], bool]) -> Callable[[], bool]:
    """Return a condition: whether it is answered; if not, it sends again now and then."""
    sent = -math.inf

    def condition() -> bool:
        nonlocal sent
        if not (done := answered()) and time.monotonic() - sent > AGAIN:
            sent = time.monotonic()
            send()
        return done
    return condition


def _region(header: Header, box: Sequence[float], name: str) -> Detection2D:
    left, top, width, height = map(float, box)
    there = BoundingBox2D(size_x=width, size_y=height)
    there.center.position.x, there.center.position.y = left + width / 2, top + height / 2
    return Detection2D(header=header, bbox=there, id=name)


def _header(stamp: int) -> Header:
    header = Header(frame_id=FRAME)
    header.stamp.sec, header.stamp.nanosec = divmod(stamp, 10**9)
    return header


def play(out: Path, checkpoint: Path) -> None:
    """
    Show all scenes to a classifier; print what it names, and write a page of its overlays.

    :param out: folder to write into.
    """
    table = Table()
    pictures: list[np.ndarray] = []
    rights: list[bool] = []
    names = sorted(set(read_yaml(share() / NAMES).values()))
    with running('classifier_node', {
            'checkpoint': checkpoint, 'vocabulary': ', '.join(names), 'unknown_threshold': 0.0,
            'top_k': 1, 'region_slack': SLACK}) as classifier:
        for scene in scenes():
            picture, found, far = table.show(scene, [classifier])
            pictures.append(picture)
            right = [_called(one) == name
                     for (name, _), one in zip(scene.objects, found.detections, strict=True)]
            rights += right
            print(f'{scene.name}: {sum(right)} of {len(right)} named rightly')
            for (name, _), one in zip(scene.objects, found.detections, strict=True):
                print(f'  {_said(name, one, far)}', flush=True)
    print(f'{sum(rights)} of {len(rights)} boxes named rightly, among {len(names)} names')
    path = out / 'scene.jpg'
    page = cv2.cvtColor(_page(pictures), cv2.COLOR_RGB2BGR)
    with replacing(path) as temporary:
        cv2.imwrite(str(temporary), page, (cv2.IMWRITE_JPEG_QUALITY, 80))
    print(f'wrote {path}')


def _said(name: str, found: Detection2D, far: dict[str, float]) -> str:
    """Return what a box is called, how far it is, and its right name if it has another."""
    called = _called(found)
    distance = f'{far[found.id]:.2f} m' if found.id in far else 'no distance'
    return f'{called or "unknown"}, {distance}' + ('' if called == name else f' (is: {name})')


def _called(found: Detection2D) -> str:
    """Return the first name of a box, '' if it is unknown."""
    return found.results[0].hypothesis.class_id if found.results else ''


def _page(pictures: Sequence[np.ndarray], columns: int = 4) -> np.ndarray:
    """Return RGB pictures of one size side by side, those of a domain in a row."""
    height, width = pictures[0].shape[:2]
    size = WIDTH, round(WIDTH * height / width)
    small = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures]
    small += [np.zeros_like(small[0])] * (-len(small) % columns)
    return np.vstack([np.hstack(small[start:start + columns])
                      for start in range(0, len(small), columns)])
