"""Bags of results are written; what ROS itself makes of them."""
from collections.abc import Sequence
import json
from pathlib import Path
from typing import Any

import pytest
from rosbags.rosbag2 import Reader
from support.image_bags import DELAY, FRONT, noise, SECOND, START
from vl2v_ros.command import bags
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.sources import Picture
from vl2v_ros.model.prediction import Prediction

PREDICTION = Prediction(('mug', 'cup', 'bowl'), (0.5, 0.25, 0.125), (0.625, 0.25, 0.125), False,
                        0.25, 7)


def labelled(folder: Path, predictions: Sequence[Prediction] = (PREDICTION,), topic: str = FRONT,
             stamp: int | None = START + 25) -> list[tuple[str, str, int, bytes]]:
    """Write a bag of results; return topic, type, time and bytes of what it holds."""
    recorded = None if stamp is None else stamp + DELAY
    picture = Picture(Frame(noise(0)), Path('x'), stamp, recorded, topic, 'head')
    with bags.writing(folder, 0.2, 4.0) as write:
        for prediction in predictions:
            write(picture, prediction)
    with Reader(folder) as reader:
        return [(connection.topic, connection.msgtype, time, bytes(data))
                for connection, time, data in reader.messages(reader.connections)]


def test_ros_reads_the_results_that_were_written(tmp_path: Path) -> None:
    from rclpy.serialization import deserialize_message
    from vision_msgs.msg import Classification
    from vl2v_msgs.msg import LabelArray
    (where, kind, time, data), (where_too, kind_too, time_too, data_too) = labelled(
        tmp_path / 'bag')
    assert (where, kind, time) == (f'{FRONT}/labels', 'vl2v_msgs/msg/LabelArray',
                                   START + 25 + DELAY)
    assert (where_too, kind_too, time_too) == (
        f'{FRONT}/classification', 'vision_msgs/msg/Classification', START + 25 + DELAY)
    labels = deserialize_message(data, LabelArray)
    classification = deserialize_message(data_too, Classification)
    for header in (labels.header, classification.header):
        assert (header.stamp.sec, header.stamp.nanosec) == (START // SECOND, 25)
        assert header.frame_id == 'head'
    assert [(entry.label, entry.similarity, entry.score) for entry in labels.labels] == [
        ('mug', 0.5, 0.625), ('cup', 0.25, 0.25), ('bowl', 0.125, 0.125)]
    assert (labels.vocabulary_version, labels.unknown, labels.unknown_score) == (7, False, 0.25)
    assert [(result.class_id, result.score) for result in classification.results] == [
        ('mug', 0.625), ('cup', 0.25)]


def test_the_types_are_those_that_ros_has(tmp_path: Path) -> None:
    from ament_index_python.packages import get_package_share_directory
    store = bags.message_types()
    for package, name in (('vl2v_msgs', 'LabelArray'), ('vl2v_msgs', 'Label'),
                          ('vision_msgs', 'Classification'), ('vision_msgs', 'ObjectHypothesis')):
        description = Path(get_package_share_directory(package), 'msg', f'{name}.json')
        if not description.is_file():
            pytest.skip('this distribution of ROS 2 has no type hashes')
        hashes = {entry['type_name']: entry['hash_string']
                  for entry in json.loads(description.read_text())['type_hashes']}
        assert store.hash_rihs01(f'{package}/msg/{name}') == hashes[f'{package}/msg/{name}']


def test_an_unknown_picture_has_labels_and_no_classification(tmp_path: Path) -> None:
    store = bags.message_types()
    unknown = Prediction(('mug',), (0.5,), (0.4,), True, 0.8, 1)
    (_, kind, _, data), (_, kind_too, _, data_too) = labelled(tmp_path / 'bag', [unknown])
    labels: Any = store.deserialize_cdr(data, kind)
    assert (labels.labels[0].label, labels.unknown) == ('mug', True)
    assert store.deserialize_cdr(data_too, kind_too).results == []


def test_still_images_get_times_at_the_rate(tmp_path: Path) -> None:
    written = labelled(tmp_path / 'bag', [PREDICTION] * 3, topic='', stamp=None)
    assert [(topic, time) for topic, _, time, _ in written if topic.endswith('labels')] == [
        ('/image/labels', 0), ('/image/labels', SECOND // 4), ('/image/labels', SECOND // 2)]


@pytest.mark.parametrize('label', ['ключ', '犬', '', 'x' * 200, 'a "quoted" \\ label'])
def test_labels_of_any_script_are_written(tmp_path: Path, label: str) -> None:
    written = labelled(tmp_path / 'bag', [Prediction((label,), (0.5,), (1.0,), False, 0.1, 1)])
    labels: Any = bags.message_types().deserialize_cdr(written[0][3], written[0][1])
    assert labels.labels[0].label == label


def test_rosbag2_reads_what_was_written(tmp_path: Path) -> None:
    rosbag2 = pytest.importorskip('rosbag2_py')
    if 'mcap' not in rosbag2.get_registered_readers():
        pytest.skip('this ROS 2 has no plug-in for MCAP')
    written = labelled(tmp_path / 'bag', [PREDICTION] * 3)
    reader, read = rosbag2.SequentialReader(), []
    reader.open(rosbag2.StorageOptions(uri=str(tmp_path / 'bag'), storage_id='mcap'),
                rosbag2.ConverterOptions('cdr', 'cdr'))
    while reader.has_next():
        topic, data, time = reader.read_next()
        read.append((topic, time, bytes(data)))
    assert read == [(topic, time, data) for topic, _, time, data in written]


@pytest.mark.parametrize('unknown, scores', [(0.2, 0.0), (0.2, 0.5), (0.3, 0.0), (0.9, 0.0)])
def test_a_bag_reports_what_the_node_reports(tmp_path: Path, unknown: float, scores: float
                                             ) -> None:
    from rclpy.serialization import deserialize_message
    from std_msgs.msg import Header
    from vision_msgs.msg import Classification
    from vl2v_ros.nodes.messages import to_classification
    with bags.writing(tmp_path / 'bag', unknown, 4.0, scores) as write:
        write(Picture(Frame(noise(0)), Path('x'), START, START, FRONT, 'head'), PREDICTION)
    with Reader(tmp_path / 'bag') as reader:
        [data] = [data for connection, _, data in reader.messages(reader.connections)
                  if connection.msgtype == bags.CLASSIFICATION]
    assert deserialize_message(bytes(data), Classification).results == to_classification(
        PREDICTION, Header(), unknown, scores).results
