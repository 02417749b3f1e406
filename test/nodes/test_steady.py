"""Labels of a camera and of its boxes over real DDS, with and without smoothing."""
from collections.abc import Iterator
from contextlib import suppress
from itertools import count, groupby
from typing import NamedTuple

from builtin_interfaces.msg import Time
import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from support import shapes
from support.detector import to_regions
from support.ros_processes import Ros
from vision_msgs.msg import Classification, Detection2DArray
from vl2v_msgs.msg import LabelArray
from vl2v_ros.nodes.messages import to_image

RED, BLUE = (shapes.draw(label, 320, 240, np.random.default_rng(1), (0, 0))
             for label in ('red circle', 'blue square'))
IDS = '7', '', '8', '8'


class Said(NamedTuple):
    """The first label of an image on each topic; by `~/detections` one of each box."""

    labels: str
    classification: str
    detections: tuple[str, ...]


class Show:
    """A camera and a tracker, and who listens to the answers."""

    def __init__(self, ros: Ros) -> None:
        self._ros, self._numbers = ros, count(1)
        self._labels = ros.subscribe(LabelArray, 'classifier/labels')
        self._classifications = ros.subscribe(Classification, 'classifier/classification')
        self._detections = ros.subscribe(Detection2DArray, 'classifier/detections')
        self._images = ros.publisher(Image, 'image')
        self._regions = ros.publisher(Detection2DArray, 'regions')

    def see(self, picture: np.ndarray) -> Said:
        """Show a picture 50 ms after the last one, by its stamp, until it is answered."""
        for _ in range(5):  # the first ones may get lost
            number = next(self._numbers)
            header = Header(stamp=Time(sec=1000 + number // 20, nanosec=number % 20 * 50_000_000),
                            frame_id=f'shown {number}')
            self._images.publish(to_image(picture, 'rgb8', header))
            self._regions.publish(to_regions(header, [(160, 120, 238, 238, name)
                                                      for name in IDS]))
            with suppress(AssertionError):
                boxes = self._detections.wait_for(
                    lambda message, sent=header: message.header == sent, patience=10).detections
                assert [box.id for box in boxes] == list(IDS)
                return Said(
                    self._labels.wait_for_frame(header.frame_id).labels[0].label,
                    self._classifications.wait_for_frame(header.frame_id).results[0].class_id,
                    tuple(box.results[0].hypothesis.class_id for box in boxes))
        raise AssertionError('no answer')

    def close(self) -> None:
        self._ros.node.destroy_publisher(self._images)
        self._ros.node.destroy_publisher(self._regions)


@pytest.fixture(scope='module')
def show(ros: Ros, settings: dict[str, object]) -> Iterator[Show]:
    ros.classifier(settings | {'unknown_threshold': -1.0, 'region_margin': 0.0})
    show = Show(ros)
    yield show
    show.close()


@pytest.mark.parametrize(('smoothing', 'hysteresis', 'flickers'),
                         [(0.0, 0.0, True), (1.0, 0.0, False), (0.0, 0.49, True)])
def test_a_single_other_image_changes_no_label(ros: Ros, show: Show, smoothing: float,
                                               hysteresis: float, flickers: bool) -> None:
    values = [Parameter('smoothing', value=smoothing), Parameter('hysteresis', value=hysteresis)]
    reply = ros.call(SetParameters, 'classifier/set_parameters', parameters=[
        value.to_parameter_msg() for value in values])
    assert all(result.successful for result in reply.results)
    said = [show.see(picture) for picture in (*[RED] * 8, BLUE, *[RED] * 3, *[BLUE] * 15)]
    both = ['red circle', 'blue square']
    calm, other = ([label for label, _ in groupby(labels)] for labels in (
        [one.labels for one in said], [one.detections[1] for one in said]))
    assert other == both * 2  # a box without an id
    assert calm == (both * 2 if flickers else both)
    for one in said:
        assert one.classification == one.detections[0] == one.labels
        assert one.detections[2:] == (one.detections[1],) * 2  # an id of two boxes is none
