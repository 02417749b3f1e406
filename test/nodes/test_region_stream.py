"""Boxes of a detector in, labels of each out: real processes at full rate."""
from collections.abc import Iterator
from contextlib import suppress
import json
from pathlib import Path
import time

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from support import shapes
from support.detector import to_regions
from support.ros_processes import LABELS, Process, Received, Ros, wait_until, what_was_sent
from vision_msgs.msg import Detection2DArray
from vl2v_msgs.srv import ClassifyImage, SetVocabulary
from vl2v_ros.nodes.messages import to_image

RATE = 30.0  # [Hz]
ROWS, COLUMNS, SIDE = 2, 5, 240  # ten boxes in 1280x720, of a side of 240 px
DETECTOR = Path(__file__).parents[1] / 'support' / 'detector.py'


def place(number: int) -> tuple[int, int]:
    """Return the centre of a box [px]."""
    return 8 + SIDE // 2 + number % COLUMNS * 256, 180 + number // COLUMNS * 360


@pytest.fixture(scope='module')
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Draw ten shapes in each of three pictures; return the pictures and their boxes."""
    rng, folder = np.random.default_rng(3), tmp_path_factory.mktemp('scenes')
    pictures, boxes = {}, {}
    for scene in 'abc':
        picture = np.full((720, 1280, 3), 90, np.uint8)
        boxes[scene] = []
        for number in range(ROWS * COLUMNS):
            label, (x, y) = rng.choice(LABELS), place(number)
            half = SIDE // 2
            picture[y - half:y + half, x - half:x + half] = shapes.draw(
                label, SIDE, SIDE, rng, (0, 0))
            boxes[scene].append((x, y, SIDE, SIDE, f'{label}, {number}'))
        pictures[scene] = picture
    np.savez(folder / 'pictures.npz', **pictures)
    (folder / 'boxes.json').write_text(json.dumps(boxes))
    return folder / 'pictures.npz', folder / 'boxes.json'


@pytest.fixture(scope='module')
def classifier(ros: Ros, settings: dict[str, object]) -> Process:
    return ros.classifier(settings | {'unknown_threshold': -1.0, 'region_margin': 0.0,
                                      'region_slack': 2.0, 'own_boxes': False})


@pytest.fixture(scope='module')
def detections(ros: Ros, classifier: Process) -> Received[Detection2DArray]:
    return ros.subscribe(Detection2DArray, 'classifier/detections')


@pytest.fixture
def detector(ros: Ros, scenes: tuple[Path, Path]) -> Iterator[Process]:
    with ros.run(DETECTOR, scenes[1], 'image', 'regions') as process:
        wait_until(lambda: ros.node.count_publishers('regions'), 'the detector')
        yield process
    wait_until(lambda: not ros.node.count_publishers('regions'), 'the end of the detector')


def right(found: Detection2DArray | ClassifyImage.Response) -> list[bool]:
    """Return for each box whether its first name is the one in its id."""
    return [bool(detection.results) and detection.results[0].hypothesis.class_id
            == detection.id.split(',')[0] for detection in found.detections]


@pytest.mark.alone
@pytest.mark.usefixtures('detector')
def test_ten_boxes_at_30_hz_while_the_vocabulary_changes_20_times(
        ros: Ros, detections: Received[Detection2DArray], scenes: tuple[Path, Path]) -> None:
    lists = LABELS, tuple(reversed([f'the {label}' for label in LABELS]))
    for names in lists:  # cached from here on
        assert ros.call(SetVocabulary, 'classifier/set_vocabulary', labels=names).success
    for _ in range(6):  # where something else keeps the cores busy, images are dropped
        first = len(detections.messages)
        publisher = ros.publish_frames(scenes[0], count=200, rate=RATE)
        detections.wait_for(bool, since=first)
        for number in range(20):
            seen = len(detections.messages)
            assert ros.call(SetVocabulary, 'classifier/set_vocabulary',
                            labels=lists[number % 2]).success
            wait_until(lambda: len(detections.messages) > seen + 3
                       or publisher._popen.poll() is not None, 'more boxes')
        in_time = publisher._popen.poll() is None  # all changes were made while images came
        sent, _ = what_was_sent(publisher)
        answers = detections.messages[first:]
        for answer in answers:
            assert answer.header.stamp == sent[answer.header.frame_id]
            assert [detection.id.split(', ')[1] for detection in answer.detections] == [
                str(number) for number in range(ROWS * COLUMNS)]
            names = {result.hypothesis.class_id for detection in answer.detections
                     for result in detection.results}
            assert any(names <= set(words) for words in lists)  # of one version
        named = [value for answer in answers for value in right(answer)
                 if any(word.hypothesis.class_id in LABELS
                        for word in answer.detections[0].results)]
        assert np.mean(named) > 0.95
        print(f'{len(answers)} of {len(sent)} answered')
        if in_time and len(answers) >= 0.99 * len(sent):
            return
    pytest.fail('fewer than 99 % of the arrays of boxes were answered, six times')


class Bench:
    """The test's own camera and detector, which send what they are told."""

    def __init__(self, ros: Ros, picture: np.ndarray) -> None:
        self._ros, self._picture = ros, picture
        self._images = ros.publisher(Image, 'image')
        self._regions = ros.publisher(Detection2DArray, 'regions')
        self._number = 1000.0

    def header(self, frame_id: str = 'camera', after: float = 1.0) -> Header:
        """Return a header with a stamp so long after the last one [s]."""
        self._number += after
        return Header(stamp=Time(sec=int(self._number), nanosec=round(self._number % 1 * 1e9)),
                      frame_id=frame_id)

    def image(self, header: Header) -> None:
        self._images.publish(self.message(header))

    def message(self, header: Header) -> Image:
        return to_image(self._picture, 'rgb8', header)

    def boxes(self, header: Header, *boxes: tuple[float, float, float, float, str]) -> None:
        self._regions.publish(to_regions(header, list(boxes)))

    def close(self) -> None:
        self._ros.node.destroy_publisher(self._images)
        self._ros.node.destroy_publisher(self._regions)


