"""Bytes -> Frame: the layouts of sensor_msgs/Image and the formats of image files, without ROS."""
from collections.abc import Callable
import difflib
import io
from typing import Protocol

import cv2
import numpy as np
from PIL import Image as PillowImage
from vl2v_ros.frame import CHANNELS, check_size, Frame, MAX_PIXELS

# Encodings that are a numpy view of the message; 8UC3 and 8UC4 mean OpenCV's order.
VIEWS = {'rgb8': 'rgb', 'bgr8': 'bgr', 'rgba8': 'rgba', 'bgra8': 'bgra', 'mono8': 'mono',
         '8UC1': 'mono', '8UC3': 'bgr', '8UC4': 'bgra'}
# Encodings that cv_bridge converts, where it is installed, and the bytes per pixel of a row.
CONVERTED = {'mono16': 2, '16UC1': 2, 'rgb16': 6, 'bgr16': 6, 'rgba16': 8, 'bgra16': 8,
             'yuv422': 2, 'yuv422_yuy2': 2, 'uyvy': 2, 'yuyv': 2, 'nv21': 1, 'nv24': 1,
             **{f'bayer_{order}{bits}': bits // 8
                for order in ('rggb', 'bggr', 'gbrg', 'grbg') for bits in (8, 16)}}

COMPRESSED = {'JPEG': 'JPEG', 'PNG': 'PNG', 'TIFF': 'TIFF', 'WEBP': 'WebP'}  # by Pillow's name
FILES = {'BMP': 'BMP', **COMPRESSED}


class RawImage(Protocol):
    """The fields of a sensor_msgs/Image, of rclpy's class or of another library's."""

    height: int
    width: int
    encoding: str
    step: int
    data: bytes  # or another buffer of bytes


def view(image: RawImage, convert: Callable[[RawImage], Frame] | None = None) -> Frame:
    """
    View an uncompressed image's pixels.

    :param convert: is given what is no view, but one of CONVERTED; None: that is refused.
    :raises ValueError: for sizes, steps, data or encodings that are no image.
    """
    check_size(image.width, image.height)
    if image.encoding in VIEWS:
        order = VIEWS[image.encoding]
        channels = CHANNELS[order]
        rows = _rows(image, image.width * channels)
        return Frame(rows[:, :image.width * channels].reshape(image.height, image.width,
                                                              channels), order)
    if image.encoding not in CONVERTED:
        near = difflib.get_close_matches(image.encoding.lower(), (*VIEWS, *CONVERTED), 1)
        hint = f'; is it {near[0]!r}?' if near else ''
        raise ValueError(f'expected an encoding of sensor_msgs/image_encodings.hpp that is a '
                         f'colour or grey image, got {image.encoding!r}{hint}')
    _rows(image, image.width * CONVERTED[image.encoding])  # cv_bridge does not check
    if convert is None:
        raise ValueError(f'expected one of the encodings {", ".join(VIEWS)}, got '
                         f'{image.encoding!r}, which needs cv_bridge: the classifier node reads '
                         'it, and image_proc makes rgb8 of it')
    return convert(image)


def _rows(image: RawImage, row_bytes: int) -> np.ndarray:
    """Return the (H, step) bytes of an image."""
    if image.step < row_bytes:
        raise ValueError(f'expected a step of at least {row_bytes} bytes for {image.width} px '
                         f'{image.encoding}, got {image.step}; correct the camera driver')
    size = image.step * image.height
    if len(image.data) < size:
        raise ValueError(f'expected {size} bytes of data (step {image.step} x height '
                         f'{image.height}), got {len(image.data)}; correct the camera driver')
    return np.frombuffer(image.data, np.uint8, size).reshape(image.height, image.step)


def decode(data: bytes, formats: dict[str, str] = COMPRESSED, note: str = '') -> Frame:
    """
    Decode a compressed image.

    :param formats: that are accepted, COMPRESSED or FILES.
    :param note: told in the error about data that are no image.
    :raises ValueError: for what is none of the formats, cut, damaged or too large.
    """
    try:
        with PillowImage.open(io.BytesIO(data), formats=list(formats)) as header:  # no pixels yet
            check_size(*header.size)
            kind = header.format
    except OSError as error:  # of another format, or cut within its header
        *others, last = formats.values()
        raise ValueError(f'expected a {", ".join(others)} or {last} image, got {len(data)} bytes '
                         f'that are none{note}: {error}') from error
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
