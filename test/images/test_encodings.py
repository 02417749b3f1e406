"""Encodings without ROS; what messages of rclpy become is tested in test_messages.py."""
import io
import random

import cv2
import numpy as np
from PIL import Image
import pytest
from support import image_bags
from vl2v_ros.images.encodings import check_whole, COMPRESSED, decode, FILES, view
from vl2v_ros.images.frame import to_rgb

RGB = np.zeros((48, 64, 3), np.uint8)
RGB[:, :32, 0], RGB[:, 32:, 2] = 200, 90  # left half red, right half blue


def encoded(ending: str) -> bytes:
    return cv2.imencode(ending, RGB[..., ::-1])[1].tobytes()


def test_a_message_of_another_library_is_viewed() -> None:
    assert np.array_equal(to_rgb(view(image_bags.raw(RGB, 0, 'bgr8'))), RGB)


@pytest.mark.parametrize(('encoding', 'hint'), [
    ('rbg8', "is it 'rgb8'[?]"), ('NV12', "is it 'nv12'[?]"),
    ('jpeg', 'known are rgb8, bgr8, .*, nv24')])
def test_what_is_no_encoding_is_refused_with_a_hint(encoding: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f'grey or depth image, got {encoding!r}; {hint}'):
        view(image_bags.raw(np.zeros((48, 64, 8), np.uint8), 0, encoding))


def test_a_png_whose_part_claims_to_be_long_is_refused_before_memory_is_taken() -> None:
    data = encoded('.png')
    at = data.index(b'IDAT') - 4
    with pytest.raises(ValueError, match='expected a whole PNG image, got'):
        decode(data[:at] + b'\x7f\xff\xff\xff' + data[at + 4:])
    assert decode(data + b'behind its end').pixels.shape == RGB.shape


def test_a_bitmap_wider_than_opencv_reads_is_refused() -> None:
    data = bytearray(cv2.imencode('.bmp', np.zeros((1, 1024, 3), np.uint8))[1].tobytes())
    data[18:22] = (1 << 21).to_bytes(4, 'little')
    with pytest.raises(ValueError, match='BMP image, got .* bytes that do not decode'):
        decode(bytes(data), FILES)


@pytest.mark.parametrize('ending', ['.bmp', '.png', '.tiff'])
def test_files_keep_their_colours(ending: str) -> None:
    assert np.array_equal(to_rgb(decode(encoded(ending), FILES)), RGB)


def test_only_files_may_be_bitmaps() -> None:
    with pytest.raises(ValueError, match='expected a JPEG, PNG, TIFF or WebP image, got'):
        decode(encoded('.bmp'), COMPRESSED)


def test_what_is_no_image_is_told_with_the_note() -> None:
    with pytest.raises(ValueError, match='BMP, JPEG, PNG, TIFF or WebP image, got 4 bytes '
                                         'of another format of the robot$'):
        decode(b'text', FILES, ' of the robot')


def photo(**options: object) -> bytes:
    data = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    Image.fromarray(noise).save(data, **{'format': 'JPEG', **options})
    return data.getvalue()


WITH_THUMBNAIL = photo(exif=b'Exif\0\0' + photo(quality=20))
KINDS = {'plain': photo(), 'progressive': photo(progressive=True), 'thumbnail': WITH_THUMBNAIL,
         'restarts': photo(restart_marker_blocks=1),
         'several': photo(format='MPO', save_all=True,
                          append_images=[Image.fromarray(RGB)])}


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('behind', [b'\0' * 1100, b'\0' * 10 ** 6, b'\0\0\0\x18ftypmp42' * 500,
                                    b'\xff' * 2000, photo()])
def test_what_follows_a_jpeg_is_no_matter(kind: str, behind: bytes) -> None:
    data = KINDS[kind]
    check_whole(data + behind)
    assert np.array_equal(decode(data + behind).pixels, decode(data).pixels)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('behind', [b'', b'\0' * 1100, photo()], ids=['cut', 'padded', 'next'])
@pytest.mark.parametrize('share', [0.2, 0.6, 0.95])
def test_a_cut_jpeg_is_refused_whatever_follows(kind: str, behind: bytes, share: float) -> None:
    whole = KINDS[kind]
    first = whole[:whole.index(b'\xff\xd9') + 2] if kind == 'several' else whole
    cut = first[:int(len(first) * share)] + behind
    for read in (decode, check_whole):
        with pytest.raises(ValueError, match='expected a'):
            read(cut)


@pytest.mark.parametrize('ending', ['.bmp', '.jpg', '.png', '.tiff', '.webp'])
@pytest.mark.parametrize('side', [1, 3, 48])
def test_the_fast_check_is_of_one_mind_with_decode(ending: str, side: int) -> None:
    data = cv2.imencode(ending, np.full((side, side, 3), 9, np.uint8))[1].tobytes()
    check_whole(data)
    assert decode(data, FILES).pixels.shape == (side, side, 3)
    for cut in (0, 1, len(data) // 2):
        for read in (lambda data: decode(data, FILES), check_whole):
            with pytest.raises(ValueError, match='expected a '):
                read(data[:cut])


def test_a_photo_lies_as_it_was_taken() -> None:
    data, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # the orientation: to be turned by a quarter to the right
    Image.fromarray(RGB).save(data, 'JPEG', exif=exif)
    assert decode(data.getvalue(), FILES).pixels.shape == (64, 48, 3)


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_whatever_is_broken_in_a_bitmap_only_a_value_error_comes() -> None:
    chance, data = random.Random(0), encoded('.bmp')
    for number in range(300):
        broken = bytearray(data[:chance.randrange(len(data))] if number % 3 == 0 else data)
        for _ in range(3):
            if broken:
                broken[chance.randrange(min(60, len(broken)))] = chance.randrange(256)
        try:
            assert decode(bytes(broken), FILES).pixels.ndim == 3
        except ValueError:
            pass
