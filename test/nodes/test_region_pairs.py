"""Which boxes belong to which image."""
from collections.abc import Iterator
import math
import time

from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray, ObjectHypothesisWithPose
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.nodes import messages
from vl2v_ros.nodes.topics.region_pairs import MOST, Pair, Pairing

LONG, SHORT = 60.0, 0.05  # [s]


def header(milliseconds: int) -> Header:
    return Header(stamp=Time(sec=1, nanosec=milliseconds * 1_000_000))


def image(milliseconds: int) -> Image:
    return Image(header=header(milliseconds))


def boxes(milliseconds: int) -> Detection2DArray:
    return Detection2DArray(header=header(milliseconds))


def at(pairs: list[Pair]) -> Iterator[tuple[int, int]]:
    """Yield the stamps of image and boxes [ms]."""
    for pair in pairs:
        yield tuple(message.header.stamp.nanosec // 1_000_000 for message in pair)


def test_boxes_that_come_after_their_image_find_it_among_others() -> None:
    pairing = Pairing()
    for stamp in (0, 33, 66, 100):
        assert pairing.add_image(image(stamp), LONG) == []
    assert list(at(pairing.add_regions(boxes(33), LONG))) == [(33, 33)]
    assert list(at(pairing.add_regions(boxes(33), LONG))) == [(33, 33)]  # of another detector
    assert list(at(pairing.add_regions(boxes(0), LONG))) == [(0, 0)]
    assert pairing.unmatched == 0


def test_boxes_that_come_before_their_image_wait_for_it() -> None:
    pairing = Pairing()
    assert pairing.add_image(image(0), LONG) == []
    assert pairing.add_regions(boxes(33), LONG) == []
    assert list(at(pairing.add_image(image(33), LONG))) == [(33, 33)]
    assert pairing.add_image(image(66), LONG) == []


def test_boxes_of_a_dropped_image_get_the_nearest_one() -> None:
    pairing = Pairing()
    pairing.add_image(image(0), LONG)
    assert pairing.add_regions(boxes(40), LONG) == []
    assert list(at(pairing.add_image(image(66), LONG))) == [(66, 40)]
    pairing.add_image(image(100), LONG)
    assert list(at(pairing.add_regions(boxes(70), LONG))) == [(66, 70)]


def test_nothing_waits_longer_than_the_slack() -> None:
    pairing = Pairing()
    pairing.add_regions(boxes(500), SHORT)
    pairing.add_image(image(0), SHORT)
    time.sleep(2 * SHORT)
    assert pairing.expire(SHORT) == []
    assert pairing.unmatched == 1
    assert pairing.add_regions(boxes(0), SHORT) == []  # its image is gone
    time.sleep(2 * SHORT)
    assert pairing.expire(SHORT) == []
    assert pairing.unmatched == 2


def test_boxes_that_waited_in_vain_take_an_older_image_within_the_slack() -> None:
    pairing = Pairing()
    pairing.add_regions(boxes(120), 0.1)
    time.sleep(0.06)
    pairing.add_image(image(100), 0.1)
    time.sleep(0.06)
    assert list(at(pairing.expire(0.1))) == [(100, 120)]


def test_stamps_too_far_apart_are_no_pair() -> None:
    pairing = Pairing()
    pairing.add_image(image(900), SHORT)
    assert pairing.add_regions(boxes(100), SHORT) == []
    assert pairing.unmatched == 1


def test_a_flood_of_boxes_is_bounded() -> None:
    pairing = Pairing()
    for _ in range(MOST + 7):
        pairing.add_regions(boxes(500), LONG)
    assert pairing.unmatched == 7
    assert len(pairing.add_image(image(500), LONG)) == MOST
    pairing.clear()
    assert pairing.add_regions(boxes(400), LONG) == []


def test_detections_keep_boxes_and_ids_and_get_our_labels() -> None:
    region = Detection2D(header=header(7), id='track 4',
                         bbox=BoundingBox2D(size_x=4.0, size_y=2.0),
                         results=[ObjectHypothesisWithPose()])
    region.bbox.center.position.x, region.bbox.center.theta = 9.0, math.pi
    box = messages.to_box(region)
    assert (box.x, box.y, box.width, box.height, box.angle) == (9, 0, 4, 2, math.pi)
    mug = Prediction(('mug', 'cup'), (0.3, 0.2), (0.75, 0.25), False, 0.1, 1)
    nothing = Prediction(('mug', 'cup'), (0.1, 0.0), (0.5, 0.5), True, 0.9, 1)
    regions = Detection2DArray(header=header(5), detections=[region] * 3)
    found = messages.to_detections(regions, [mug, nothing, None], 0.25, 0.0)
    assert found.header == regions.header
    for detection in found.detections:
        assert (detection.header, detection.bbox, detection.id) == (
            region.header, region.bbox, 'track 4')
    named = [[(result.hypothesis.class_id, result.hypothesis.score)
              for result in detection.results] for detection in found.detections]
    assert named == [[('mug', 0.75)], [], []]
