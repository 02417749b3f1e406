"""The parameters of a running classifier: described, changed while it runs, refused."""
from dataclasses import fields
from itertools import pairwise
import math
import time
from typing import Any

import pytest
from rcl_interfaces.msg import ParameterDescriptor, ParameterType, SetParametersResult
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    SetParameters,
    SetParametersAtomically,
)
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import DurabilityPolicy, QoSProfile
from support.ros_processes import Camera, Received, Ros
from vision_msgs.msg import Classification, LabelInfo
from vl2v_ros.model import checkpoint
from vl2v_ros.nodes.parameters import CameraParameters, ClassifierParameters

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
LIVE = {'top_k', 'max_rate', 'text_weight', 'unknown_threshold', 'score_threshold', 'llm_model',
        'llm_timeout', 'llm_question', 'region_slack', 'region_margin', 'region_min_size',
        'region_limit', 'smoothing', 'hysteresis', 'depth_min', 'depth_max', 'own_boxes',
        'where_size', 'heatmap_labels'}


@pytest.fixture(scope='module')
def camera(ros: Ros, settings: dict[str, object]) -> Camera:
    """Return a camera whose images a classifier named `classifier` answers."""
    ros.classifier(settings)
    return Camera(ros)


@pytest.fixture(scope='module')
def classifications(ros: Ros, camera: Camera) -> Received[Classification]:
    return ros.subscribe(Classification, 'classifier/classification')


def get(ros: Ros, name: str) -> Any:
    response = ros.call(GetParameters, 'classifier/get_parameters', names=[name])
    return parameter_value_to_python(response.values[0])


def change(ros: Ros, **values: Any) -> list[SetParametersResult]:
    messages = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
    return ros.call(SetParameters, 'classifier/set_parameters', parameters=messages).results


@pytest.fixture
def restored(ros: Ros, camera: Camera) -> None:
    """Take back what a test changes."""
    before = {name: get(ros, name) for name in LIVE}
    yield
    assert all(result.successful for result in change(ros, **before))


def describe(ros: Ros, node: str, names: list[str]) -> dict[str, ParameterDescriptor]:
    response = ros.call(DescribeParameters, f'{node}/describe_parameters', names=names)
    return {descriptor.name: descriptor for descriptor in response.descriptors}


@pytest.mark.usefixtures('camera')
def test_every_parameter_says_what_it_is_and_whether_it_can_change(ros: Ros) -> None:
    descriptors = describe(ros, 'classifier',
                           [entry.name for entry in fields(ClassifierParameters)])
    assert {name for name, found in descriptors.items() if not found.read_only} == LIVE
    for name, descriptor in descriptors.items():
        assert len(descriptor.description) > 10, name
    assert descriptors['image_transport'].additional_constraints == 'auto, raw, compressed'
    assert (descriptors['top_k'].integer_range[0].from_value,
            descriptors['top_k'].integer_range[0].to_value) == (1, 1000)
    assert (descriptors['unknown_threshold'].floating_point_range[0].from_value,
            descriptors['unknown_threshold'].floating_point_range[0].to_value) == (-1.0, 1.0)
    assert descriptors['unknown_threshold'].type == ParameterType.PARAMETER_DOUBLE


def test_every_parameter_of_the_camera_says_what_it_is(ros: Ros, tmp_path_factory:
                                                       pytest.TempPathFactory) -> None:
    import cv2
    from support.ros_processes import PIXELS
    folder = tmp_path_factory.mktemp('one')
    cv2.imwrite(str(folder / 'grey.png'), PIXELS)
    with ros.start('camera_node', {'source': folder}, '-r', 'image:=elsewhere'):
        descriptors = describe(ros, 'camera', [entry.name for entry in fields(CameraParameters)])
    for name, descriptor in descriptors.items():
        assert len(descriptor.description) > 10, name
        assert descriptor.read_only, name


@pytest.mark.usefixtures('restored')
def test_top_k_is_the_number_of_labels(ros: Ros, camera: Camera) -> None:
    for wanted in (1, 3):
        change(ros, top_k=wanted)
        assert len(camera.show().labels) == wanted
    change(ros, top_k=1000)
    labels = camera.show().labels
    assert len(labels) == len({entry.label for entry in labels}) > 3
    assert sum(entry.score for entry in labels) == pytest.approx(1)
    assert [entry.score for entry in labels] == sorted(
        (entry.score for entry in labels), reverse=True)


@pytest.mark.usefixtures('restored')
def test_the_unknown_threshold_moves_the_verdict(
        ros: Ros, camera: Camera, classifications: Received[Classification]) -> None:
    best = camera.show().labels[0].similarity
    for threshold, unknown in ((best - 0.1, False), (best + 0.1, True)):
        change(ros, unknown_threshold=float(threshold))
        answer = camera.show()
        assert answer.unknown is unknown
        assert (answer.unknown_score > 0.5) is unknown
        assert answer.labels[0].similarity == pytest.approx(best)  # the candidates are still said
        results = classifications.wait_for_frame(answer.header.frame_id).results
        assert [result.class_id for result in results] == [
            entry.label for entry in answer.labels if entry.similarity >= threshold]


