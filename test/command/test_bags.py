"""Bags: real ones, of every storage, read and written; what ROS itself makes of them."""
from collections.abc import Sequence
import json
from pathlib import Path
import random
import struct
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from support import image_bags
from support.image_bags import DELAY, SECOND, START
from vl2v_ros.command import bags
from vl2v_ros.command.bags import open_bag
from vl2v_ros.images.frame import Frame, to_rgb
from vl2v_ros.images.sources import Picture
from vl2v_ros.model.prediction import Prediction

FRONT, REAR = '/front/image_raw', '/rear/image_raw/compressed'
PREDICTION = Prediction(('mug', 'cup', 'bowl'), (0.5, 0.25, 0.125), (0.625, 0.25, 0.125), False,
                        0.25, 7)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)


def recording(count: int = 4) -> list[tuple[str, int, Any]]:
    """Return the messages of two cameras and a topic of text, 10 Hz each."""
    messages = []
    for number in range(count):
        stamp = START + number * SECOND // 10
        messages += [(FRONT, stamp, image_bags.raw(noise(number), stamp, 'bgr8')),
                     (REAR, stamp + 5, image_bags.compressed(noise(100 + number), stamp + 5)),
                     ('/chatter', stamp + 7, image_bags.text('no image'))]
    return messages


def frames(pictures: Sequence[Picture], topic: str) -> list[np.ndarray]:
    return [to_rgb(picture.frame) for picture in pictures if picture.topic == topic]


@pytest.mark.parametrize('storage', StoragePlugin)
def test_endings_are_read_in_any_case(tmp_path: Path, storage: StoragePlugin) -> None:
    folder = image_bags.write(tmp_path / 'bag', recording(), storage)
    [path] = (file for file in folder.iterdir() if file.suffix in bags.BAGS)
    upper = path.rename(tmp_path / f'X{path.suffix.upper()}')
    assert bags.is_bag(upper)
    assert open_bag(upper, (), pytest.fail).count == 8


