"""Encodings that are converted: each against an image made by hand, and cv_bridge where it is."""
import numpy as np
import pytest
from support import image_bags
from vl2v_ros.images.conversions import CONVERSIONS
from vl2v_ros.images.encodings import view, VIEWS
from vl2v_ros.images.frame import Frame, to_rgb

HEIGHT, WIDTH = 48, 64
RGB = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
RGB[:, :32], RGB[:, 32:] = (200, 30, 60), (40, 120, 220)  # left red, right blue
INNER = np.r_[4:28, 36:60]  # columns away from the edge
# BT.601 of limited range, RGB in [0, 1] -> Y, U, V.
YUV = np.round(RGB / 255 @ np.array([
    [65.481, -37.797, 112.0], [128.553, -74.203, -93.786], [24.966, 112.0, -18.214]])
    + (16, 128, 128)).astype(np.uint8)


def bayer(order: str, kind: str) -> np.ndarray:
    """Take one colour of each pixel, in the pattern that a name such as rggb spells."""
    mosaic = np.empty((HEIGHT, WIDTH), kind)
    for place, letter in enumerate(order):
        row, column = divmod(place, 2)
        mosaic[row::2, column::2] = RGB[row::2, column::2, 'rgb'.index(letter)]
    return mosaic * np.array(257 if kind == 'u2' else 1, kind)


def packed(first: str) -> np.ndarray:
    """Interleave brightness and the colours of each two pixels; first: 'y' or 'u'."""
    pairs = np.empty((HEIGHT, WIDTH, 2), np.uint8)
    colours = np.where(np.arange(WIDTH) % 2 == 0, YUV[..., 1], YUV[..., 2])
    pairs[..., 0], pairs[..., 1] = (YUV[..., 0], colours) if first == 'y' else (
        colours, YUV[..., 0])
    return pairs


def planes(order: str, step: int = 2) -> np.ndarray:
    """Let brightness be followed by U and V ('uv') of each step x step pixels, side by side."""
    colours = YUV[::step, ::step, 1:] if order == 'uv' else YUV[::step, ::step, :0:-1]
    return np.concatenate([YUV[..., 0].ravel(), colours.ravel()])


MADE = {
    **{f'bayer_{order}{8 * size}': bayer(order, f'u{size}')
       for order in ('rggb', 'bggr', 'gbrg', 'grbg') for size in (1, 2)},
    'rgb16': RGB * np.uint16(257), 'bgr16': RGB[..., ::-1] * np.uint16(257),
    'rgba16': np.dstack([RGB, RGB[..., 0]]) * np.uint16(257),
    'bgra16': np.dstack([RGB[..., ::-1], RGB[..., 0]]) * np.uint16(257),
    'yuv422': packed('u'), 'uyvy': packed('u'), 'yuv422_yuy2': packed('y'), 'yuyv': packed('y'),
    'nv12': planes('uv'), 'nv21': planes('vu'), 'nv24': planes('uv', 1)}


def message(values: np.ndarray, encoding: str, **changes: object) -> object:
    """Return a message of another library than rclpy's, of WIDTH x HEIGHT."""
    data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    return image_bags.raw(np.zeros((HEIGHT, WIDTH, 1), np.uint8), 0, encoding, **{
        'step': WIDTH * CONVERSIONS[encoding].row, 'data': data, **changes})


def test_each_is_converted_or_a_view() -> None:
    assert CONVERSIONS.keys() == {*MADE, 'mono16', '16UC1', '32FC1'}
    assert not CONVERSIONS.keys() & VIEWS.keys()


@pytest.mark.parametrize('encoding', MADE)
def test_colours_are_right(encoding: str) -> None:
    rgb = to_rgb(view(message(MADE[encoding], encoding))).astype(int)
    assert abs(rgb - RGB)[4:-4, INNER].max() <= 3


@pytest.mark.parametrize('encoding', [name for name in MADE if CONVERSIONS[name].values == 'u2'])
def test_the_order_of_bytes_is_heeded(encoding: str) -> None:
    swapped = message(MADE[encoding].astype('>u2'), encoding, is_bigendian=1)
    assert np.array_equal(to_rgb(view(swapped)),
                          to_rgb(view(message(MADE[encoding], encoding))))


