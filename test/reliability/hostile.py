"""Messages and requests with hostile content, the same ones for the same seed."""
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
import tempfile
from typing import Any

from builtin_interfaces.msg import Time
import cv2
import numpy as np
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    GetParameterTypes,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from rclpy.serialization import serialize_message
from reliability import mutations, seeds
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
)
from vl2v_msgs.srv import ClassifyImage, EncodeImage, EncodeText, Forget, SetVocabulary, Teach
from vl2v_ros.images.conversions import CONVERSIONS
from vl2v_ros.images.encodings import VIEWS
from vl2v_ros.nodes.messages import byte_array

NUMBERS = (0, 1, 2, 3, 7, 64, 255, 256, 8191, 8192, 8193, 65535, 65536, 2 ** 24, 2 ** 31 - 1,
           2 ** 31, 2 ** 32 - 1)
TEXTS = ('', ' ', 'mug', 'red apple', '\n', '\t', '\0x', 'a\nb', '\x1b[2J', '\u202e', '\ufeff',
         'コップ', '🍌', '{label}', '{', '{0.__class__}', '%s', "'; DROP TABLE prompts;--",
         '../../x', 'x.yaml', 'x' * 200, 'x' * 201, 'x' * 100_000, 'a, b', 'a. b. c.', 'nan',
         'mug ', 'MUG')
DOUBLES = (0.0, -0.0, 0.25, 1.0, -1.0, 1e-320, 1e308, -1e308, float('inf'), -float('inf'),
           float('nan'))
INTEGERS = (0, 1, -1, 5, 1000, 1001, 2 ** 31, 2 ** 63 - 1, -2 ** 63)
# Of the classifier, of every rclpy node, and of none.
NAMES = ('top_k', 'max_rate', 'unknown_threshold', 'score_threshold', 'llm_timeout', 'llm_model',
         'llm_key_variable', 'llm_question', 'checkpoint', 'vocabulary', 'cameras', 'device',
         'text_weight', 'autostart', 'use_sim_time', 'none', '', ' ', '.', '..', 'x' * 1000, '🍌',
         '\n')


def number(rng: Random) -> int:
    return rng.choice(NUMBERS) if rng.random() < 0.8 else rng.randrange(2 ** 32)


def text(rng: Random) -> str:
    if rng.random() < 0.9:
        return rng.choice(TEXTS)
    return ''.join(chr(rng.choice((rng.randrange(1, 0xd800), rng.randrange(32, 127))))
                   for _ in range(rng.randrange(40)))


def header(rng: Random) -> Header:
    stamp = Time(sec=rng.choice((0, 1, -1, 2 ** 31 - 1, -2 ** 31, 1_800_000_000)),
                 nanosec=rng.choice((0, 999_999_999, 10 ** 9, 2 ** 32 - 1)))
    return Header(stamp=stamp, frame_id=text(rng))


def image(rng: Random) -> Image:
    """Make an image that fits its encoding, and most often change some of its fields."""
    encoding = rng.choice((*VIEWS, *CONVERSIONS))
    width, height = rng.choice(((8, 6), (64, 48), (1, 1), (2, 2), (33, 17), (4000, 2)))
    row = width * CONVERSIONS[encoding].row if encoding in CONVERSIONS else width * {
        'mono': 1, 'rgb': 3, 'bgr': 3, 'rgba': 4, 'bgra': 4}[VIEWS[encoding]]
    rows = int(height * (CONVERSIONS[encoding].planes if encoding in CONVERSIONS else 1))
    content = rng.choice((rng.randbytes(row), b'\xff' * row, bytes(row), b'\0\0\xc0\x7f' * row))
    message = Image(header=header(rng), width=width, height=height, encoding=encoding, step=row,
                    data=byte_array(np.frombuffer(content[:row] * rows, np.uint8)))
    for _ in range(rng.randrange(4)):
        name = rng.choice(('width', 'height', 'step', 'encoding', 'is_bigendian', 'data'))
        message_data = byte_array(np.frombuffer(rng.randbytes(rng.choice((
            0, 1, 7, row * rows - 1, row * rows + 1, 10_000))), np.uint8))
        setattr(message, name, {'encoding': text(rng), 'is_bigendian': rng.randrange(256),
                                'data': message_data}.get(name, number(rng)))
    return message


