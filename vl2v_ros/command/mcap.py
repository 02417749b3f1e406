"""
MCAP files as one of the storages of rosbags, read by the library `mcap`.

rosbags' own reader refuses a file for one channel of JSON or protobuf, and finds no message in
chunks without an index. Of a schema only its name is used here. See https://mcap.dev/spec.
"""
from collections import Counter
from collections.abc import Collection, Iterator
import heapq
from pathlib import Path
import struct
from typing import Any, BinaryIO

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.reader import SeekingReader
from mcap.records import Channel, Chunk, ChunkIndex, McapRecord, Message, Schema, Statistics
from mcap.stream_reader import breakup_chunk, MAGIC_SIZE
from mcap.summary import Summary
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.rosbag2.metadata import parse_qos, ReaderMetadata
from rosbags.rosbag2.reader import DirectoryReader

MAGIC = b'\x89MCAP0\r\n'  # at both ends of a file
HEAD = struct.Struct('<BQ')  # kind and size of a record's content
MESSAGE_HEAD = 22  # bytes of a message's record before its data
CDR = 'cdr'  # how ROS 2 writes messages
NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, '')


class _Records(SeekingReader):
    """The library's reader, for files without a whole summary and messages outside of chunks."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the summary, or all of a file whose summary leaves something out."""
        super().__init__(file, validate_crcs=True)
        self._file, self._size = file, file.seek(0, 2)
        file.seek(-MAGIC_SIZE, 2)
        if file.read() != MAGIC:
            raise ReaderError('expected the end of an MCAP file, found none: it was cut off')
        told = super().get_summary()
        self.summary = told if told and _is_whole(told) else self._scan()

    def get_summary(self) -> Summary:
        """Return what the library shall go by."""
        return self.summary

    def by_time(self, channels: Collection[int]) -> Iterator[Message]:
        """Yield the messages of channels by time; only those of chunks that overlap are held."""
        topics = {self.summary.channels[number].topic for number in channels}
        # Without chunks the library would hold all messages of the file.
        found = self.iter_messages(topics) if self.summary.chunk_indexes else iter(())
        chunked = (message for _, _, message in found if message.channel_id in channels)
        return heapq.merge(chunked, self._loose(channels), key=lambda message: message.log_time)

    def _loose(self, channels: Collection[int]) -> Iterator[Message]:
        """Yield the messages outside of chunks by time."""
        places = [(message.log_time, place, size) for kind, place, size in self._outside()
                  if kind == Opcode.MESSAGE and (
                      message := Message.read(ReadDataStream(self._file), MESSAGE_HEAD)
                      ).channel_id in channels]
        for _, place, size in sorted(places):
            self._file.seek(place)
            yield Message.read(ReadDataStream(self._file), size)

    def _outside(self) -> Iterator[tuple[int, int, int]]:
        """Yield kind, place and size of each record outside of chunks, as `_between` does."""
        start = MAGIC_SIZE
        for chunk in sorted(self.summary.chunk_indexes, key=lambda one: one.chunk_start_offset):
            yield from self._between(start, chunk.chunk_start_offset)
            start = chunk.chunk_start_offset + chunk.chunk_length + chunk.message_index_length
        yield from self._between(start, self._size)

    def _between(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield kind, place and size of each record's content; the file is at this place then."""
        while start + HEAD.size <= end:
            self._file.seek(start)
            kind, size = HEAD.unpack(self._file.read(HEAD.size))
            start += HEAD.size + size
            if kind in (Opcode.DATA_END, Opcode.FOOTER):
                return
            if start > end:
                raise ReaderError(f'expected a record to end before byte {end}, got {start}')
            yield kind, start - size, size

    def _scan(self) -> Summary:
        """Return the summary that the file should have; one chunk is held at a time."""
        summary, counts, times = Summary(), Counter[int](), (2 ** 63 - 1, 0)
        for kind, place, size in self._between(MAGIC_SIZE, self._size):
            stream, records = ReadDataStream(self._file), list[McapRecord]()
            if kind == Opcode.CHUNK:
                chunk = Chunk.read(stream)
                records = breakup_chunk(chunk, validate_crc=True)
                summary.chunk_indexes.append(_index(chunk, place, size, records))
            elif kind == Opcode.SCHEMA:
                records = [Schema.read(stream)]
            elif kind == Opcode.CHANNEL:
                records = [Channel.read(stream)]
            elif kind == Opcode.MESSAGE:
                records = [Message.read(stream, MESSAGE_HEAD)]
            for record in records:
                if isinstance(record, Schema):
                    summary.schemas[record.id] = record
                elif isinstance(record, Channel):
                    summary.channels[record.id] = record
                elif isinstance(record, Message):
                    counts[record.channel_id] += 1
                    times = min(times[0], record.log_time), max(times[1], record.log_time)
        summary.statistics = Statistics(
            attachment_count=0, metadata_count=0, schema_count=len(summary.schemas),
            channel_count=len(summary.channels), chunk_count=len(summary.chunk_indexes),
            message_count=counts.total(), channel_message_counts=counts,
            message_start_time=times[0], message_end_time=times[1])
        return summary


def serialization(connection: Connection) -> str:
    """Return how the messages of a topic are written, such as CDR or 'json'."""
    return getattr(connection.ext, 'serialization_format', '')


def _is_whole(summary: Summary) -> bool:
    """Tell whether a summary has all channels, chunks and counts; each may be left out."""
    statistics = summary.statistics
    if statistics is None or statistics.chunk_count != len(summary.chunk_indexes):
        return False
    counts = statistics.channel_message_counts
    return (counts.keys() <= summary.channels.keys()
            and sum(counts.values()) == statistics.message_count)


def _index(chunk: Chunk, place: int, size: int, records: list[McapRecord]) -> ChunkIndex:
    """Return the index of a chunk whose content lies at a place; it names its channels only."""
    channels = {record.channel_id for record in records if isinstance(record, Message)}
    return ChunkIndex(
        chunk_start_offset=place - HEAD.size, chunk_length=HEAD.size + size,
        message_start_time=chunk.message_start_time, message_end_time=chunk.message_end_time,
        message_index_offsets=dict.fromkeys(channels, 0), message_index_length=0,
        compression=chunk.compression, compressed_size=len(chunk.data),
        uncompressed_size=chunk.uncompressed_size)


class McapFile:
    """An MCAP file as one of the storages of rosbags' Reader."""

    def __init__(self, path: Path) -> None:
        """Name the file."""
        self._path = path
        self._file: BinaryIO | None = None
        self._forget()

    def _forget(self) -> None:
        self.connections: list[Connection] = []
        self.metadata = ReaderMetadata(0, 2 ** 63 - 1, 0, 0, None, None, None, None)

    def open(self) -> None:
        """Read what the file holds; raises errors of any kind for a damaged one."""
        self._file = self._path.open('rb')
        try:
            self._records = _Records(self._file)
        except BaseException:
            self.close()
            raise
        summary = self._records.summary
        statistics = summary.statistics
        assert statistics, 'a whole summary has them'
        for number, channel in summary.channels.items():
            schema = summary.schemas.get(channel.schema_id)
            encoding = channel.message_encoding
            qos = channel.metadata.get('offered_qos_profiles') if encoding == CDR else None
            self.connections.append(Connection(
                number, channel.topic, schema.name if schema else '', NO_DEFINITION, '',
                statistics.channel_message_counts.get(number, 0),
                ConnectionExtRosbag2(encoding, parse_qos(qos) if qos else []), self))
        if statistics.message_count:
            first, last = statistics.message_start_time, statistics.message_end_time
            self.metadata = self.metadata._replace(
                duration=last - first + 1, start_time=first, end_time=last + 1,
                message_count=statistics.message_count)

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
        self._forget()

    def messages(self, connections: Collection[Connection], start: int | None = None,
                 stop: int | None = None) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield the messages of connections by time."""
        wanted = {one.id: one for one in connections}
        for message in self._records.by_time(wanted.keys()):
            if (start or 0) <= message.log_time and (stop is None or message.log_time < stop):
                yield wanted[message.channel_id], message.log_time, message.data


class _Folder(DirectoryReader):
    STORAGE_PLUGINS: Any = {**DirectoryReader.STORAGE_PLUGINS, 'mcap': McapFile}

    def open(self) -> None:
        """Open a folder, with the topics that `connections` keeps from rosbags."""
        super().open()
        self._connections += self._others

    @property
    def connections(self) -> list[Connection]:
        """The topics; for one that is not written as CDR rosbags would refuse the folder."""
        return self._connections

    @connections.setter
    def connections(self, found: list[Connection]) -> None:
        self._connections = [one for one in found if serialization(one) == CDR]
        self._others = [one for one in found if serialization(one) != CDR]


class BagReader(Reader):
    """rosbags' Reader, with MCAP files as they are read here."""

    STORAGE_PLUGINS: Any = {**Reader.STORAGE_PLUGINS, 'dir': _Folder, '.mcap': McapFile,
                            '.MCAP': McapFile, '.DB3': Reader.STORAGE_PLUGINS['.db3']}
