"""Image and CompressedImage -> Frame, Prediction -> result messages; pure functions."""
import array
import difflib
import io
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image as PillowImage
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Classification, LabelInfo, ObjectHypothesis, VisionClass, VisionInfo
from vl2v_msgs.msg import Label, LabelArray
from vl2v_msgs.msg import Vocabulary as VocabularyMessage
from vl2v_ros.frame import CHANNELS, check_size, Frame, MAX_PIXELS
from vl2v_ros.vocabulary import Vocabulary

if TYPE_CHECKING:  # else each program that publishes images would load torch
    from vl2v_ros.classifier import Prediction

# Encodings that are a numpy view of the message; 8UC3 and 8UC4 mean OpenCV's order.
VIEWS = {'rgb8': 'rgb', 'bgr8': 'bgr', 'rgba8': 'rgba', 'bgra8': 'bgra', 'mono8': 'mono',
         '8UC1': 'mono', '8UC3': 'bgr', '8UC4': 'bgra'}
# Encodings that cv_bridge converts, where it is installed, and the bytes per pixel of a row.
CONVERTED = {'mono16': 2, '16UC1': 2, 'rgb16': 6, 'bgr16': 6, 'rgba16': 8, 'bgra16': 8,
             'yuv422': 2, 'yuv422_yuy2': 2, 'uyvy': 2, 'yuyv': 2, 'nv21': 1, 'nv24': 1,
             **{f'bayer_{order}{bits}': bits // 8
                for order in ('rggb', 'bggr', 'gbrg', 'grbg') for bits in (8, 16)}}

COMPRESSED = ('JPEG', 'PNG', 'TIFF', 'WEBP')


def to_frame(message: Image | CompressedImage) -> Frame:
    """
    View (Image) or decode (CompressedImage) a message's pixels.

    :raises ValueError: for sizes, steps, data or encodings that are no image.
    """
    if isinstance(message, CompressedImage):
        return _decode(message)
    check_size(message.width, message.height)
    if message.encoding not in VIEWS:
        return _convert(message)
    order = VIEWS[message.encoding]
    channels = CHANNELS[order]
    rows = _rows(message, message.width * channels)
    return Frame(rows[:, :message.width * channels].reshape(message.height, message.width,
                                                            channels), order)


def _rows(message: Image, row_bytes: int) -> np.ndarray:
    """Return the (H, step) bytes of a message."""
    if message.step < row_bytes:
        raise ValueError(f'expected a step of at least {row_bytes} bytes for {message.width} px '
                         f'{message.encoding}, got {message.step}; correct the camera driver')
    size = message.step * message.height
    if len(message.data) < size:
        raise ValueError(f'expected {size} bytes of data (step {message.step} x height '
                         f'{message.height}), got {len(message.data)}; correct the camera driver')
    return np.frombuffer(message.data, np.uint8, size).reshape(message.height, message.step)


def _convert(message: Image) -> Frame:
    if message.encoding not in CONVERTED:
        near = difflib.get_close_matches(message.encoding.lower(), (*VIEWS, *CONVERTED), 1)
        hint = f'; is it {near[0]!r}?' if near else ''
        raise ValueError(f'expected an encoding of sensor_msgs/image_encodings.hpp that is a '
                         f'colour or grey image, got {message.encoding!r}{hint}')
    _rows(message, message.width * CONVERTED[message.encoding])  # cv_bridge does not check
    try:
        from cv_bridge import CvBridge, CvBridgeError
    except (ImportError, AttributeError) as error:  # AttributeError: built for another numpy
        raise ValueError(f'encoding {message.encoding!r} needs cv_bridge, which cannot be '
                         f'imported ({error}); install ros-$ROS_DISTRO-cv-bridge or let the '
                         'camera publish rgb8 or bgr8') from error
    try:
        return Frame(CvBridge().imgmsg_to_cv2(message, 'rgb8'), 'rgb')
    except (CvBridgeError, TypeError, cv2.error) as error:
        raise ValueError(f'cv_bridge could not convert {message.encoding!r}: {error}') from error


def _decode(message: CompressedImage) -> Frame:
    data = bytes(message.data)
    try:
        with PillowImage.open(io.BytesIO(data), formats=COMPRESSED) as header:  # no pixels yet
            check_size(*header.size)
            kind = header.format
    except OSError as error:  # of another format, or cut within its header
        raise ValueError(f'expected a JPEG, PNG, TIFF or WebP image, got {len(data)} bytes that '
                         f'are none (format field: {message.format!r}): {error}') from error
    except PillowImage.DecompressionBombError as error:
        raise ValueError(f'expected at most {MAX_PIXELS} px: {error}') from error
    # A cut JPEG would decode to a picture with grey rows; cameras may pad behind its end mark.
    if kind == 'JPEG' and b'\xff\xd9' not in data[-1024:]:
        raise ValueError(f'expected a whole JPEG image, got {len(data)} bytes without an end mark')
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f'expected a {kind} image, got {len(data)} bytes that do not decode')
    return Frame(pixels, 'bgr')


def byte_array(pixels: np.ndarray) -> array.array:
    """Copy uint8 values into what rclpy takes for `data`; numpy itself is 1000 times slower."""
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(pixels).data.cast('B'))
    return data


def to_image(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    """Wrap contiguous (H, W) or (H, W, C) uint8 pixels of a given encoding."""
    data = byte_array(pixels)
    height, width = pixels.shape[:2]
    return Image(header=header, height=height, width=width, encoding=encoding,
                 step=len(data) // height, data=data)


def to_label_array(prediction: 'Prediction', header: Header) -> LabelArray:
    """Give all labels of a prediction, best first."""
    return LabelArray(
        header=header, vocabulary_version=prediction.vocabulary_version,
        labels=[Label(label=label, similarity=similarity, score=score) for label, similarity, score
                in zip(prediction.labels, prediction.similarities, prediction.scores)],
        unknown=prediction.unknown, unknown_score=prediction.unknown_score)


def to_classification(prediction: 'Prediction', header: Header, unknown_threshold: float,
                      score_threshold: float) -> Classification:
    """Give the labels whose similarity and score reach the thresholds, best first."""
    return Classification(header=header, results=[
        ObjectHypothesis(class_id=label, score=score)
        for label, similarity, score in zip(
            prediction.labels, prediction.similarities, prediction.scores)
        if similarity >= unknown_threshold and score >= score_threshold])


def to_vocabulary(vocabulary: Vocabulary) -> VocabularyMessage:
    """Give the labels in force with their descriptions."""
    return VocabularyMessage(version=vocabulary.version, labels=list(vocabulary.labels),
                             descriptions=list(vocabulary.descriptions))


def to_vision_info(vocabulary: Vocabulary, location: str, header: Header) -> VisionInfo:
    """Say where the vocabulary is described: the topic `location`."""
    return VisionInfo(header=header, method='vl2v_ros', database_location=location,
                      database_version=vocabulary.version)


def to_label_info(vocabulary: Vocabulary, threshold: float, header: Header) -> LabelInfo:
    """Give the labels in force a number each; `threshold` is the least score of a result."""
    classes = [VisionClass(class_id=index, class_name=label)
               for index, label in enumerate(vocabulary.labels)]
    return LabelInfo(header=header, class_map=classes, threshold=threshold)