@pytest.mark.parametrize('storage', StoragePlugin)
@pytest.mark.parametrize('of_file', [False, True], ids=['folder', 'file'])
def test_images_come_as_they_were_recorded(tmp_path: Path, storage: StoragePlugin, of_file: bool
                                           ) -> None:
    path = image_bags.write(tmp_path / 'bag', recording(), storage)
    if of_file:
        [path] = (file for file in path.iterdir() if file.suffix in bags.BAGS)
    assert bags.is_bag(path)
    source = open_bag(path, (), pytest.fail)
    assert (source.count, source.topics, source.still) == (8, (FRONT, REAR), False)
    pictures = list(source.pictures)
    assert [picture.topic for picture in pictures] == [FRONT, REAR] * 4
    assert np.array_equal(frames(pictures, FRONT), [noise(number) for number in range(4)])
    assert np.array_equal(frames(pictures, REAR), [noise(100 + number) for number in range(4)])
    stamps = [START + number * SECOND // 10 + lag for number in range(4) for lag in (0, 5)]
    assert [picture.stamp for picture in pictures] == stamps
    assert [picture.recorded for picture in pictures] == [stamp + DELAY for stamp in stamps]
    assert {(picture.file, picture.frame_id) for picture in pictures} == {(path, 'camera')}


def test_topics_can_be_chosen(tmp_path: Path) -> None:
    path = image_bags.write(tmp_path / 'bag', recording(11))
    source = open_bag(path, [REAR], pytest.fail)
    assert (source.count, source.topics) == (11, (REAR,))
    assert source.rate == pytest.approx(10, rel=0.01)
    assert {picture.topic for picture in source.pictures} == {REAR}


@pytest.mark.parametrize('topic', ['/front', '/chatter', 'front/image_raw'])
def test_a_topic_without_images_is_refused_with_those_that_have_some(tmp_path: Path, topic: str
                                                                     ) -> None:
    path = image_bags.write(tmp_path / 'bag', recording())
    with pytest.raises(ValueError, match=rf'\({FRONT}, {REAR}\), got {topic}$'):
        open_bag(path, [topic], print)


@pytest.mark.parametrize(('messages', 'there'), [
    ([], 'an empty bag'), (recording()[2:3], r'/chatter \(std_msgs/msg/String\)')])
def test_a_bag_without_images_is_refused(tmp_path: Path, messages: list[Any], there: str) -> None:
    path = image_bags.write(tmp_path / 'bag', messages)
    with pytest.raises(ValueError, match=f'CompressedImage, found none in {there}'):
        open_bag(path, (), print)


def test_what_cannot_be_read_is_told_and_left_out(tmp_path: Path) -> None:
    depth = np.zeros((12, 16, 2), np.uint8)
    messages = recording(20)
    messages += [('/depth', stamp, image_bags.raw(depth, stamp, '16SC1'))
                 for topic, stamp, _ in messages if topic == FRONT]
    stamp = messages[1][1]
    messages[1] = REAR, stamp, image_bags.compressed(noise(0), stamp, cut=40)
    messages.sort(key=lambda message: message[1])
    skipped: list[str] = []
    path = image_bags.write(tmp_path / 'bag', messages)
    pictures = list(open_bag(path, (), skipped.append).pictures)
    assert [len(frames(pictures, topic)) for topic in (FRONT, REAR, '/depth')] == [20, 19, 0]
    of_depth = [line for line in skipped if ', /depth' in line]
    assert len(of_depth) == bags.NAMED + 1
    assert f'{path}, /depth at 1700000000.002000000 s: expected an encoding of sensor_msgs' \
        in of_depth[0]
    assert of_depth[-1] == f'{path}, /depth: 20 messages in all'
    [of_rear] = [line for line in skipped if f', {REAR}' in line]
    assert 'at 1700000000.002000005 s: expected a PNG image' in of_rear


@pytest.mark.parametrize(('changes', 'reason'), [
    ({'encoding': 'rbg8'}, "got 'rbg8'; is it 'rgb8'?"), ({'encoding': '64FC1'}, "got '64FC1'"),
    ({'encoding': 'nv12', 'width': 15}, "expected an even width of 'nv12'"),
    ({'step': 3}, 'expected a step of at least 48 bytes'), ({'width': 0}, 'at least 1 x 1 px'),
    ({'height': 13}, 'expected 624 bytes of data')])
def test_a_bag_of_images_that_are_none_is_refused(tmp_path: Path, changes: dict[str, Any],
                                                  reason: str) -> None:
    path = image_bags.write(tmp_path / 'bag', [
        (FRONT, START, image_bags.raw(noise(0), START, **changes))])
    with pytest.raises(ValueError, match='got 1 messages that cannot be read; the first: '
                       ) as error:
        list(open_bag(path, (), print).pictures)
    assert reason in str(error.value)


def test_a_folder_that_lacks_its_metadata_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = image_bags.write(tmp_path / 'bag', recording())
    (path / 'metadata.yaml').unlink()
    assert bags.is_bag(path)
    with pytest.raises(ValueError, match='ros2 bag reindex'):
        open_bag(path, (), print)
    assert open_bag(path / 'bag.mcap', (), print).count == 8


@pytest.mark.parametrize('content', [b'', b'no bag', b'\x89MCAP0\r\n', b'SQLite format 3\0'])
@pytest.mark.parametrize('ending', bags.BAGS)
def test_a_file_that_is_no_bag_is_refused(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f'x{ending}'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f'x{ending}: expected a bag of ROS 2, got one '
                                         'that is damaged'):
        open_bag(path, (), print)


def test_photos_beside_other_metadata_or_our_own_output_are_no_bag(tmp_path: Path) -> None:
    for name, content in (('photo.jpg', b''), ('metadata.yaml', b'camera: phone')):
        (tmp_path / name).write_bytes(content)
    assert not bags.is_bag(tmp_path)
    image_bags.write(tmp_path / 'bag', recording())
    (tmp_path / 'bag' / 'bag.mcap').rename(tmp_path / 'labels.mcap')
    assert not bags.is_bag(tmp_path)
    (tmp_path / 'photo.jpg').unlink()
    assert bags.is_bag(tmp_path)


def record(kind: int, *fields: bytes) -> bytes:
    content = b''.join(fields)
    return struct.pack('<BQ', kind, len(content)) + content


def text(value: str | bytes) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return struct.pack('<I', len(value)) + value


def channel(number: int, topic: str, name: str, encoding: str, schema: bytes, language: str
            ) -> bytes:
    """Return an MCAP file's records of a schema and of a channel."""
    return (record(3, struct.pack('<H', number), text(name), text(language), text(schema))
            + record(4, struct.pack('<HH', number, number), text(topic), text(encoding), text('')))


def message(number: int, time: int, data: bytes) -> bytes:
    return record(5, struct.pack('<HIQQ', number, 0, time, time), data)


def image(seed: int, time: int) -> bytes:
    sent = image_bags.raw(noise(seed), time)
    return message(1, time, bytes(image_bags.TYPES.serialize_cdr(sent, sent.__msgtype__)))


def chunk(*messages: bytes, times: tuple[int, int]) -> bytes:
    content = b''.join(messages)
    return record(6, struct.pack('<QQQI', *times, len(content), 0), text(''),
                  struct.pack('<Q', len(content)), content)


CAMERA = channel(1, FRONT, bags.IMAGE, 'cdr', b'any', 'ros2msg')
JSON = channel(2, '/state', 'state', 'json', b'{"type": "object"}', 'jsonschema')
PROTOBUF = channel(3, '/pose', 'foxglove.Pose', 'protobuf', b'\x0a\xff\xfe\x00', 'protobuf')


def mcap(path: Path, data: bytes, summary: bytes = b'', profile: str = 'ros2') -> Path:
    """Write an MCAP file of the records of its data and its summary."""
    magic = b'\x89MCAP0\r\n'
    data = magic + record(1, text(profile), text('test')) + data + record(15, bytes(4))
    start = len(data) if summary else 0
    path.write_bytes(data + summary + record(2, struct.pack('<QQI', start, 0, 0)) + magic)
    return path


@pytest.mark.parametrize('profile', ['ros2', ''])
@pytest.mark.parametrize('chunked', [False, True])
def test_images_of_a_file_with_other_encodings_are_read(tmp_path: Path, profile: str,
                                                        chunked: bool) -> None:
    times = [START + number * SECOND // 10 for number in range(3)]
    messages = [part for number, time in enumerate(times)
                for part in (image(number, time), message(2, time, b'{}'), message(3, time, b''))]
    channels = JSON + CAMERA + PROTOBUF
    data = chunk(channels, *messages, times=(times[0], times[-1])) if chunked else (
        channels + b''.join(messages))
    source = open_bag(mcap(tmp_path / 'x.mcap', data, profile=profile), (), pytest.fail)
    assert (source.count, source.topics, source.rate) == (3, (FRONT,), pytest.approx(10))
    pictures = list(source.pictures)
    assert [picture.recorded for picture in pictures] == times
    assert np.array_equal(frames(pictures, FRONT), [noise(number) for number in range(3)])


def test_chunks_without_an_index_of_messages_are_read_by_time(tmp_path: Path) -> None:
    chunks = [chunk(image(2, START + 2), image(0, START), times=(START, START + 2)),
              chunk(image(1, START + 1), image(3, START + 3), times=(START + 1, START + 3))]
    before = 8 + len(record(1, text('ros2'), text('test')) + CAMERA)
    indices = b''.join(
        record(8, struct.pack('<QQQQ', START + number, START + number + 2, before + offset,
                              len(chunks[number])), text(''), bytes(8), text(''), bytes(16))
        for number, offset in enumerate((0, len(chunks[0]))))
    statistics = record(11, struct.pack('<QHIIIIQQ', 4, 1, 1, 0, 0, 2, START, START + 3),
                        text(struct.pack('<HQ', 1, 4)))
    for summary in (CAMERA + indices + statistics, CAMERA + statistics, CAMERA + indices, b''):
        path = mcap(tmp_path / 'x.mcap', CAMERA + b''.join(chunks), summary)
        source = open_bag(path, (), pytest.fail)
        assert source.count == 4
        assert np.array_equal(frames(list(source.pictures), FRONT),
                              [noise(number) for number in range(4)])


@pytest.mark.parametrize('storage', StoragePlugin)
def test_whatever_is_broken_in_a_bag_only_a_value_error_comes(tmp_path: Path,
                                                              storage: StoragePlugin) -> None:
    chance, refused = random.Random(0), 0
    folder = image_bags.write(tmp_path / 'bag', recording(), storage)
    [path] = (file for file in folder.iterdir() if file.suffix in bags.BAGS)
    whole = path.read_bytes()
    for number in range(300):
        broken = bytearray(whole)
        if number % 3 == 0:
            del broken[chance.randrange(len(broken)):]
        for _ in range(3):
            if broken:
                broken[chance.randrange(len(broken))] = chance.randrange(256)
        path.write_bytes(broken)
        try:
            list(open_bag(path, (), lambda line: None).pictures)
        except ValueError:
            refused += 1
    assert refused >= 100  # at least those that were cut


def test_what_a_bag_says_of_its_types_is_not_used(tmp_path: Path) -> None:
    message = image_bags.raw(noise(3), START)
    with Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(FRONT, message.__msgtype__, msgdef='float64 other',
                                           rihs01='RIHS01_00')
        writer.write(connection, START,
                     image_bags.TYPES.serialize_cdr(message, message.__msgtype__))
    [picture] = open_bag(tmp_path / 'bag', (), pytest.fail).pictures
    assert np.array_equal(to_rgb(picture.frame), noise(3))


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