@pytest.mark.parametrize('encoding', MADE)
def test_rows_may_be_padded(encoding: str) -> None:
    rows = np.frombuffer(MADE[encoding].tobytes(), np.uint8).reshape(
        -1, WIDTH * CONVERSIONS[encoding].row)
    padded = np.pad(rows, ((0, 0), (0, 6)), constant_values=99)
    sent = message(padded, encoding, step=padded.shape[1])
    if encoding == 'nv24':  # its colours' rows are twice as long: where would the padding be?
        with pytest.raises(ValueError, match="'nv24' without padding, step 64, got step 70"):
            view(sent)
    else:
        assert np.array_equal(to_rgb(view(sent)), to_rgb(view(message(rows, encoding))))


def grey(values: np.ndarray, encoding: str) -> list[int]:
    """Return what the first three values of an image become; the others are the first."""
    pixels = np.full((HEIGHT, WIDTH), values[0], values.dtype)
    pixels.flat[:3] = values
    frame: Frame = view(message(pixels, encoding))
    assert (frame.order, frame.pixels.shape) == ('mono', (HEIGHT, WIDTH, 1))
    return frame.pixels.ravel()[:3].tolist()


def test_16_bits_of_grey_are_divided_by_257() -> None:
    assert grey(np.array([0, 257 * 99, 65535], 'u2'), 'mono16') == [0, 99, 255]


def test_depth_is_stretched_over_what_is_known() -> None:
    assert grey(np.array([0, 500, 1500], 'u2'), '16UC1') == [0, 0, 255]
    assert grey(np.array([500, 1000, 1500], 'u2'), '16UC1') == [0, 128, 255]
    assert grey(np.array([np.nan, 0.5, 2.0], 'f4'), '32FC1') == [0, 0, 255]
    assert grey(np.array([np.inf, -3e38, 3e38], 'f4'), '32FC1') == [0, 0, 255]
    assert grey(np.zeros(3, 'u2'), '16UC1') == grey(np.full(3, np.nan, 'f4'), '32FC1') == [0] * 3
    assert grey(np.full(3, 7, 'u2'), '16UC1') == [0] * 3


@pytest.mark.parametrize('encoding', CONVERSIONS)
@pytest.mark.parametrize('side', [1, 2, 3])
def test_of_the_smallest_images_only_a_value_error_comes(encoding: str, side: int) -> None:
    data = np.full(16 * side * side, 255, np.uint8)
    try:
        frame = view(message(data, encoding, width=side, height=side,
                             step=side * CONVERSIONS[encoding].row))
    except ValueError as error:
        assert f'expected an even width of {encoding!r}' in str(error)
    else:
        assert frame.pixels.shape[:2] == (side, side)


@pytest.mark.parametrize(('changes', 'reason'), [
    ({'data': bytes(100)}, r'expected 4608 bytes of data \(step 64 x 72 rows\), got 100'),
    ({'height': 47}, 'expected an even height of .nv12., got 64 x 47 px'),
    ({'step': 63}, 'expected a step of at least 64 bytes')])
def test_what_does_not_fit_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        view(message(MADE['nv12'], 'nv12', **changes))


@pytest.mark.parametrize('encoding', [name for name in (*MADE, 'mono16')
                                      if not name.startswith(('nv', 'uyvy', 'yuyv'))])
def test_cv_bridge_says_the_same(encoding: str) -> None:
    cv_bridge = pytest.importorskip('cv_bridge', exc_type=Exception)
    from sensor_msgs.msg import Image
    values = MADE.get(encoding, RGB[..., 0] * np.uint16(257))
    sent = Image(width=WIDTH, height=HEIGHT, encoding=encoding,
                 step=WIDTH * CONVERSIONS[encoding].row, data=values.tobytes())
    theirs = cv_bridge.CvBridge().imgmsg_to_cv2(sent, 'rgb8')
    assert abs(to_rgb(view(sent)).astype(int) - theirs).max() <= 1
