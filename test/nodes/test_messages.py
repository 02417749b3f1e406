"""Messages <-> frames and predictions: pure functions, no DDS."""
from dataclasses import replace
import io
import random
import struct
import zlib

import cv2
import numpy as np
from PIL import Image as PillowImage
import pytest
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from support.tiny_models import given
from vl2v_ros.images.frame import to_rgb
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.nodes import messages
from vl2v_ros.nodes.messages import to_frame, to_image
from vl2v_ros.words.explain import Reason
from vl2v_ros.words.labels import check_labels

HEIGHT, WIDTH = 48, 64
HEADER = Header(frame_id='head_camera')
# Left half red, right half blue, so that neither channels nor axes can be swapped unseen.
RGB = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
RGB[:, :WIDTH // 2, 0] = 200
RGB[:, WIDTH // 2:, 2] = 90

FROM_RGB = {
    'rgb8': lambda rgb: rgb,
    'bgr8': lambda rgb: rgb[..., ::-1],
    'rgba8': lambda rgb: np.dstack([rgb, np.full(rgb.shape[:2], 7, np.uint8)]),
    'bgra8': lambda rgb: np.dstack([rgb[..., ::-1], np.full(rgb.shape[:2], 7, np.uint8)]),
    '8UC3': lambda rgb: rgb[..., ::-1],
    '8UC4': lambda rgb: np.dstack([rgb[..., ::-1], np.full(rgb.shape[:2], 7, np.uint8)]),
}


def raw(layout: str = 'rgb8', **changes: object) -> Image:
    message = to_image(np.ascontiguousarray(FROM_RGB[layout](RGB)), layout, HEADER)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def encoded(extension: str) -> bytes:
    return cv2.imencode(extension, RGB[..., ::-1])[1].tobytes()


def compressed(data: bytes) -> CompressedImage:
    return CompressedImage(header=HEADER, format='jpeg', data=data)


def png_header(width: int, height: int) -> bytes:
    """Declare an 8 bit RGB PNG of a size whose few pixels are not there."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack(
            '>I', zlib.crc32(kind + data))
    return b'\x89PNG\r\n\x1a\n' + chunk(
        b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)) + chunk(
        b'IDAT', zlib.compress(b'\x00')) + chunk(b'IEND', b'')


@pytest.mark.parametrize('encoding', FROM_RGB)
def test_colours_of_raw_images_are_right(encoding: str) -> None:
    assert np.array_equal(to_rgb(to_frame(raw(encoding))), RGB)


@pytest.mark.parametrize('encoding', ['mono8', '8UC1'])
def test_grey_images_become_three_equal_channels(encoding: str) -> None:
    grey = np.ascontiguousarray(RGB[..., 0])
    assert np.array_equal(to_rgb(to_frame(to_image(grey, encoding, HEADER))),
                          np.dstack([grey] * 3))


def test_padding_between_rows_is_no_part_of_the_frame() -> None:
    padded = np.full((HEIGHT, WIDTH * 3 + 5), 99, np.uint8)
    padded[:, :WIDTH * 3] = RGB.reshape(HEIGHT, -1)
    message = raw(step=padded.shape[1], data=messages.byte_array(padded))
    assert np.array_equal(to_rgb(to_frame(message)), RGB)


def test_raw_pixels_are_a_view_of_the_message() -> None:
    message = raw()
    frame = to_frame(message)
    message.data[0] = 17
    assert frame.pixels[0, 0, 0] == 17


def test_surplus_data_is_ignored() -> None:
    message = raw()
    message.data.extend(b'more')
    assert np.array_equal(to_rgb(to_frame(message)), RGB)


@pytest.mark.parametrize(('changes', 'reason'), [
    ({'encoding': 'rbg8'}, "got 'rbg8'; is it 'rgb8'?"),
    ({'encoding': 'RGB8'}, "got 'RGB8'; is it 'rgb8'?"),
    ({'encoding': ''}, "got ''"),
    ({'encoding': '64FC1'}, "got '64FC1'"),
    ({'width': 0}, 'at least 1 x 1 px, got 0 x 48'),
    ({'height': 0}, 'at least 1 x 1 px, got 64 x 0'),
    ({'step': WIDTH * 3 - 1}, 'step of at least 192 bytes for 64 px rgb8, got 191'),
    ({'encoding': 'yuv422', 'step': 127}, 'step of at least 128 bytes for 64 px yuv422, got 127'),
    ({'encoding': 'rgb16', 'step': 192}, 'step of at least 384 bytes for 64 px rgb16, got 192'),
    ({'step': 0}, 'step of at least 192 bytes for 64 px rgb8, got 0'),
    ({'height': HEIGHT + 1}, r'9408 bytes of data \(step 192 x 49 rows\), got 9216'),
    ({'data': b''}, r'9216 bytes of data \(step 192 x 48 rows\), got 0'),
    ({'width': 16384, 'height': 16384, 'step': 3 * 16384}, '8192 x 8192.*16384 x 16384'),
    ({'width': 2 ** 32 - 1, 'height': 2 ** 32 - 1}, '8192 x 8192'),
])
def test_raw_images_that_are_none_are_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        to_frame(raw(**changes))


def test_a_grey_image_of_16384_squared_is_refused_by_the_stated_limit() -> None:
    side = 16384
    pixels = np.zeros((side, side), np.uint8)
    with pytest.raises(ValueError, match=r'at most 67108864 px .*got 16384 x 16384'):
        to_frame(to_image(pixels, 'mono8', HEADER))


def test_the_largest_image_within_the_limit_is_accepted() -> None:
    pixels = np.zeros((8192, 8192), np.uint8)
    assert to_frame(to_image(pixels, 'mono8', HEADER)).pixels.shape == (8192, 8192, 1)


def test_other_encodings_are_converted() -> None:
    bayer = np.zeros((HEIGHT, WIDTH), np.uint8)
    bayer[::2, ::2] = 200  # rggb: the red places
    rgb = to_rgb(to_frame(to_image(bayer, 'bayer_rggb8', HEADER)))
    assert (rgb[8:-8, 8:-8].reshape(-1, 3).mean(0) > (150, -1, -1)).all()
    assert rgb[8:-8, 8:-8, 1:].max() == 0


@pytest.mark.parametrize(('extension', 'tolerance'), [('.png', 0), ('.tiff', 0), ('.jpg', 12),
                                                      ('.webp', 12)])
def test_colours_of_compressed_images_are_right(extension: str, tolerance: int) -> None:
    rgb = to_rgb(to_frame(compressed(encoded(extension)))).astype(int)
    inner = np.r_[4:28, 36:60]  # away from the edge between the halves, which JPEG blurs
    assert abs(rgb[:, inner] - RGB[:, inner]).max() <= tolerance


def test_a_grey_jpeg_is_accepted() -> None:
    data = cv2.imencode('.jpg', np.full((HEIGHT, WIDTH), 77, np.uint8))[1].tobytes()
    assert abs(to_rgb(to_frame(compressed(data))).astype(int) - 77).max() <= 2


def test_padding_behind_a_jpeg_is_ignored() -> None:
    assert to_frame(compressed(encoded('.jpg') + bytes(200))).pixels.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(('data', 'reason'), [
    (b'', 'got 0 bytes of another format'),
    (b'no image at all', 'expected a JPEG, PNG, TIFF or WebP image, got 15 bytes'),
    (encoded('.jpg')[:-20], 'without an end mark'),
    (encoded('.png')[:-30], 'whole PNG image, got .* bytes without an end mark'),
    (png_header(16384, 16384), 'expected at most 67108864 px'),
    (png_header(9000, 9000), 'at most 67108864 px .8192 x 8192., got 9000 x 9000'),
    (encoded('.bmp'), 'expected a JPEG, PNG, TIFF or WebP image'),
], ids=['empty', 'text', 'cut JPEG', 'cut PNG', 'bomb', 'too large', 'other format'])
def test_compressed_images_that_are_none_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        to_frame(compressed(data))


@pytest.mark.filterwarnings('ignore::UserWarning')  # of PIL about what is broken
@pytest.mark.parametrize('extension', ['.jpg', '.png', '.tiff', '.webp'])
def test_whatever_is_broken_in_a_compressed_image_only_a_value_error_comes(extension: str) -> None:
    chance, data, refused = random.Random(0), encoded(extension), 0
    cut = [data[:length] for length in range(0, len(data), 7)]
    changed = []
    for _ in range(300):
        copy = bytearray(data)
        for _ in range(3):
            copy[chance.randrange(chance.choice((30, len(copy))))] = chance.randrange(256)
        changed.append(bytes(copy))
    for broken in cut + changed:
        try:
            to_frame(compressed(broken))
        except ValueError:
            refused += 1
    assert refused >= len(cut)


def test_an_image_of_another_format_is_no_way_to_another_decoder() -> None:
    gif = io.BytesIO()
    PillowImage.fromarray(RGB).save(gif, 'GIF')
    with pytest.raises(ValueError, match='expected a JPEG'):
        to_frame(compressed(gif.getvalue()))


def test_to_image_states_the_layout_of_its_pixels() -> None:
    message = to_image(RGB, 'rgb8', HEADER)
    assert (message.height, message.width, message.step) == (HEIGHT, WIDTH, 3 * WIDTH)
    assert message.encoding == 'rgb8'
    assert message.header == HEADER
    assert bytes(message.data) == RGB.tobytes()


PREDICTION = Prediction(('mug', 'cup', 'bowl'), (0.5, 0.25, 0.125), (0.625, 0.25, 0.125), False,
                        0.25, 7)


def test_label_array_holds_the_whole_prediction() -> None:
    message = messages.to_label_array(PREDICTION, HEADER)
    assert [(entry.label, entry.similarity, entry.score) for entry in message.labels] == [
        ('mug', 0.5, 0.625), ('cup', 0.25, 0.25), ('bowl', 0.125, 0.125)]
    assert (message.vocabulary_version, message.unknown, message.unknown_score) == (7, False, 0.25)
    assert message.header == HEADER


def test_classification_of_what_is_unknown_is_empty() -> None:
    # As a background prompt is nearer, though the similarities reach the threshold.
    unknown = replace(PREDICTION, unknown=True)
    message = messages.to_classification(unknown, HEADER, -1.0, 0.0)
    assert (message.results, message.header) == ([], HEADER)
    assert len(messages.to_label_array(unknown, HEADER).labels) == 3


@pytest.mark.parametrize(('unknown_threshold', 'score_threshold', 'left'), [
    (-1.0, 0.0, ['mug', 'cup', 'bowl']), (0.25, 0.0, ['mug', 'cup']),
    (-1.0, 0.5, ['mug']), (0.6, 0.0, []), (-1.0, 0.7, [])])
def test_classification_leaves_out_what_is_below_a_threshold(
        unknown_threshold: float, score_threshold: float, left: list[str]) -> None:
    message = messages.to_classification(PREDICTION, HEADER, unknown_threshold, score_threshold)
    assert [result.class_id for result in message.results] == left
    assert [result.score for result in message.results] == [0.625, 0.25, 0.125][:len(left)]
    assert message.header == HEADER


def test_the_vocabulary_messages_name_the_same_labels_and_version() -> None:
    sentences = ('with a handle', 'open above')
    vocabulary = replace(given({'mug': [1, 0], 'cup': [0, 1], 'bowl': [1, 1]}, 3),
                         descriptions=(sentences, (), ('round',)))
    message = messages.to_vocabulary(vocabulary)
    assert (message.version, message.labels, message.descriptions) == (
        3, ['mug', 'cup', 'bowl'], ['with a handle\nopen above', '', 'round'])
    assert list(message.examples) == [0, 0, 0]
    # A client may send them back as they are.
    entries = check_labels(message.labels, message.descriptions)
    assert [entry.descriptions for entry in entries.values()] == [sentences, (), ('round',)]
    info = messages.to_vision_info(vocabulary, '/classifier/vocabulary', HEADER)
    assert (info.database_location, info.database_version) == ('/classifier/vocabulary', 3)
    labels = messages.to_label_info(0.5, HEADER)
    assert (labels.threshold, labels.class_map) == (0.5, [])  # class_id is the name, no number


def test_description_matches_are_the_reasons_in_their_order() -> None:
    found = [Reason('mug', 'a photo of a mug.', 0.5), Reason('', 'an empty table', -0.25)]
    assert [(match.label, match.prompt, match.similarity)
            for match in messages.to_description_matches(found)] == [
        ('mug', 'a photo of a mug.', 0.5), ('', 'an empty table', -0.25)]
    assert messages.to_description_matches([]) == []


@pytest.mark.parametrize('message', [
    Image(height=1, width=1, encoding='rgb8' * 10 ** 5), CompressedImage(format='jpeg' * 10 ** 5)],
    ids=['encoding', 'format'])
def test_a_refusal_stays_short_whatever_a_peer_sends(message: Image | CompressedImage) -> None:
    with pytest.raises(ValueError, match='expected') as refused:
        to_frame(message)
    assert len(str(refused.value)) < 1000  # it is logged, and published once a second