@pytest.fixture(scope='module')
def bench(ros: Ros, detections: Received[Detection2DArray], scenes: tuple[Path, Path]
          ) -> Iterator[Bench]:
    assert ros.call(SetVocabulary, 'classifier/set_vocabulary', labels=LABELS).success
    with np.load(scenes[0]) as file:
        bench = Bench(ros, file['a'])
    yield bench
    bench.close()


@pytest.fixture(scope='module')
def truth(scenes: tuple[Path, Path]) -> list[tuple[float, float, float, float, str]]:
    return [tuple(box) for box in json.loads(scenes[1].read_text())['a']]


def test_boxes_before_and_after_their_image(
        bench: Bench, detections: Received[Detection2DArray], truth: list) -> None:
    found = ask(bench, detections, truth[:2])
    assert len(found.detections) == 2 and all(right(found))
    header = bench.header()
    anonymous = Header(stamp=header.stamp)
    bench.boxes(anonymous, *truth[2:5])
    time.sleep(0.3)
    bench.image(header)
    found = detections.wait_for(lambda message: message.header == anonymous)
    assert len(found.detections) == 3 and all(right(found))


def test_boxes_of_a_dropped_image_are_labelled_in_the_nearest_one(
        bench: Bench, detections: Received[Detection2DArray], truth: list) -> None:
    ask(bench, detections, truth[:1])
    bench.image(bench.header())
    dropped = bench.header(after=0.3)
    bench.boxes(dropped, *truth[:2])
    bench.image(bench.header(after=0.3))
    found = detections.wait_for(lambda message: message.header == dropped)
    assert len(found.detections) == 2 and all(right(found))


def ask(bench: Bench, detections: Received[Detection2DArray], boxes: list) -> Detection2DArray:
    """Send an image and boxes in it until they are answered: the first ones may get lost."""
    for _ in range(5):
        header = bench.header()
        bench.image(header)
        bench.boxes(header, *boxes)
        with suppress(AssertionError):
            return detections.wait_for(lambda message: message.header == header, patience=10)
    raise AssertionError('no answer')


