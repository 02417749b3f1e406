"""Bytes -> Frame: the layouts of sensor_msgs/Image and the formats of image files, without ROS."""
import difflib
import io
import re
from typing import Protocol

import cv2
import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError
from vl2v_ros.images.conversions import Conversion, CONVERSIONS
from vl2v_ros.images.frame import CHANNELS, check_size, Frame, MAX_PIXELS

# Encodings whose bytes are the pixels: a numpy view is enough. 8UC3 and 8UC4 have OpenCV's order.
VIEWS = {'rgb8': 'rgb', 'bgr8': 'bgr', 'rgba8': 'rgba', 'bgra8': 'bgra', 'mono8': 'mono',
         '8UC1': 'mono', '8UC3': 'bgr', '8UC4': 'bgra'}
COMPRESSED = {'JPEG': 'JPEG', 'PNG': 'PNG', 'TIFF': 'TIFF', 'WEBP': 'WebP'}  # by Pillow's name
FILES = {'BMP': 'BMP', **COMPRESSED}
# A JPEG's head is of segments: a mark and a length. Among pixels no other mark looks like these.
JPEG_SEGMENT = re.compile(rb'\xff+([^\xff])(..)', re.DOTALL)
PNG_START, PNG_END = b'\x89PNG\r\n\x1a\n', b'IEND'
JPEG_START, JPEG_END, JPEG_PIXELS = b'\xff\xd8', 0xd9, b'\xda'


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
        rows = rows_of(image, image.width * channels, image.height)
        return Frame(rows[:, :image.width * channels].reshape(image.height, image.width,
                                                              channels), order)
    if image.encoding not in CONVERSIONS:
        known = (*VIEWS, *CONVERSIONS)
        near = difflib.get_close_matches(image.encoding.lower()[:80], known, 1)
        hint = f'is it {near[0]!r}?' if near else f'known are {", ".join(known)}'
        raise ValueError('expected an encoding of sensor_msgs/image_encodings.hpp that is a '
                         f'colour, grey or depth image, got {image.encoding!r:.80}; {hint}')
    return _converted(image, CONVERSIONS[image.encoding])


def _converted(image: RawImage, conversion: Conversion) -> Frame:
    for side in conversion.even:
        if getattr(image, side) % 2:
            raise ValueError(f'expected an even {side} of {image.encoding!r}, got '
                             f'{image.width} x {image.height} px; correct the camera driver')
    row_bytes = image.width * conversion.row
    rows = rows_of(image, row_bytes, int(image.height * conversion.planes))
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


def rows_of(image: RawImage, row_bytes: int, count: int) -> np.ndarray:
    """
    Return the (count, step) bytes of an image, as a view.

    :param row_bytes: bytes of a row without padding.
    :param count: rows of the message.
    :raises ValueError: for an invalid step or too little data.
    """
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
    Decode a compressed image, upright as its EXIF says; what follows behind its end is no matter.

    :param formats: accepted formats, COMPRESSED or FILES.
    :param note: text for the error about data of another format.
    :raises ValueError: for data of another format, cut, damaged or too large.
    """
    return Frame(_decoded(data, formats, note, cv2.IMREAD_COLOR), 'bgr')


def check_whole(data: bytes, formats: dict[str, str] = FILES) -> None:
    """Raise ValueError as `decode` does, but sooner: it reads a JPEG at an eighth of its size."""
    how = cv2.IMREAD_REDUCED_COLOR_8 if data.startswith(JPEG_START) else cv2.IMREAD_COLOR
    _decoded(data, formats, '', how)


def _decoded(data: bytes, formats: dict[str, str], note: str, how: int) -> np.ndarray:
    # A cut JPEG would decode to a picture with grey rows, by some versions of OpenCV.
    if data.startswith(JPEG_START) and not _is_whole_jpeg(data):
        raise ValueError(f'expected a whole JPEG image, got {len(data)} bytes without an end mark')
    # For a part that claims to be long, OpenCV would take 4 GiB and ten seconds.
    if data.startswith(PNG_START) and not _is_whole_png(data):
        raise ValueError(f'expected a whole PNG image, got {len(data)} bytes without an end mark')
    try:
        with PillowImage.open(io.BytesIO(data), formats=list(formats)) as header:  # no pixels yet
            size = header.size
            kind = formats.get(header.format or '', 'JPEG')  # of which MPO holds several
    except (OSError, ValueError) as error:  # of another format, or cut within its header
        *others, last = formats.values()
        why = '' if isinstance(error, UnidentifiedImageError) else f': {error}'
        raise ValueError(f'expected a {", ".join(others)} or {last} image, got {len(data)} bytes '
                         f'of another format{note}{why}') from error
    except PillowImage.DecompressionBombError as error:
        raise ValueError(f'expected at most {MAX_PIXELS} px: {error}') from error
    check_size(*size)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    except cv2.error:  # it may read another size in the header
        pixels = None
    if pixels is None:
        raise ValueError(f'expected a {kind} image, got {len(data)} bytes that do not decode')
    return pixels


def _is_whole_png(data: bytes) -> bool:
    """Tell whether a PNG's parts, each with its length before it, lead to its end mark."""
    place = len(PNG_START)
    while place + 12 <= len(data):
        if data[place + 4:place + 8] == PNG_END:
            return True
        place += 12 + int.from_bytes(data[place:place + 4], 'big')  # length, name, checksum
    return False


def _is_whole_jpeg(data: bytes) -> bool:
    """Tell whether a JPEG's own end mark is there: not a thumbnail's, nor a next picture's."""
    place = len(JPEG_START)
    while (mark := JPEG_SEGMENT.match(data, place)) and mark[1] != JPEG_PIXELS:
        place = mark.end() + int.from_bytes(mark[2], 'big') - 2  # the length counts itself
    if not mark:
        return False
    rest = np.frombuffer(data, np.uint8, offset=place)  # numpy: bytes.find takes 7 times as long
    marks = rest[np.flatnonzero(rest[:-1] == 0xff) + 1]
    found = marks[(marks == JPEG_START[1]) | (marks == JPEG_END)]
    return len(found) > 0 and bool(found[0] == JPEG_END)
