"""Boxes and depth in, places in space out: real processes."""
from collections.abc import Iterator
from contextlib import suppress
import itertools
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import pytest
import rclpy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from support import shapes
from support.detector import to_regions
from support.ros_processes import LABELS, Process, Received, Ros, wait_until
from vision_msgs.msg import Detection2DArray, Detection3DArray
from vl2v_ros.drawing.boxes import draw_boxes, Mark
from vl2v_ros.drawing.overlay import BAR
from vl2v_ros.images.regions import Box
from vl2v_ros.nodes.messages import byte_array, to_image

WIDTH, HEIGHT, FOCAL = 320, 240, 200.0
SIDE = 100  # of the square in the picture [px]
CENTRE = 200, 120  # of the square [px]
WALL, SQUARE = 3.0, 1.5  # distances [m]
FRAME = 'camera_optical'
K = [FOCAL, 0.0, WIDTH / 2 - 0.5, 0.0, FOCAL, HEIGHT / 2 - 0.5, 0.0, 0.0, 1.0]
BOXES = [(*CENTRE, SIDE, SIDE, 'track 7'), (-50, 0, 20, 20, 'outside'), (40, 40, 60, 60, 'wall')]


def wall_and_square() -> np.ndarray:
    """Return (H, W) distances [m]: a wall, and the square before it."""
    depth = np.full((HEIGHT, WIDTH), WALL, np.float32)
    (x, y), half = CENTRE, SIDE // 2
    depth[y - half:y + half, x - half:x + half] = SQUARE
    return depth


def depth_image(values: np.ndarray, header: Header) -> Image:
    """Return (H, W) values as 32FC1, or 16UC1 if they are uint16."""
    height, width = values.shape
    return Image(header=header, height=height, width=width, step=width * values.itemsize,
                 encoding='16UC1' if values.dtype == np.uint16 else '32FC1',
                 data=byte_array(values))


def picture() -> np.ndarray:
    """Return (H, W, 3) RGB pixels: a shape on grey."""
    pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    (x, y), half = CENTRE, SIDE // 2
    pixels[y - half:y + half, x - half:x + half] = shapes.draw(
        LABELS[1], SIDE, SIDE, np.random.default_rng(1), (0, 0))
    return pixels


class Bench:
    """The test's own camera, detector and depth camera."""

    def __init__(self, ros: Ros, detections: Received[Detection3DArray]) -> None:
        self._ros, self._picture, self.detections = ros, picture(), detections
        self._numbers = itertools.count(1000)
        self._topics = {topic: ros.publisher(kind, topic) for kind, topic in (
            (Image, 'image'), (Detection2DArray, 'regions'), (Image, 'depth'),
            (CameraInfo, 'camera_info'))}

    def send(self, depth: np.ndarray | None = None, info: dict[str, Any] | None = None,
             frame_id: str = FRAME) -> Header:
        """Publish an image, boxes in it, depth and camera_info; return their header."""
        header = Header(stamp=Time(sec=next(self._numbers)), frame_id=FRAME)
        if info is not None:
            self._topics['camera_info'].publish(CameraInfo(header=header, **info))
        if depth is not None:
            self._topics['depth'].publish(depth_image(
                depth, Header(stamp=header.stamp, frame_id=frame_id)))
        self._topics['image'].publish(to_image(self._picture, 'rgb8', header))
        self._topics['regions'].publish(to_regions(header, BOXES))
        return header

    def ask(self, *what: Any) -> Detection3DArray:
        """Send until it is answered: the first messages may get lost."""
        for _ in range(5):
            header = self.send(*what)
            with suppress(AssertionError):
                return self.detections.wait_for(lambda message: message.header == header,
                                                patience=10)
        raise AssertionError('no answer')

    def close(self) -> None:
        for publisher in self._topics.values():
            self._ros.node.destroy_publisher(publisher)


@pytest.fixture(scope='module')
def classifier(ros: Ros, settings: dict[str, object]) -> Process:
    return ros.classifier(settings | {'unknown_threshold': -1.0, 'region_margin': 0.0,
                                      'region_slack': 2.0})


def test_the_node_listens_only_while_somebody_wants_it(ros: Ros, classifier: Process) -> None:
    assert not ros.node.count_subscribers('depth')
    other = rclpy.create_node('other', context=ros.node.context)
    other.create_subscription(Detection3DArray, 'classifier/detections_3d', print, 1)
    for topic in ('depth', 'camera_info'):
        wait_until(lambda topic=topic: ros.node.count_subscribers(topic), topic)
    other.destroy_node()
    for topic in ('depth', 'camera_info'):
        wait_until(lambda topic=topic: not ros.node.count_subscribers(topic), f'no {topic}')


@pytest.fixture(scope='module')
def overlays(ros: Ros, classifier: Process) -> Received[Image]:
    return ros.subscribe(Image, 'classifier/overlay')


def tag(overlay: Image) -> int:
    """Return how wide the name above the square is [px]; 0 if the square has no edge."""
    bar = (np.frombuffer(overlay.data, np.uint8).reshape(HEIGHT, WIDTH, 3) == BAR).all(2)
    (x, y), half = CENTRE, SIDE // 2
    above = bar[y - half - 10:y - half - 2, x - half:]  # beside the panel
    return int(above.any(0).sum() if bar[90:140, x - half].all() else 0)


