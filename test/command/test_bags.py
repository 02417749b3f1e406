"""Bags are read: real ones, of every storage, whole and broken."""
from pathlib import Path
import random
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from support import image_bags
from support.image_bags import DELAY, frames, FRONT, noise, REAR, recording, SECOND, START
from vl2v_ros.command import bags
from vl2v_ros.command.bags import open_bag
from vl2v_ros.images.frame import to_rgb
import yaml


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


@pytest.mark.parametrize(('topic', 'said'), [
    ('/front', '/front'), ('front/image_raw', 'front/image_raw'),
    ('/chatter', r'/chatter \(std_msgs/msg/String\)')])
def test_a_topic_without_images_is_refused_with_those_that_have_some(
        tmp_path: Path, topic: str, said: str) -> None:
    path = image_bags.write(tmp_path / 'bag', recording())
    with pytest.raises(ValueError, match=rf'\({FRONT}, {REAR}\), got {said}$'):
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
    assert 'at 1700000000.002000005 s: expected a whole PNG image' in of_rear


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


@pytest.mark.parametrize('storage', StoragePlugin)
def test_topics_of_a_folder_that_are_not_cdr_are_passed_over(
        tmp_path: Path, storage: StoragePlugin) -> None:
    path = image_bags.write(tmp_path / 'bag', recording(), storage)
    metadata = yaml.safe_load((path / 'metadata.yaml').read_text())

    def say(*topics: str) -> None:
        """Say of topics that they are written in another way."""
        for entry in metadata['rosbag2_bagfile_information']['topics_with_message_count']:
            topic = entry['topic_metadata']
            topic['serialization_format'] = 'json' if topic['name'] in topics else 'cdr'
        (path / 'metadata.yaml').write_text(yaml.safe_dump(metadata))

    say('/chatter', REAR)
    source = open_bag(path, (), pytest.fail)
    assert (source.count, source.topics) == (4, (FRONT,))
    assert len(frames(list(source.pictures), FRONT)) == 4
    with pytest.raises(ValueError, match=rf"got {REAR} \(.*CompressedImage as 'json', not 'cdr'"):
        open_bag(path, [REAR], print)
    say('/chatter', REAR, FRONT)
    with pytest.raises(ValueError, match=rf"found none in .*{FRONT} \(.*Image as 'json', not"):
        open_bag(path, (), print)


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