@cache
def pictures() -> tuple[bytes, ...]:
    """Return the content of all seeds that are images."""
    with tempfile.TemporaryDirectory() as name:
        seeds.images(Path(name))
        return tuple(path.read_bytes() for path in sorted(Path(name).iterdir()))


def compressed(rng: Random) -> CompressedImage:
    data = rng.choice(pictures())
    if rng.random() < 0.9:
        data = mutations.mutate_bytes(data, rng, list(pictures()))
    return CompressedImage(header=header(rng), format=rng.choice(('jpeg', 'png', text(rng))),
                           data=byte_array(np.frombuffer(data, np.uint8)))


def boxes(rng: Random) -> list[Detection2D]:
    """Make boxes of which some lie in an image of 64 x 48 px."""
    def length() -> float:
        return rng.choice((*DOUBLES, rng.uniform(-10, 70), rng.uniform(5, 60)))

    made = []
    for _ in range(rng.choice((0, 1, 2, 10, 150))):
        box = Detection2D(id=text(rng)[:200],
                          bbox=BoundingBox2D(size_x=length(), size_y=length()))
        box.bbox.center.position.x, box.bbox.center.position.y = length(), length()
        box.bbox.center.theta = rng.choice((0.0, 0.0, rng.choice(DOUBLES), rng.uniform(-4, 4)))
        if rng.random() < 0.3:
            box.results = [ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(
                class_id=text(rng)[:200], score=rng.choice(DOUBLES)))]
        made.append(box)
    if rng.random() < 0.005:
        made = (made or [Detection2D()]) * (10_000 // max(1, len(made)))
    return made


def regions(rng: Random, asked: Header) -> Detection2DArray:
    """Make boxes of an image with a header, whose stamp or frame_id may be another one."""
    return Detection2DArray(header=rng.choice((asked, asked, header(rng))), detections=boxes(rng))


def depth(rng: Random, seen: Image) -> Image:
    """Make depth of an image, most often of its size, and at times change a field."""
    height, width = rng.choice(((seen.height, seen.width),) * 3 + ((6, 8), (48, 64), (1, 1)))
    height, width = max(1, min(height, 100)), max(1, min(width, 4000))
    encoding, kind = rng.choice((('16UC1', np.uint16), ('32FC1', np.float32)))
    value = rng.choice((0, 1, 1500, 65535) if kind is np.uint16 else DOUBLES)
    with np.errstate(over='ignore'):
        values = np.full((height, width), value, kind)
    message = Image(header=rng.choice((seen.header, seen.header, header(rng))), width=width,
                    height=height, encoding=encoding, step=width * values.itemsize,
                    is_bigendian=rng.choice((0, 0, 1, 255)), data=byte_array(values))
    if rng.random() < 0.2:
        setattr(message, rng.choice(('width', 'height', 'step')), number(rng))
    return message


def camera_info(rng: Random, seen: Image) -> CameraInfo:
    """Make the calibration of an image, of which most often some numbers are no calibration."""
    def numbers(count: int) -> list[float]:
        return [rng.choice((*DOUBLES, 60.0, 30.0)) for _ in range(count)]

    info = CameraInfo(header=seen.header, width=seen.width, height=seen.height,
                      k=[60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0],
                      distortion_model=rng.choice(('', 'plumb_bob', 'equidistant', text(rng))))
    for _ in range(rng.randrange(3)):
        name = rng.choice(('k', 'd', 'width', 'height', 'roi'))
        setattr(info, name, {'k': numbers(9), 'd': numbers(rng.choice((0, 4, 5, 8, 100))),
                             'roi': RegionOfInterest(x_offset=number(rng), width=number(rng),
                                                     height=number(rng))}.get(name, number(rng)))
    return info


def garbage(message: Any, rng: Random) -> bytes:
    """Return a serialised message that is damaged."""
    data = bytes(serialize_message(message))
    if rng.random() < 0.3:
        return data[:rng.randrange(len(data))]
    return mutations.mutate_bytes(data, rng, [data])


def large(rng: Random) -> bytes:
    """Return an image file of many pixels in few bytes."""
    side = rng.choice((2000, 8192, 8193, 16000))
    ending = rng.choice(('.png', '.jpg', '.tif', '.webp'))
    try:
        return cv2.imencode(ending, np.zeros((side, side), np.uint8))[1].tobytes()
    except cv2.error:  # too large for the format
        return cv2.imencode('.png', np.zeros((side, side), np.uint8))[1].tobytes()


def vocabulary(rng: Random) -> dict[str, Any]:
    labels = [text(rng) for _ in range(rng.choice((0, 1, 2, 3, 10)))]
    if rng.random() < 0.01:
        labels = [f'{rng.random()}'] * 10_001
    return {'operation': rng.choice((0, 0, 1, 2, 3, 4, 255)), 'labels': labels,
            'descriptions': [text(rng) for _ in range(rng.choice((0, 0, len(labels), 1)))],
            'enrich': rng.random() < 0.1}


def value(rng: Random) -> ParameterValue:
    return ParameterValue(
        type=rng.choice((*range(10), rng.randrange(10), 255)), bool_value=rng.random() < 0.5,
        integer_value=rng.choice(INTEGERS), double_value=rng.choice(DOUBLES),
        string_value=text(rng), byte_array_value=[bytes([rng.randrange(256)])],
        bool_array_value=[True], integer_array_value=[rng.choice(INTEGERS)],
        double_array_value=[rng.choice(DOUBLES)], string_array_value=[text(rng)])


def parameters(rng: Random) -> list[Parameter]:
    return [Parameter(name=rng.choice(NAMES), value=value(rng)) for _ in range(rng.randrange(4))]


def names(rng: Random) -> list[str]:
    return [rng.choice(NAMES) for _ in range(rng.randrange(4))]


def shown(rng: Random) -> dict[str, Any]:
    """Make pictures, and boxes in them whose number most often fits."""
    images = [image(rng) for _ in range(rng.choice((0, 1, 1, 2)))]
    more = [compressed(rng) for _ in range(rng.choice((0, 0, 1)))]
    if rng.random() < 0.02:
        images = [Image()] * 10_000
    given = [one.bbox for one in boxes(rng)]
    return {'images': images, 'compressed': more,
            'regions': rng.choice(([], [], given, given[:len(images) + len(more)]))}


def teaching(rng: Random) -> dict[str, Any]:
    good = Image(width=8, height=6, encoding='rgb8', step=24, data=byte_array(
        np.frombuffer(rng.randbytes(144), np.uint8)))
    pictures = {'images': [good] * rng.randrange(1, 4)} if rng.random() < 0.5 else shown(rng)
    return pictures | {
        'label': text(rng), 'replace': rng.random() < 0.2, 'text_weight': rng.choice(
            (-1.0, 0.0, 0.5, 1.0, 7.0, float('nan'), float('inf'), -float('inf'))),
        'frames': rng.choice((0, 0, 0, 1, 2 ** 32 - 1)), 'camera': rng.choice(('', text(rng)))}


def texts(rng: Random) -> list[str]:
    if rng.random() < 0.02:
        return ['a'] * 10_000
    return [text(rng) for _ in range(rng.choice((0, 1, 2, 3)))]


# Service -> its type, and how its request is drawn.
REQUESTS: dict[str, tuple[Any, Callable[[Random], dict[str, Any]]]] = {
    'set_vocabulary': (SetVocabulary, vocabulary),
    'classify': (ClassifyImage, lambda rng: {'image': image(rng), 'regions': boxes(rng)}),
    'encode_text': (EncodeText, lambda rng: {'texts': texts(rng)}),
    'encode_image': (EncodeImage, shown),
    'teach': (Teach, teaching),
    'forget': (Forget, lambda rng: {'labels': texts(rng)}),
    'set_parameters': (SetParameters, lambda rng: {'parameters': parameters(rng)}),
    'set_parameters_atomically': (SetParametersAtomically,
                                  lambda rng: {'parameters': parameters(rng)}),
    'get_parameters': (GetParameters, lambda rng: {'names': names(rng)}),
    'get_parameter_types': (GetParameterTypes, lambda rng: {'names': names(rng)}),
    'describe_parameters': (DescribeParameters, lambda rng: {'names': names(rng)}),
    'list_parameters': (ListParameters, lambda rng: {'prefixes': names(rng),
                                                     'depth': rng.choice((0, 1, 2 ** 63))}),
}
