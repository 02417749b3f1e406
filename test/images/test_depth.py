"""How far boxes are: depth images, cameras, and places in space."""
from dataclasses import dataclass, field
import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from vl2v_ros.images.camera import camera_of
from vl2v_ros.images.depth import Depth, Place, places, view_depth
from vl2v_ros.images.regions import Box

WIDTH, HEIGHT, FOCAL = 160, 120, 100.0
K = (FOCAL, 0.0, WIDTH / 2 - 0.5, 0.0, FOCAL, HEIGHT / 2 - 0.5, 0.0, 0.0, 1.0)
WALL, SQUARE = 3.0, 1.5  # distances [m]
LENS = (-0.3, 0.1, 0.001, -0.002, 0.01)


@dataclass
class Info:
    """A sensor_msgs/CameraInfo of another library."""

    width: int = WIDTH
    height: int = HEIGHT
    distortion_model: str = 'plumb_bob'
    d: tuple[float, ...] = (0.0,) * 5
    k: tuple[float, ...] = K
    p: tuple[float, ...] = (2 * FOCAL, 0, WIDTH / 2 - 0.5, 0, 0, 2 * FOCAL, HEIGHT / 2 - 0.5, 0,
                            0, 0, 1, 0)
    roi: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(
        x_offset=0, y_offset=0, width=0, height=0))


def wall_and_square() -> np.ndarray:
    """Return a wall and a nearer square, 40 px wide, 20 px to the right of the middle [m]."""
    depth = np.full((HEIGHT, WIDTH), WALL, np.float32)
    depth[40:80, 80:120] = SQUARE
    return depth


BOX = Box(100, 60, 40, 40)
TRUTH = Place(20 / FOCAL * SQUARE, 0, SQUARE, 40 / FOCAL * SQUARE, 40 / FOCAL * SQUARE, 0)


def place(values: np.ndarray, box: Box = BOX, info: Info | None = None,
          size: tuple[int, int] = (WIDTH, HEIGHT), rectified: bool = False) -> Place | None:
    """Return the place of one box among others, by depth in metres."""
    camera = camera_of(info or Info(), rectified)
    nothing, found = places(Depth(values, 1.0), [Box(-99, 0, 9, 9), box], camera, size, 0.05, 20)
    assert nothing is None
    return found


def near(found: Place | None, expected: Place, within: float = 1e-6) -> bool:
    assert found
    return np.allclose([*vars(found).values()], [*vars(expected).values()], atol=within)


def test_a_square_before_a_wall() -> None:
    assert near(place(wall_and_square()), TRUTH)
    # A detector's box is often too large, and things in a heap cover each other.
    large = place(wall_and_square(), Box(100, 60, 50, 50))
    assert large and (large.x, large.y, large.z) == pytest.approx((0.3, 0, SQUARE))
    upright = place(wall_and_square(), Box(100, 60, 40, 40, math.pi / 2))
    assert near(upright, TRUTH)


def test_a_large_box_and_one_over_the_border() -> None:
    slope = np.tile(np.linspace(1, 2, WIDTH, dtype=np.float32), (HEIGHT, 1))
    found = place(slope, Box(WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT))
    assert found and found.z == pytest.approx(1.05 + 0.4 * 0.9, abs=0.02)
    assert found.length == pytest.approx(2 * 0.35 * 0.9, abs=0.03)
    corner = place(np.full((HEIGHT, WIDTH), 2, np.float32), Box(0, 0, 40, 20))
    assert near(corner, Place(-1.4, -1.1, 2, 0.4, 0.2, 0))  # the part inside


@pytest.mark.parametrize('invalid', [0, np.nan, np.inf, -np.inf, 0.01, 99, -1])
def test_invalid_depth_is_left_out(invalid: float) -> None:
    values = wall_and_square()
    values[::2] = invalid
    assert near(place(values), TRUTH)
    values[:] = invalid
    assert place(values) is None
    values[58:60, 98:102] = SQUARE  # a few pixels are no object
    assert place(values) is None


def test_depth_of_another_size_is_scaled_if_its_shape_is_the_same() -> None:
    half = wall_and_square()[::2, ::2]
    assert near(place(half), TRUTH)
    doubled = place(wall_and_square(), Box(200, 120, 80, 80), Info(), (2 * WIDTH, 2 * HEIGHT))
    assert near(doubled, TRUTH)  # an image that is larger than its depth and its camera_info
    with pytest.raises(ValueError, match='expected a depth image of the size of the image, 160 x '
                                         '120 px, or scaled, got 120 x 120 px; use what'):
        place(wall_and_square()[:, :120])
    with pytest.raises(ValueError, match='expected a camera_info of the size of the image, 160 x '
                                         '120 px, or scaled, got 160 x 90 px'):
        place(wall_and_square(), info=Info(height=90))