def test_the_overlay_alone_shows_boxes_but_no_distance(ros: Ros, overlays: Received[Image]
                                                       ) -> None:
    images, regions = ros.publisher(Image, 'image'), ros.publisher(Detection2DArray, 'regions')

    def shown() -> int:
        header = Header(stamp=Time(sec=500), frame_id=FRAME)
        images.publish(to_image(picture(), 'rgb8', header))
        regions.publish(to_regions(header, BOXES))
        return max(map(tag, overlays.messages), default=0)
    wait_until(shown, 'a box in the overlay', step=0.1)
    assert not ros.node.count_subscribers('depth')
    seen = len(overlays.messages)
    later = Header(stamp=Time(sec=503), frame_id=FRAME)  # later than region_slack
    images.publish(to_image(picture(), 'rgb8', later))
    assert tag(overlays.wait_for(lambda message: message.header == later, seen)) == 0
    for publisher in (images, regions):
        ros.node.destroy_publisher(publisher)


@pytest.fixture(scope='module')
def bench(ros: Ros, classifier: Process) -> Iterator[Bench]:
    bench = Bench(ros, ros.subscribe(Detection3DArray, 'classifier/detections_3d'))
    yield bench
    bench.close()


INFO = {'width': WIDTH, 'height': HEIGHT, 'k': K, 'distortion_model': 'plumb_bob', 'd': [0.0] * 5}
NOT_YET = 'expected a camera_info on /camera_info, none has come; start the driver, or remap'


@pytest.fixture(scope='module')
def statuses(ros: Ros, classifier: Process) -> Received[DiagnosticArray]:
    return ros.subscribe(DiagnosticArray, '/diagnostics')


def facts(statuses: Received[DiagnosticArray]) -> dict[str, str]:
    """Return what the node says of itself."""
    return {value.key: value.value for message in statuses.messages[-1:]
            for status in message.status for value in status.values}


def refused(bench: Bench, statuses: Received[DiagnosticArray], reason: str, *what: Any) -> bool:
    """Send until the node gives a reason why not; return whether it answered nothing of it."""
    sent = []
    wait_until(lambda: sent.append(bench.send(*what)) or reason in facts(statuses).get(
        'last refusal of depth', ''), reason, step=0.3)
    return not any(message.header in sent for message in bench.detections.messages)


def test_without_camera_info_nothing_has_a_place(
        bench: Bench, classifier: Process, statuses: Received[DiagnosticArray]) -> None:
    assert refused(bench, statuses, NOT_YET, wall_and_square())
    wait_until(lambda: bench.send(wall_and_square()) and NOT_YET in classifier.output, 'warning')


@pytest.mark.parametrize('depth', [
    wall_and_square(), (1000 * wall_and_square()).astype(np.uint16), wall_and_square()[::2, ::2]],
    ids=['metres', 'millimetres', 'half the size'])
def test_a_square_before_a_wall(bench: Bench, depth: np.ndarray) -> None:
    found = bench.ask(depth, INFO)
    assert found.header.frame_id == FRAME
    square, wall = found.detections  # what is outside has no place
    assert (square.id, wall.id) == ('track 7', 'wall')
    assert square.results[0].hypothesis.class_id == LABELS[1]
    place, size = square.bbox.center.position, square.bbox.size
    assert square.results[0].pose.pose == square.bbox.center
    assert (place.x, place.y, place.z) == pytest.approx((0.3, 0.0, SQUARE), abs=1e-3)
    assert (size.x, size.y, size.z) == pytest.approx((0.75, 0.75, 0.0), abs=1e-3)
    assert square.bbox.center.orientation.w == 1.0
    assert wall.bbox.center.position.z == pytest.approx(WALL)


def test_the_overlay_shows_how_far_boxes_are(bench: Bench, overlays: Received[Image]) -> None:
    def wide(distance: float | None) -> int:
        pixels = picture()
        draw_boxes(pixels, [Mark(Box(*CENTRE, SIDE, SIDE), LABELS[1], distance)])
        return tag(to_image(pixels, 'rgb8', Header()))

    def shown() -> bool:
        bench.send(wall_and_square(), INFO)
        return any(tag(overlay) >= wide(SQUARE) for overlay in overlays.messages)
    assert wide(SQUARE) > wide(None) + 20
    wait_until(shown, 'a distance in the overlay', step=0.3)


@pytest.mark.parametrize('value', [0.0, np.nan, np.inf, 99.0])
def test_depth_without_a_value_gives_no_place(bench: Bench, value: float) -> None:
    assert bench.ask(np.full((HEIGHT, WIDTH), value, np.float32), INFO).detections == []


@pytest.mark.parametrize('depth, info, frame_id, reason', [
    (wall_and_square()[:100], INFO, FRAME,
     'expected a depth image of the size of the image, 320 x 240 px, or scaled, got 320 x 100 px'),
    (wall_and_square(), INFO | {'k': [0.0] * 9}, FRAME,
     'expected a camera_info with focal lengths above 0 in k, got 0 and 0; calibrate the camera'),
    (wall_and_square(), INFO | {'width': 100}, FRAME, 'expected a camera_info of the size of'),
    (wall_and_square(), INFO, 'depth_optical',
     "expected depth in the frame_id of camera_info, 'camera_optical', got 'depth_optical'")],
    ids=['size', 'zeros', 'shape', 'frame'])
def test_what_has_no_place_is_refused(
        bench: Bench, statuses: Received[DiagnosticArray], depth: np.ndarray,
        info: dict[str, Any], frame_id: str, reason: str) -> None:
    assert refused(bench, statuses, reason, depth, info, frame_id)


def test_diagnostics_count(bench: Bench, statuses: Received[DiagnosticArray]) -> None:
    bench.ask(wall_and_square(), INFO)
    wait_until(lambda: int(facts(statuses).get('arrays of boxes placed by depth', 0)) >= 8,
               'counts')
    assert int(facts(statuses)['boxes without valid depth']) >= 4 * 3 + 4
    assert int(facts(statuses)['arrays of boxes refused for their depth']) >= 5
