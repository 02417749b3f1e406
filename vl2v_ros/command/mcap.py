"""
MCAP files, read for the messages of ROS 2 in them whatever else they hold.

rosbags refuses a file for one channel of JSON or protobuf, and finds no message in chunks without
an index. Of a schema only its name is used here. See https://mcap.dev/spec.
"""
from collections.abc import Collection, Iterator
import heapq
from itertools import count
from pathlib import Path
import struct
from typing import Any, BinaryIO, NamedTuple

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.rosbag2.metadata import ReaderMetadata
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.rosbag2.storage_mcap import decompress, get_qos

MAGIC = b'\x89MCAP0\r\n'
FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, CHUNK_INDEX, STATISTICS, DATA_END = (
    2, 3, 4, 5, 6, 8, 11, 15)
FOOTER_SIZE = 9 + 20 + len(MAGIC)
NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, '')


class Chunk(NamedTuple):
    """Where a chunk's record lies, of which times, and its channels; none: not told."""

    start: int
    end: int
    offset: int
    channels: frozenset[int]


class Message(NamedTuple):
    """When a message was recorded [ns], and its channel."""

    time: int
    channel: int
    data: bytes


class Fields:
    """The fields of a record, one after the other."""

    def __init__(self, data: bytes) -> None:
        """Begin with the first."""
        self._data, self._place = data, 0

    def numbers(self, kinds: str) -> tuple[int, ...]:
        """Take numbers, of `struct`'s kinds."""
        numbers = struct.unpack_from(f'<{kinds}', self._data, self._place)
        self._place += struct.calcsize(f'<{kinds}')
        return numbers

    def part(self, kind: str = 'I') -> bytes:
        """Take bytes with their count before them."""
        [size] = self.numbers(kind)
        return self._take(size)

    def text(self) -> str:
        """Take a text."""
        return self.part().decode()

    def rest(self) -> bytes:
        """Take all that is left."""
        return self._take(len(self._data) - self._place)

    def _take(self, size: int) -> bytes:
        part = self._data[self._place:self._place + size]
        if len(part) < size:
            raise ReaderError(f'expected {size} bytes in a record, got {len(part)}')
        self._place += size
        return part