def test_a_region_of_the_sensor_and_binning() -> None:
    region = SimpleNamespace(x_offset=100, y_offset=50, width=2 * WIDTH, height=2 * HEIGHT)
    k = (2 * FOCAL, 0, 100 + WIDTH - 0.5, 0, 2 * FOCAL, 50 + HEIGHT - 0.5, 0, 0, 1)
    assert near(place(wall_and_square(), info=Info(640, 480, k=k, roi=region)), TRUTH)


def test_a_rectified_image_is_seen_by_p() -> None:
    found = place(wall_and_square(), info=Info(d=LENS, distortion_model='odd'), rectified=True)
    assert near(found, Place(0.15, 0, SQUARE, 0.3, 0.3, 0))


@pytest.mark.parametrize('model, lens', [
    ('plumb_bob', LENS), ('plumb_bob', LENS[:4]), ('equidistant', (0.1, -0.05, 0.01, 0.0)),
    ('rational_polynomial', (*LENS, 0.02, 0.01, 0.0))])
def test_a_lens_is_undone(model: str, lens: tuple[float, ...]) -> None:
    project = cv2.fisheye.projectPoints if model == 'equidistant' else cv2.projectPoints
    there = np.array([[[0.6, -0.3, 2.0]]])
    pixel = project(there, np.zeros(3), np.zeros(3), np.reshape(K, (3, 3)), np.array(lens))[0]
    x, y = (pixel.ravel() + 0.5).tolist()
    found = place(np.full((HEIGHT, WIDTH), 2, np.float32), Box(x, y, 10, 10),
                  Info(d=lens, distortion_model=model))
    assert found and (found.x, found.y, found.z) == pytest.approx((0.6, -0.3, 2.0), abs=1e-3)


@pytest.mark.parametrize('info, message', [
    (Info(k=(0.0,) * 9), 'expected a camera_info with focal lengths above 0 in k, got 0 and 0; '
                         'calibrate the camera'),
    (Info(k=(math.nan,) * 9), 'focal lengths above 0 in k, got nan'),
    (Info(width=0), 'expected a camera_info with the size of the image, got 0 x 120 px'),
    (Info(d=LENS, distortion_model='odd'), "expected a distortion model of plumb_bob, .*, got "
                                           "'odd'; publish rectified images"),
    (Info(d=LENS[:3]), "expected 4 or 5 finite coefficients d of 'plumb_bob', got"),
    (Info(d=(math.inf,) * 5), 'expected 4 or 5 finite')])
def test_a_camera_without_calibration_is_refused(info: Info, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        camera_of(info, rectified=False)


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('info', [
    Info(k=(1e-320, 0, 0, 0, 1e-320, 0, 0, 0, 1)), Info(k=(1e308, 0, 1e308, 0, 1e308, 0, 0, 0, 1)),
    Info(d=(1e308, -1e308, 0.0, 0.0), distortion_model='equidistant'),
    Info(d=(1e300, 1e300, 1e300, 1e300), distortion_model='plumb_bob')])
def test_numbers_of_no_camera_give_no_place(info: Info) -> None:
    assert place(wall_and_square(), info=info) is None


@pytest.mark.filterwarnings('error')
def test_random_bits_are_depth_or_none() -> None:
    bits = np.random.default_rng(0).integers(0, 2 ** 32, (HEIGHT, WIDTH), np.uint32)
    found = place(bits.view(np.float32))
    assert found is None or 0.05 <= found.z <= 20


def test_a_camera_needs_no_lens() -> None:
    assert near(place(wall_and_square(), info=Info(d=(), distortion_model='')), TRUTH)


def message(values: np.ndarray, encoding: str, **changes: object) -> SimpleNamespace:
    height, width = values.shape
    fields = {'height': height, 'width': width, 'encoding': encoding, 'is_bigendian': 0,
              'step': width * values.itemsize, 'data': values.tobytes()}
    return SimpleNamespace(**(fields | changes))


def test_messages_are_viewed_in_their_own_unit() -> None:
    metres = wall_and_square()
    millimetres = (metres * 1000).astype(np.uint16)
    for image in (message(metres, '32FC1'), message(millimetres, '16UC1'),
                  message(millimetres.byteswap(), '16UC1', is_bigendian=1),
                  message(np.pad(millimetres, ((0, 0), (0, 3))), '16UC1', width=WIDTH)):
        depth = view_depth(image)
        assert not depth.values.flags.owndata
        assert np.allclose(depth.values * depth.unit, metres)


@pytest.mark.parametrize('image, expected', [
    (message(wall_and_square(), 'rgb8'), r"image of 16UC1 \[mm\] or 32FC1 \[m\], got 'rgb8'"),
    (message(wall_and_square(), '32FC1', step=WIDTH), 'expected a step of at least 640'),
    (message(wall_and_square(), '32FC1', data=b''), 'expected 76800 bytes of data'),
    (message(wall_and_square(), '32FC1', height=0), 'expected an image of at least 1 x 1 px')])
def test_what_is_no_depth_is_refused(image: SimpleNamespace, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        view_depth(image)
