"""
Bags of ROS 2, read and written without ROS: MCAP files and rosbag2 folders.

The message definitions inside a bag are not used, so nothing in a bag can become code.
"""
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg, get_typestore, Stores
from rosbags.typesys.store import Typestore
from vl2v_ros.command.mcap import BagReader, CDR, serialization
from vl2v_ros.files import one_line, share
from vl2v_ros.images.encodings import decode, view
from vl2v_ros.images.folders import IMAGES
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.sources import Picture, Skip, Source
from vl2v_ros.images.videos import SAMPLED, SECOND, usual_rate
from vl2v_ros.model.prediction import Prediction

BAGS = ('.mcap', '.db3')
METADATA = b'rosbag2_bagfile_information'  # of a bag's metadata.yaml
MOST_METADATA = 1 << 20  # of it are looked through [bytes]
IMAGE, COMPRESSED_IMAGE = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
LABELS, CLASSIFICATION = 'vl2v_msgs/msg/LabelArray', 'vision_msgs/msg/Classification'
# Folders of the definitions of these packages, in the checkout and in share/vl2v_ros.
DEFINITIONS = {'vl2v_msgs': 'vl2v_msgs/msg', 'vision_msgs': 'tools/vision_msgs/msg'}
NAMED = 5  # at most this many unreadable messages of a topic are named
FILE_TOPIC = '/image'  # topic of pictures that come from no bag


@lru_cache(maxsize=1)
def message_types() -> Typestore:
    """Return the types of ROS 2 and of this package's results."""
    store = get_typestore(Stores.ROS2_HUMBLE)  # images and headers are the same in all of ROS 2
    types: dict[str, Any] = {}
    for package, folder in DEFINITIONS.items():
        for path in sorted((share() / folder).glob('*.msg')):
            types |= get_types_from_msg(path.read_text(encoding='utf-8'),
                                        f'{package}/msg/{path.stem}')
    store.register(types)
    return store


def is_bag(path: Path) -> bool:
    """
    Return whether a path is meant as a bag: a file by its ending, a folder by its metadata.

    Without them, as a recording that was cut off is, by its files, unless there are images beside:
    these may be photos, and the bag what was written of them.
    """
    if not path.is_dir():
        return path.suffix.lower() in BAGS
    if _has_metadata(path):
        return True
    endings = {file.suffix.lower() for file in path.iterdir()}
    return not endings.isdisjoint(BAGS) and endings.isdisjoint(IMAGES)


def _has_metadata(folder: Path) -> bool:
    """Tell whether a folder's metadata.yaml is that of a bag; other programs write some, too."""
    try:
        with open(folder / 'metadata.yaml', 'rb') as file:
            return METADATA in file.read(MOST_METADATA)
    except OSError:
        return False


@contextmanager
def _opened(path: Path) -> Iterator[Reader]:
    """Open a bag; an error of the library while the block runs becomes a ValueError."""
    try:
        with BagReader(path) as reader:
            yield reader
    except FileNotFoundError as error:
        raise ValueError(f'{path}: expected metadata.yaml in the folder of a bag, found none, as '
                         'after an aborted `ros2 bag record`; write it with `ros2 bag reindex`, '
                         'or name the .mcap or .db3 file itself') from error
    except Exception as error:  # damaged data lead the library into errors of any kind
        raise ValueError(f'{path}: expected a bag of ROS 2, got one that is damaged or of another '
                         f'kind ({type(error).__name__}: {one_line(error)}); `ros2 bag reindex` '
                         'or `mcap recover` may repair it') from error


def open_bag(path: Path, topics: Sequence[str], skip: Skip) -> Source:
    """
    Open a bag; its pictures come in the order of recording.

    :param topics: image topics to read; empty: all image topics.
    :param skip: receives a text for each message that cannot be read.
    :raises ValueError: for a damaged bag, a bag without images, or a topic that is not in it; the
        iterator of pictures raises it if no message can be read.
    """
    with _opened(path) as reader:
        found = {connection.topic: _kind(connection) for connection in reader.connections}
        counts: Counter[str] = Counter()
        for connection in _of_images(reader):
            counts[connection.topic] += connection.msgcount
        duration = reader.duration / SECOND
        first = [recorded for _, recorded, _ in islice(reader.messages(
            [connection for connection in _of_images(reader)
             if connection.topic in (topics or counts)]), SAMPLED)]
    if missing := [topic for topic in topics if topic not in counts]:
        got = ', '.join(f'{topic} ({found[topic]})' if topic in found else topic
                        for topic in missing)
        raise ValueError(f'{path}: expected a topic of images ({", ".join(sorted(counts))}), got '
                         f'{got}')
    chosen = {topic: counts[topic] for topic in topics or sorted(counts)}
    count = sum(chosen.values())
    if not count:
        there = ', '.join(f'{topic} ({kind})' for topic, kind in sorted(found.items()))
        raise ValueError(f'{path}: expected messages of {IMAGE} or {COMPRESSED_IMAGE}, found none '
                         f'in {", ".join(chosen) or there or "an empty bag"}')
    mean = (count - 1) / duration if count > 1 and duration > 0 else 0.0
    return Source(_pictures(path, tuple(chosen), skip), count, usual_rate(first, mean),
                  topics=tuple(chosen))