def _of_chunk(record: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield kind and content of each record in a chunk."""
    fields = Fields(record)
    _, _, size, checksum = fields.numbers('QQQI')
    compression = fields.text()
    inside = Fields(decompress(fields.part('Q'), compression, size, checksum))
    left = size
    while left:
        [kind] = inside.numbers('B')
        content = inside.part('Q')
        left -= 9 + len(content)
        yield kind, content


def _message(record: bytes) -> Message:
    fields = Fields(record)
    channel, _, time, _ = fields.numbers('HIQQ')
    return Message(time, channel, fields.rest())


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
        self._schemas: dict[int, str] = {}
        self._chunks: list[Chunk] = []
        self._counts: dict[int, int] | None = None  # of messages, by channel

    def open(self) -> None:
        """Read what the file holds; raises errors of any kind for a damaged one."""
        self._file = self._path.open('rb')
        try:
            self._size = self._file.seek(0, 2)
            self._file.seek(max(0, self._size - FOOTER_SIZE))
            footer = self._file.read()
            self._file.seek(0)
            if not self._file.read(8) == footer[-8:] == MAGIC or footer[0] != FOOTER:
                raise ReaderError('expected an MCAP file with its end, got another or a cut one')
            [summary] = struct.unpack_from('<Q', footer, 9)
            times = self._read_summary(summary) if summary else None
            if times is None or self._counts is None:
                times = self._scan()
        except BaseException:
            self.close()
            raise
        counts = self._counts or {}
        self.connections = [one._replace(msgcount=counts.get(one.id, 0))
                            for one in self.connections]
        if total := sum(counts.values()):
            self.metadata = self.metadata._replace(
                duration=times[1] - times[0] + 1, start_time=times[0], end_time=times[1] + 1,
                message_count=total)

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
        self._forget()

    def _records(self, start: int) -> Iterator[tuple[int, int, bytes]]:
        """Yield offset, kind and content of each record, up to the end of a section."""
        assert self._file, 'open it first'
        while start + 9 <= self._size:
            self._file.seek(start)
            kind, size = struct.unpack('<BQ', self._file.read(9))
            if kind in (FOOTER, DATA_END) or start + 9 + size > self._size:
                return
            yield start, kind, self._file.read(size)
            start += 9 + size

    def _read_summary(self, start: int) -> tuple[int, int] | None:
        """Return the first and last time, if there are statistics, and an index of all chunks."""
        times, chunks = None, 0
        for _, kind, record in self._records(start):
            fields = Fields(record)
            if kind == CHUNK_INDEX:
                first, last, offset, _ = fields.numbers('QQQQ')
                self._chunks.append(Chunk(first, last, offset, frozenset(
                    channel for channel, _ in struct.iter_unpack('<HQ', fields.part()))))
            elif kind == STATISTICS:
                *_, chunks, first, last = fields.numbers('QHIIIIQQ')
                times = first, last
                self._counts = dict(struct.iter_unpack('<HQ', fields.part()))
            else:
                self._learn(kind, fields)
        return times if chunks == len(self._chunks) else None

    def _scan(self) -> tuple[int, int]:
        """Read all of the file, as it has no summary; return the first and last time."""
        counts: dict[int, int] = {}
        first, last = 2 ** 63 - 1, 0
        self._chunks.clear()
        for offset, kind, record in self._records(len(MAGIC)):
            if kind == CHUNK:
                start, end, *_ = Fields(record).numbers('QQQI')
                self._chunks.append(Chunk(start, end, offset, frozenset()))
            for inner, content in _of_chunk(record) if kind == CHUNK else [(kind, record)]:
                if inner == MESSAGE:
                    message = _message(content)
                    counts[message.channel] = counts.get(message.channel, 0) + 1
                    first, last = min(first, message.time), max(last, message.time)
                else:
                    self._learn(inner, Fields(content))
        self._counts = counts
        return first, last

    def _learn(self, kind: int, fields: Fields) -> None:
        """Note a schema's name, or a channel."""
        if kind == SCHEMA:
            [number] = fields.numbers('H')
            self._schemas[number] = fields.text()
        elif kind == CHANNEL:
            number, schema = fields.numbers('HH')
            topic, encoding = fields.text(), fields.text()
            if all(number != one.id for one in self.connections):
                qos = get_qos(fields.part()) if encoding == 'cdr' else []
                self.connections.append(Connection(
                    number, topic, self._schemas.get(schema, ''), NO_DEFINITION, '', 0,
                    ConnectionExtRosbag2(encoding, qos), self))

    def messages(self, connections: Collection[Connection], start: int | None = None,
                 stop: int | None = None) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield the messages of connections by time; if there are no chunks, as they lie."""
        wanted = {one.id: one for one in connections}
        for message in self._by_time(wanted.keys()) if self._chunks else self._as_they_lie():
            if message.channel in wanted and (start or 0) <= message.time and (
                    stop is None or message.time < stop):
                yield wanted[message.channel], message.time, message.data

    def _as_they_lie(self) -> Iterator[Message]:
        return (_message(record) for _, kind, record in self._records(len(MAGIC))
                if kind == MESSAGE)

    def _by_time(self, wanted: Collection[int]) -> Iterator[Message]:
        """Yield the messages of chunks, of which some may overlap."""
        waiting: list[tuple[int, int, Message]] = []
        number = count()  # among those of one time the first comes first
        for chunk in sorted(self._chunks):
            while waiting and waiting[0][0] < chunk.start:
                yield heapq.heappop(waiting)[-1]
            if chunk.channels and chunk.channels.isdisjoint(wanted):
                continue
            _, kind, record = next(self._records(chunk.offset), (0, 0, b''))
            if kind != CHUNK:
                raise ReaderError(f'expected a chunk at byte {chunk.offset}, found none')
            for inner, content in _of_chunk(record):
                if inner == MESSAGE:
                    message = _message(content)
                    if message.channel in wanted:
                        heapq.heappush(waiting, (message.time, next(number), message))
        while waiting:
            yield heapq.heappop(waiting)[-1]


class _Folder(DirectoryReader):
    STORAGE_PLUGINS: Any = {**DirectoryReader.STORAGE_PLUGINS, 'mcap': McapFile}


class BagReader(Reader):
    """rosbags' Reader, with MCAP files as they are read here."""

    STORAGE_PLUGINS: Any = {**Reader.STORAGE_PLUGINS, 'dir': _Folder, '.mcap': McapFile,
                            '.MCAP': McapFile, '.DB3': Reader.STORAGE_PLUGINS['.db3']}