@pytest.mark.usefixtures('restored')
def test_the_score_threshold_shortens_the_classification_only(
        ros: Ros, camera: Camera, classifications: Received[Classification]) -> None:
    change(ros, unknown_threshold=-1.0)
    scores = [entry.score for entry in camera.show().labels]
    for threshold, left in ((0.0, len(scores)), ((scores[0] + scores[1]) / 2, 1), (1.0, 0)):
        change(ros, score_threshold=threshold)
        answer = camera.show()
        assert len(answer.labels) == len(scores)
        results = classifications.wait_for_frame(answer.header.frame_id).results
        assert [result.class_id for result in results] == [
            entry.label for entry in answer.labels[:left]]
        assert [result.score for result in results] == pytest.approx(scores[:left])
        ros.subscribe(LabelInfo, 'classifier/label_info', LATCHED).wait_for(
            lambda info, least=threshold: info.threshold == pytest.approx(least))


@pytest.mark.usefixtures('restored')
def test_max_rate_holds_the_answers_back(ros: Ros, camera: Camera) -> None:
    change(ros, max_rate=4.0)
    camera.show()
    first = len(camera.answers.messages)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        last = camera.send()
        time.sleep(1 / 60)
    camera.answers.wait_for_frame(last)  # the newest is answered, although late
    times = camera.answers.times[first:]
    gaps = [after - before for before, after in pairwise(times)]
    assert len(gaps) >= 3
    assert min(gaps) > 0.2
    change(ros, max_rate=0.001)
    held_back = camera.send()
    change(ros, max_rate=0.0)  # heard at once, not after the pause of 1000 s
    camera.answers.wait_for_frame(held_back)
    first = len(camera.answers.messages)
    for _ in range(20):
        camera.show()
    times = camera.answers.times[first:]
    assert min(after - before for before, after in pairwise(times)) < 0.1


@pytest.mark.parametrize(('name', 'value', 'reason'), [
    ('top_k', 0, 'out of range'),
    ('top_k', 1001, 'out of range'),
    ('top_k', 2.0, 'type'),
    ('max_rate', -0.1, 'out of range'),
    ('max_rate', 'fast', 'type'),
    ('max_rate', math.nan, 'out of range'),
    ('unknown_threshold', 1.01, 'out of range'),
    ('unknown_threshold', math.nan, 'out of range'),
    ('unknown_threshold', True, 'type'),
    ('score_threshold', 1, 'type'),
    ('score_threshold', None, 'undeclared'),
    ('smoothing', math.nan, 'out of range'),
    ('hysteresis', 0.5, 'out of range'),
    ('llm_question', '', 'expected {cls}'),
    ('device', 'cpu', 'read-only'),
    ('checkpoint', 'other.safetensors', 'read-only'),
    ('vocabulary', 'a, b', 'read-only'),
    ('cameras', ['a'], 'read-only'),
    ('background', ['a table'], 'read-only'),
    ('persist', 'list.yaml', 'read-only'),
    ('llm_timeout', 0.0, 'out of range'),
    ('no_such_parameter', 1, 'declared'),
])
def test_a_bad_value_is_refused_with_a_reason_and_changes_nothing(
        ros: Ros, camera: Camera, name: str, value: object, reason: str) -> None:
    before = {known: get(ros, known) for known in LIVE}
    answer = camera.show()
    result, = change(ros, **{name: value})
    assert not result.successful
    assert result.reason
    assert reason in result.reason
    assert {known: get(ros, known) for known in LIVE} == before
    again = camera.show()
    assert (again.labels, again.unknown) == (answer.labels, answer.unknown)


def test_a_value_of_an_unknown_type_is_refused_and_the_node_goes_on(ros: Ros, camera: Camera
                                                                    ) -> None:
    good = Parameter('top_k', value=get(ros, 'top_k')).to_parameter_msg()
    odd = Parameter('top_k', value=1).to_parameter_msg()
    odd.value.type = 255
    results = ros.call(SetParameters, 'classifier/set_parameters', parameters=[good, odd]).results
    assert [result.successful for result in results] == [True, False]
    assert 'expected a parameter with a type' in results[1].reason
    result = ros.call(SetParametersAtomically, 'classifier/set_parameters_atomically',
                      parameters=[odd]).result
    assert not result.successful and 'expected a parameter with a type' in result.reason
    assert camera.show().labels


@pytest.mark.usefixtures('camera')
def test_of_an_atomic_change_all_or_nothing_is_taken(ros: Ros) -> None:
    before = get(ros, 'top_k')
    messages = [Parameter('top_k', value=before + 1).to_parameter_msg(),
                Parameter('score_threshold', value=7.0).to_parameter_msg()]
    result = ros.call(SetParametersAtomically, 'classifier/set_parameters_atomically',
                      parameters=messages).result
    assert not result.successful
    assert get(ros, 'top_k') == before


@pytest.mark.usefixtures('camera')
def test_the_unknown_threshold_is_the_checkpoints_where_it_is_not_set(
        ros: Ros, settings: dict[str, object]) -> None:
    spec = checkpoint.load(settings['checkpoint']).spec
    assert get(ros, 'unknown_threshold') == pytest.approx(spec.unknown_threshold)


def test_a_threshold_given_at_start_counts_more_than_the_checkpoints(
        ros: Ros, settings: dict[str, object], camera: Camera) -> None:
    with ros.classifier(settings | {'unknown_threshold': 0.9, 'top_k': 2}, '-r', '__ns:=/other'):
        other = Camera(ros, '/other/image', '/other/classifier/labels')
        answer = other.show()
    assert answer.unknown
    assert len(answer.labels) == 2
