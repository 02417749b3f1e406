"""A camera's calibration: where in space the light of a pixel comes from."""
from collections.abc import Sequence
from dataclasses import dataclass
import math
from typing import Protocol

import cv2
import numpy as np

# Distortion models of sensor_msgs/CameraInfo, and how many coefficients OpenCV takes of each.
MODELS = {'plumb_bob': (4, 5), 'rational_polynomial': (8, 12, 14), 'equidistant': (4,)}
FISHEYE = 'equidistant'
STEEPEST = 100.0  # slope of a ray; OpenCV gives -1000000 for none


class Region(Protocol):
    """The fields of a sensor_msgs/RegionOfInterest."""

    x_offset: int
    y_offset: int
    height: int
    width: int


class Info(Protocol):
    """The fields of a sensor_msgs/CameraInfo: rclpy's class, or that of another library."""

    height: int
    width: int
    distortion_model: str
    d: Sequence[float]
    k: Sequence[float]
    p: Sequence[float]
    roi: Region


@dataclass(frozen=True)
class Camera:
    """
    Where a camera's pixels look.

    matrix: (3, 3) intrinsics, for pixels of the whole sensor.
    distortion: coefficients as OpenCV orders them, none for a rectified image.
    fisheye: whether they are of the equidistant model.
    corner: the first pixel of the sensor that is in the image, x and y.
    size: width and height of the part of the sensor that is in the image [px]; a binned or scaled
        image has fewer pixels.
    """

    matrix: np.ndarray
    distortion: tuple[float, ...]
    fisheye: bool
    corner: tuple[int, int]
    size: tuple[int, int]

    def rays(self, points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """
        Return the (N, 2) slopes x / z and y / z of the rays of some pixels, in its optical frame.

        They are NaN where the model of the lens has no answer.

        :param points: (N, 2) float, x and y from the corner of an image of this camera [px].
        :param size: width and height of that image [px].
        :raises ValueError: for an image of another shape.
        """
        scale = ratio(self.size, size, 'camera_info')
        # A calibration counts from the middle of the first pixel.
        whole = (points * scale + self.corner - 0.5).reshape(-1, 1, 2)
        undistort = cv2.fisheye.undistortPoints if self.fisheye else cv2.undistortPoints
        rays = undistort(whole, self.matrix, np.array(self.distortion)).reshape(-1, 2)
        return np.where(np.abs(rays) < STEEPEST, rays, np.nan)


def camera_of(info: Info, rectified: bool) -> Camera:
    """
    Return the camera that a sensor_msgs/CameraInfo describes.

    :param rectified: whether its images are rectified, so that P holds for them; else K and D.
    :raises ValueError: for a camera that is not calibrated, or of an unknown distortion model.
    """
    name, values = ('p', info.p) if rectified else ('k', info.k)
    matrix = np.array(values, np.float64).reshape(3, -1)[:, :3]
    if not np.isfinite(matrix).all() or min(matrix[0, 0], matrix[1, 1]) <= 0:
        raise ValueError(f'expected a camera_info with focal lengths above 0 in {name}, got '
                         f'{matrix[0, 0]:g} and {matrix[1, 1]:g}; calibrate the camera')
    if min(info.width, info.height) <= 0:
        raise ValueError('expected a camera_info with the size of the image, got '
                         f'{info.width} x {info.height} px; correct the camera driver')
    coefficients = () if rectified else tuple(info.d)
    if not any(coefficients):  # many drivers give zeros, of any model
        coefficients = ()
    elif (model := info.distortion_model) not in MODELS:
        raise ValueError(f'expected a distortion model of {", ".join(MODELS)}, got '
                         f'{model!r:.80}; publish rectified images and set `rectified`')
    elif len(coefficients) not in MODELS[model] or not all(map(math.isfinite, coefficients)):
        raise ValueError(f'expected {" or ".join(map(str, MODELS[model]))} finite '
                         f'coefficients d of {model!r}, got '
                         f'{list(coefficients)!r:.80}; calibrate the camera')
    fisheye = bool(coefficients) and info.distortion_model == FISHEYE
    region = info.roi
    return Camera(matrix, coefficients, fisheye, (region.x_offset, region.y_offset),
                  (region.width or info.width, region.height or info.height))


def ratio(wide: tuple[int, int], narrow: tuple[int, int], what: str) -> float:
    """
    Return how many pixels of one image are as wide as a pixel of the other.

    :param wide, narrow: width and height of both [px].
    :param what: the name of the first, for the error.
    :raises ValueError: where their shapes differ by more than a pixel: they show different parts.
    """
    factor = wide[0] / narrow[0]
    if abs(wide[1] - narrow[1] * factor) > max(1, factor):
        raise ValueError(f'expected a {what} of the size of the image, {narrow[0]} x {narrow[1]} '
                         f'px, or scaled, got {wide[0]} x {wide[1]} px; use what the driver '
                         'registers to this image')
    return factor
