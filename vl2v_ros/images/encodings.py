"""Bytes -> Frame: the layouts of sensor_msgs/Image and the formats of image files, without ROS."""
import difflib
import io
from typing import Protocol

import cv2
import numpy as np
from PIL import Image as PillowImage
from vl2v_ros.images.conversions import Conversion, CONVERSIONS
from vl2v_ros.images.frame import CHANNELS, check_size, Frame, MAX_PIXELS

# Encodings whose bytes are the pixels: a numpy view is enough. 8UC3 and 8UC4 have OpenCV's order.
VIEWS = {'rgb8': 'rgb', 'bgr8': 'bgr', 'rgba8': 'rgba', 'bgra8': 'bgra', 'mono8': 'mono',
         '8UC1': 'mono', '8UC3': 'bgr', '8UC4': 'bgra'}
COMPRESSED = {'JPEG': 'JPEG', 'PNG': 'PNG', 'TIFF': 'TIFF', 'WEBP': 'WebP'}  # by Pillow's name
FILES = {'BMP': 'BMP', **COMPRESSED}


class RawImage(Protocol):
    """The fields of a sensor_msgs/Image: rclpy's class, or that of another library."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: bytes  # or another buffer of bytes


def view(image: RawImage) -> Frame:
    """
    Return the pixels of an uncompressed image: a view, or converted as in conversions.py.

    :raises ValueError: for an invalid size, step, encoding or amount of data.
    """
    check_size(image.width, image.height)
    if image.encoding in VIEWS:
        order = VIEWS[image.encoding]
        channels = CHANNELS[order]
        rows = _rows(image, image.width * channels, image.height)
        return Frame(rows[:, :image.width * channels].reshape(image.height, image.width,
                                                              channels), order)
    if image.encoding not in CONVERSIONS:
        known = (*VIEWS, *CONVERSIONS)
        near = difflib.get_close_matches(image.encoding.lower(), known, 1)
        hint = f'is it {near[0]!r}?' if near else f'known are {", ".join(known)}'
        raise ValueError('expected an encoding of sensor_msgs/image_encodings.hpp that is a '
                         f'colour, grey or depth image, got {image.encoding!r}; {hint}')
    return _converted(image, CONVERSIONS[image.encoding])


def _converted(image: RawImage, conversion: Conversion) -> Frame:
    for side in conversion.even:
        if getattr(image, side) % 2:
            raise ValueError(f'expected an even {side} of {image.encoding!r}, got '
                             f'{image.width} x {image.height} px; correct the camera driver')
    row_bytes = image.width * conversion.row
    rows = _rows(image, row_bytes, int(image.height * conversion.planes))
    if conversion.planes > 2 and image.step != row_bytes:
        raise ValueError(f'expected {image.encoding!r} without padding, step {row_bytes}, got '
                         f'step {image.step}')
    order = '>' if image.is_bigendian else '<'
    values = np.ascontiguousarray(rows[:, :row_bytes]).view(order + conversion.values)
    try:
        pixels = conversion.convert(values.astype(conversion.values, copy=False).reshape(
            len(rows), image.width, conversion.channels))
    except cv2.error as error:
        raise ValueError(f'cannot convert {image.width} x {image.height} px of '
                         f'{image.encoding!r}: {error.err}') from error
    return Frame(pixels, 'rgb' if pixels.shape[2] == 3 else 'mono')


def _rows(image: RawImage, row_bytes: int, count: int) -> np.ndarray:
    """Return the (count, step) bytes of an image."""
    if image.step < row_bytes:
        raise ValueError(f'expected a step of at least {row_bytes} bytes for {image.width} px '
                         f'{image.encoding}, got {image.step}; correct the camera driver')
    size = image.step * count
    if len(image.data) < size:
        raise ValueError(f'expected {size} bytes of data (step {image.step} x {count} rows), got '
                         f'{len(image.data)}; correct the camera driver')
    return np.frombuffer(image.data, np.uint8, size).reshape(count, image.step)


def decode(data: bytes, formats: dict[str, str] = COMPRESSED, note: str = '') -> Frame:
    """
    Decode a compressed image.

    :param formats: accepted formats, COMPRESSED or FILES.
    :param note: text for the error about data of another format.
    :raises ValueError: for data of another format, cut, damaged or too large.
    """
    try:
        with PillowImage.open(io.BytesIO(data), formats=list(formats)) as header:  # no pixels yet
            check_size(*header.size)
            kind = header.format or ''
    except OSError as error:  # of another format, or cut within its header
        *others, last = formats.values()
        raise ValueError(f'expected a {", ".join(others)} or {last} image, got {len(data)} bytes '
                         f'of another format{note}: {error}') from error
    except PillowImage.DecompressionBombError as error:
        raise ValueError(f'expected at most {MAX_PIXELS} px: {error}') from error
    # A cut JPEG would decode to a picture with grey rows; cameras may pad behind its end mark.
    if kind == 'JPEG' and b'\xff\xd9' not in data[-1024:]:
        raise ValueError(f'expected a whole JPEG image, got {len(data)} bytes without an end mark')
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f'expected a {formats.get(kind, kind)} image, got {len(data)} bytes that '
                         'do not decode')
    return Frame(pixels, 'bgr')
