"""Sightings and times as messages, and requests as what they mean; pure functions."""
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point
import numpy as np
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header
from vision_msgs.msg import BoundingBox2D, Point2D, Pose2D
from vl2v_msgs.msg import Sighting as SightingMessage
from vl2v_ros.memory.sighting import Sighting, Where
from vl2v_ros.nodes.messages import byte_array

SECOND = 10 ** 9  # [ns]
USUAL, MOST = 10, 1_000  # number of sightings in an answer
LATEST = 2 ** 31  # of a Time, exclusive [s]


def number_of(k: int) -> int:
    """Return how many sightings are wanted; raises ValueError for too many."""
    if k > MOST:
        raise ValueError(f'expected at most {MOST} sightings to be asked for, got {k}; narrow the '
                         'time or the camera')
    return k or USUAL


def where_of(camera: str, after: Time = Time(), before: Time = Time()) -> Where:
    """Return which sightings are meant; raises ValueError for times that cannot be meant."""
    first, last = (_nanoseconds(time, name) for time, name in ((after, 'after'),
                                                               (before, 'before')))
    if first is not None and last is not None and first > last:
        raise ValueError(f'expected `after` to be earlier than `before`, got {first / SECOND:.3f} '
                         f's and {last / SECOND:.3f} s')
    return Where(camera or None, first, last)


def seconds_of(duration: Duration) -> float:
    """Return a time limit [s]; raises ValueError for a negative one."""
    if duration.sec < 0 or duration.nanosec >= SECOND:
        raise ValueError(f'timeout: expected a time from 0 s on, got {duration.sec} s and '
                         f'{duration.nanosec} ns')
    return float(duration.sec + duration.nanosec / SECOND)


def _nanoseconds(time: Time, name: str) -> int | None:
    """Return a bound [ns], None for zeros; raises ValueError for what is no time."""
    if time.sec < 0 or time.nanosec >= SECOND:
        raise ValueError(f'{name}: expected a time from 0 s on, with less than {SECOND} '
                         f'nanoseconds, got {time.sec} s and {time.nanosec}')
    return int(time.sec * SECOND + time.nanosec) or None


def to_time(stamp: int) -> Time:
    """Return a stamp [ns] as a message; what it cannot hold becomes the nearest it can."""
    stamp = min(max(stamp, 0), LATEST * SECOND - 1)
    return Time(sec=stamp // SECOND, nanosec=stamp % SECOND)


def to_sighting(sighting: Sighting, with_thumbnail: bool = True) -> SightingMessage:
    """Return a sighting as a message."""
    box, position = sighting.box, sighting.position
    message = SightingMessage(
        first_seen=to_time(sighting.first), last_seen=to_time(sighting.last),
        count=sighting.count, camera=sighting.camera, frame_id=sighting.frame_id,
        similarity=sighting.similarity)
    if box:
        message.box = BoundingBox2D(center=Pose2D(
            position=Point2D(x=box.x, y=box.y), theta=box.angle), size_x=box.width,
            size_y=box.height)
    if position:
        message.position_header = Header(stamp=message.last_seen, frame_id=position.frame_id)
        message.position = Point(x=position.x, y=position.y, z=position.z)
    if with_thumbnail and sighting.thumbnail:
        message.thumbnail = CompressedImage(
            header=Header(stamp=message.first_seen, frame_id=sighting.frame_id), format='jpeg',
            data=byte_array(np.frombuffer(sighting.thumbnail, np.uint8)))
    return message