def _kind(connection: Connection) -> str:
    """Name the type of a topic, and how it is written if that is not CDR."""
    written = serialization(connection)
    return connection.msgtype + ('' if written == CDR else f' as {written!r}, not {CDR!r}')


def _of_images(reader: Reader) -> list[Connection]:
    return [connection for connection in reader.connections
            if connection.msgtype in (IMAGE, COMPRESSED_IMAGE)
            and serialization(connection) == CDR]


def _pictures(path: Path, topics: Sequence[str], skip: Skip) -> Iterator[Picture]:
    shown, failed = 0, dict.fromkeys(topics, 0)
    reason: ValueError | None = None
    for topic, kind, recorded, data in _messages(path, topics):
        try:
            picture = _picture(path, topic, kind, recorded, data)
        except ValueError as error:
            reason = reason or error
            failed[topic] += 1
            if failed[topic] <= NAMED:
                skip(f'{path}, {topic} at {seconds(recorded)} s: {error}')
            continue
        shown += 1
        yield picture
    for topic, count in failed.items():
        if count > NAMED:
            skip(f'{path}, {topic}: {count} messages in all')
    if not shown:
        raise ValueError(f'{path}: expected images, got {sum(failed.values())} messages that '
                         f'cannot be read; the first: {reason}')


def _messages(path: Path, topics: Sequence[str]) -> Iterator[tuple[str, str, int, bytes]]:
    with _opened(path) as reader:
        wanted = [connection for connection in _of_images(reader) if connection.topic in topics]
        for connection, recorded, data in reader.messages(wanted):
            yield connection.topic, connection.msgtype, recorded, data


def _picture(path: Path, topic: str, kind: str, recorded: int, data: bytes) -> Picture:
    try:
        message: Any = message_types().deserialize_cdr(data, kind)
    except Exception as error:  # as in _opened
        raise ValueError(f'expected a {kind}, got {len(data)} bytes that are not one '
                         f'({one_line(error)})'
                         ) from error
    frame: Frame = view(message) if kind == IMAGE else decode(
        bytes(message.data), note=f' (format field: {message.format!r:.80})')
    stamp = message.header.stamp
    return Picture(frame, path, stamp.sec * SECOND + stamp.nanosec, recorded, topic,
                   message.header.frame_id)


def seconds(time: int) -> str:
    """Write a time [ns] as seconds, without loss."""
    return f'{time // SECOND}.{time % SECOND:09d}'


@contextmanager
def writing(folder: Path, unknown_threshold: float, rate: float, score_threshold: float = 0.0
            ) -> Iterator[Callable[[Picture, Prediction], None]]:
    """
    Write a new bag with the labels and the classification of each picture.

    The topics are `<image topic>/labels` and `<image topic>/classification`. The messages have
    the header and the recording time of their image.

    :param folder: the folder to make; it holds metadata.yaml and `<its name>.mcap`.
    :param unknown_threshold: cosine below which the classification leaves a label out.
    :param rate: frame rate that gives still images a time [Hz].
    :param score_threshold: score below which the classification leaves a label out.
    """
    store, connections, number = message_types(), {}, 0
    # The older of the versions that the library writes, so that older ROS 2 reads it too.
    with Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        def write(picture: Picture, prediction: Prediction) -> None:
            nonlocal number
            topic, otherwise = picture.topic or FILE_TOPIC, round(number * SECOND / rate)
            number += 1
            stamp = otherwise if picture.stamp is None else picture.stamp
            recorded = otherwise if picture.recorded is None else picture.recorded
            header = _header(store, stamp, picture.frame_id)
            for name, message in (
                    (f'{topic}/labels', _label_array(store, prediction, header)),
                    (f'{topic}/classification',
                     _classification(store, prediction, header, unknown_threshold,
                                                 score_threshold))):
                kind = message.__msgtype__
                if name not in connections:
                    connections[name] = writer.add_connection(name, kind, typestore=store)
                writer.write(connections[name], recorded, store.serialize_cdr(message, kind))
        yield write


def _header(store: Typestore, stamp: int, frame_id: str) -> Any:
    time = store.types['builtin_interfaces/msg/Time'](sec=stamp // SECOND, nanosec=stamp % SECOND)
    return store.types['std_msgs/msg/Header'](stamp=time, frame_id=frame_id)


def _label_array(store: Typestore, prediction: Prediction, header: Any) -> Any:
    label = store.types['vl2v_msgs/msg/Label']
    return store.types[LABELS](
        header=header, vocabulary_version=prediction.vocabulary_version,
        labels=[label(label=name, similarity=similarity, score=score) for name, similarity, score
                in zip(prediction.labels, prediction.similarities, prediction.scores,
                       strict=True)],
        unknown=prediction.unknown, unknown_score=prediction.unknown_score)


def _classification(store: Typestore, prediction: Prediction, header: Any,
                    unknown_threshold: float, score_threshold: float) -> Any:
    hypothesis = store.types['vision_msgs/msg/ObjectHypothesis']
    return store.types[CLASSIFICATION](header=header, results=[
        hypothesis(class_id=name, score=score)
        for name, score in prediction.reported(unknown_threshold, score_threshold)])