def test_boxes_that_show_nothing_keep_their_place(
        bench: Bench, detections: Received[Detection2DArray], truth: list) -> None:
    odd = [(-500, 5, 9, 9, 'outside'), truth[0], (50, 50, 0, 0, 'no size'),
           (float('nan'), 1, 9, 9, 'nan'), truth[1], (9, 9, -4, 9, 'negative'),
           (20, 20, 3, 3, 'tiny'), (0, 0, 400, 400, 'over the border')]
    found = ask(bench, detections, odd)
    assert [detection.id for detection in found.detections] == [box[4] for box in odd]
    assert [bool(detection.results) for detection in found.detections] == [
        False, True, False, False, True, False, False, True]


def test_no_boxes_are_an_answer_too_and_many_are_limited(
        bench: Bench, detections: Received[Detection2DArray], truth: list) -> None:
    assert not ask(bench, detections, []).detections
    for times in (50, 1000):
        found = ask(bench, detections, truth * times)
        assert [bool(detection.results) for detection in found.detections] == (
            [True] * 100 + [False] * (len(truth) * times - 100))


def test_boxes_of_another_frame_are_refused(
        bench: Bench, classifier: Process, truth: list) -> None:
    def refused() -> bool:
        bench.image(bench.header('right'))
        bench.boxes(bench.header('left'), *truth)
        return "expected boxes in the image of frame_id 'right', got 'left'" in classifier.output
    wait_until(refused, 'refusal', step=0.3)


@pytest.fixture(scope='module')
def diagnostics(ros: Ros, classifier: Process) -> Received[DiagnosticArray]:
    return ros.subscribe(DiagnosticArray, '/diagnostics')


def count(message: DiagnosticArray, what: str) -> int:
    """Return how many arrays of boxes the node has counted so far."""
    return sum(int(entry.value) for status in message.status for entry in status.values
               if entry.key == f'arrays of boxes {what}')


def test_boxes_without_an_image_and_too_many_boxes_are_counted(
        ros: Ros, bench: Bench, detections: Received[Detection2DArray],
        diagnostics: Received[DiagnosticArray], truth: list) -> None:
    ask(bench, detections, truth[:1])
    before = diagnostics.wait_for(lambda message: count(message, 'answered'))
    bench.boxes(Header(stamp=Time(sec=5)), *truth)  # far too late
    diagnostics.wait_for(lambda message: count(message, 'without an image') >
                         count(before, 'without an image'))
    set_rate(ros, 1.0)

    def hurry() -> bool:
        header = bench.header()
        bench.image(header)
        bench.boxes(header, *truth)
        return count(diagnostics.messages[-1], 'dropped for newer ones') > 0
    wait_until(hurry, 'dropped boxes', step=0.2)
    set_rate(ros, 0.0)
    assert all(right(ask(bench, detections, truth)))


def set_rate(ros: Ros, value: float) -> None:
    reply = ros.call(SetParameters, 'classifier/set_parameters', parameters=[
        Parameter('max_rate', value=value).to_parameter_msg()])
    assert reply.results[0].successful, reply.results[0].reason


def test_boxes_on_demand(ros: Ros, bench: Bench, truth: list) -> None:
    header = bench.header('hand')
    odd = [(50, 50, 0, 0, 'no size'), *truth[:3], (float('nan'), 1, 9, 9, 'nan')]
    regions = to_regions(Header(), odd).detections
    reply = ros.call(ClassifyImage, 'classifier/classify', image=bench.message(header),
                     regions=regions)
    assert reply.success, reply.message
    assert [(found.id, found.bbox.size_x) for found in reply.detections] == [
        (region.id, region.bbox.size_x) for region in regions]
    assert right(reply) == [False, True, True, True, False]
    assert reply.result.header == header and reply.result.vocabulary_version > 0
    assert not reply.result.labels and not reply.matches
    image = bench.message(header)
    image.step = 1
    reply = ros.call(ClassifyImage, 'classifier/classify', image=image, regions=regions)
    assert not reply.success and 'step' in reply.message and not reply.detections
