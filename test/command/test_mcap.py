"""MCAP files as other recorders write them, made here record by record."""
from pathlib import Path

from mcap.data_stream import RecordBuilder
from mcap.records import (
    Channel,
    Chunk,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    Message,
    MessageIndex,
    Schema,
    Statistics,
)
import numpy as np
import pytest
from support import image_bags
from support.image_bags import frames, FRONT, noise, SECOND, START
from vl2v_ros.command import bags, mcap
from vl2v_ros.command.bags import open_bag

TIMES = [START + number * SECOND // 10 for number in range(4)]


def data(*records: McapRecord) -> bytes:
    builder = RecordBuilder()
    for record in records:
        record.write(builder)
    return builder.end()


def channel(number: int, topic: str, name: str, encoding: str, schema: bytes, language: str
            ) -> bytes:
    """Return the records of a schema and of a channel."""
    return data(Schema(number, schema, language, name),
                Channel(number, topic, encoding, {}, number))


def message(number: int, time: int, content: bytes) -> bytes:
    return data(Message(number, time, content, time, 0))


def image(number: int) -> bytes:
    sent = image_bags.raw(noise(number), TIMES[number])
    return message(1, TIMES[number],
                   bytes(image_bags.TYPES.serialize_cdr(sent, sent.__msgtype__)))


def chunk(*messages: bytes, times: tuple[int, int], compression: str = '') -> bytes:
    content = b''.join(messages)
    return data(Chunk(compression=compression, data=content, message_start_time=times[0],
                      message_end_time=times[1], uncompressed_crc=0,
                      uncompressed_size=len(content)))


def index(place: int, length: int, times: tuple[int, int], *channels: int, indices: int = 0
          ) -> bytes:
    """Return the index of a chunk, `length` bytes at `place`, before `indices` bytes of others."""
    return data(ChunkIndex(
        chunk_start_offset=place, chunk_length=length, message_start_time=times[0],
        message_end_time=times[1], message_index_offsets=dict.fromkeys(channels, 1),
        message_index_length=indices, compression='', compressed_size=0, uncompressed_size=0))


def statistics(chunks: int, counts: dict[int, int], messages: int = 0) -> bytes:
    return data(Statistics(
        message_count=messages or sum(counts.values()), channel_message_counts=counts,
        chunk_count=chunks,
        message_start_time=TIMES[0], message_end_time=TIMES[-1], schema_count=0, channel_count=0,
        attachment_count=0, metadata_count=0))


CAMERA = channel(1, FRONT, bags.IMAGE, 'cdr', b'any', 'ros2msg')
JSON = channel(2, '/state', 'state', 'json', b'{"type": "object"}', 'jsonschema')
PROTOBUF = channel(3, '/pose', 'foxglove.Pose', 'protobuf', b'\x0a\xff\xfe\x00', 'protobuf')
BEFORE = len(mcap.MAGIC + data(Header('ros2', 'test')))  # bytes before what `write` is given


def write(path: Path, content: bytes, summary: bytes = b'', profile: str = 'ros2') -> Path:
    """Write a file of the records of its data and its summary."""
    content = mcap.MAGIC + data(Header(profile, 'test')) + content + data(DataEnd(0))
    start = len(content) if summary else 0
    path.write_bytes(content + summary + data(Footer(start, 0, 0)) + mcap.MAGIC)
    return path


def shown(path: Path) -> list[int | None]:
    """Return the times of a file's pictures, which are those of `image` as they should be."""
    source = open_bag(path, (), pytest.fail)
    pictures = list(source.pictures)
    assert source.count == len(pictures)
    times = [picture.recorded for picture in pictures]
    assert np.array_equal(frames(pictures, FRONT), [noise(TIMES.index(time)) for time in times])
    return times


@pytest.mark.parametrize('profile', ['ros2', ''])
@pytest.mark.parametrize('chunked', [False, True])
def test_images_of_a_file_with_other_encodings_are_read(tmp_path: Path, profile: str,
                                                        chunked: bool) -> None:
    messages = [part for number, time in enumerate(TIMES)
                for part in (image(number), message(2, time, b'{}'), message(3, time, b'x'))]
    channels = JSON + CAMERA + PROTOBUF
    content = chunk(channels, *messages, times=(TIMES[0], TIMES[-1])) if chunked else (
        channels + b''.join(messages))
    path = write(tmp_path / 'x.mcap', content, profile=profile)
    source = open_bag(path, (), pytest.fail)
    assert (source.topics, source.rate) == ((FRONT,), pytest.approx(10))
    assert shown(path) == TIMES


def test_chunks_without_an_index_of_messages_are_read_by_time(tmp_path: Path) -> None:
    chunks = [chunk(image(2), image(0), times=(TIMES[0], TIMES[2])),
              chunk(image(1), image(3), times=(TIMES[1], TIMES[3]))]
    before = BEFORE + len(CAMERA)
    indices = (index(before, len(chunks[0]), (TIMES[0], TIMES[2]))
               + index(before + len(chunks[0]), len(chunks[1]), (TIMES[1], TIMES[3])))
    counts = statistics(2, {1: 4})
    for summary in (CAMERA + indices + counts, CAMERA + counts, CAMERA + indices, indices + counts,
                    CAMERA + indices + statistics(2, {}, 4), counts, b''):
        path = write(tmp_path / 'x.mcap', CAMERA + b''.join(chunks), summary)
        assert shown(path) == TIMES


@pytest.mark.parametrize('told', [False, True])
def test_messages_outside_of_chunks_are_read_at_their_time(tmp_path: Path, told: bool) -> None:
    """They may stand before, between and behind the chunks, here also out of order."""
    chunks = [chunk(image(1), times=(TIMES[1], TIMES[1])),
              chunk(image(3), times=(TIMES[3], TIMES[3]))]
    behind = data(MessageIndex(1, [(TIMES[1], 0)]))
    before = CAMERA + JSON + image(2) + message(2, TIMES[0], b'{}')
    content = before + chunks[0] + behind + image(0) + chunks[1]
    places = (BEFORE + len(before), BEFORE + content.index(chunks[1]))
    summary = (CAMERA + JSON + index(places[0], len(chunks[0]), (TIMES[1],) * 2, 1,
                                     indices=len(behind))
               + index(places[1], len(chunks[1]), (TIMES[3],) * 2, 1)
               + statistics(2, {1: 4, 2: 1})) if told else b''
    assert shown(write(tmp_path / 'x.mcap', content, summary)) == TIMES


def test_a_file_without_chunks_is_read_by_time(tmp_path: Path) -> None:
    content = CAMERA + image(1) + image(0) + image(3) + image(2)
    for summary in (b'', CAMERA + statistics(0, {1: 4})):
        assert shown(write(tmp_path / 'x.mcap', content, summary)) == TIMES


def test_only_chunks_of_the_wanted_topics_are_unpacked(tmp_path: Path) -> None:
    """A chunk that nobody can unpack disturbs only those who need what is in it."""
    chunks = [chunk(image(0), times=(TIMES[0], TIMES[0])),
              chunk(message(2, TIMES[1], b'{}'), times=(TIMES[1], TIMES[1]), compression='lz4')]
    place = BEFORE + len(CAMERA + JSON)
    first = index(place, len(chunks[0]), (TIMES[0],) * 2, 1)

    def written(*channels: int) -> Path:
        second = index(place + len(chunks[0]), len(chunks[1]), (TIMES[1],) * 2, *channels)
        return write(tmp_path / 'x.mcap', CAMERA + JSON + b''.join(chunks),
                     CAMERA + JSON + first + second + statistics(2, {1: 1, 2: 1}))

    assert shown(written(2)) == TIMES[:1]
    with pytest.raises(ValueError, match='damaged'):
        shown(written(1, 2))


def test_images_of_another_encoding_are_refused_with_its_name(tmp_path: Path) -> None:
    other = channel(4, '/web', bags.IMAGE, 'json', b'{}', 'jsonschema')
    path = write(tmp_path / 'x.mcap', other + message(4, START, b'{}'))
    with pytest.raises(ValueError, match=r"found none in /web \(sensor_msgs/msg/Image as 'json', "
                                         r"not 'cdr'\)$"):
        open_bag(path, (), print)
    path = write(tmp_path / 'x.mcap', CAMERA + image(0) + other + message(4, START, b'{}'))
    assert shown(path) == TIMES[:1]
    with pytest.raises(ValueError, match=r"got /web \(sensor_msgs/msg/Image as 'json', not"):
        open_bag(path, ['/web'], print)


def test_a_file_that_was_cut_off_is_refused_as_such(tmp_path: Path) -> None:
    path = write(tmp_path / 'x.mcap', CAMERA + image(0))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match='it was cut off'):
        open_bag(path, (), print)
