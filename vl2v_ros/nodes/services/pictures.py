"""Pictures in a request: embedded by the worker, a few at a time, so that cameras go on."""
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Protocol

import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray
from vl2v_ros.images.frame import BLANK, Frame
from vl2v_ros.images.regions import cut
from vl2v_ros.nodes.messages import to_box
from vl2v_ros.nodes.topics.region_pairs import Pair
from vl2v_ros.nodes.worker import Asked, Current, Predictions, Worker

MOST_PICTURES = 100  # of a request
AT_ONCE = 8  # in one batch: more are not faster, and need more memory
TOO_LITTLE = ('expected a box that shows at least region_min_size px of the picture, got one that '
              'is smaller or outside, or region_limit is 0')


class WithPictures(Protocol):
    """A request with pictures: that of ~/encode_image, ~/teach."""

    images: Sequence[Image]
    compressed: Sequence[CompressedImage]
    regions: Sequence[BoundingBox2D]


def asked_of(request: WithPictures) -> list[Asked]:
    """
    Return what the worker is to embed.

    :raises ValueError: for no pictures, too many, or another number of boxes.
    """
    pictures, boxes = [*request.images, *request.compressed], request.regions
    if not 0 < len(pictures) <= MOST_PICTURES:
        raise ValueError(f'expected 1 to {MOST_PICTURES} pictures, got {len(pictures)}')
    if boxes and len(boxes) != len(pictures):
        raise ValueError(f'expected no regions or one per picture ({len(pictures)}), got '
                         f'{len(boxes)}; one of size 0 by 0 is the picture as a whole')
    return [Pair(picture, Detection2DArray(detections=[Detection2D(bbox=box)]))
            if box and (box.size_x or box.size_y) else picture
            for picture, box in zip(pictures, boxes or [None] * len(pictures), strict=True)]


def embed(worker: Worker, asked: Sequence[Asked], must_show: bool = False) -> np.ndarray:
    """
    Return (N, D) float32 unit rows of pictures, or of the box in each.

    :param must_show: refuse what is blank.
    :raises ValueError: for a picture that is none, a box that shows too little, and if the node is
        deactivated.
    """
    return np.stack(list(_embedded(worker, asked, must_show)))


def _embedded(worker: Worker, asked: Sequence[Asked], must_show: bool) -> Iterator[np.ndarray]:
    for start in range(0, len(asked), AT_ONCE):
        askers = [_Asker(must_show) for _ in asked[start:start + AT_ONCE]]
        for asker, one in zip(askers, asked[start:], strict=False):
            worker.submit(asker, one)
        for number, asker in enumerate(askers, start + 1):
            try:
                yield asker.done.result()
            except ValueError as error:
                raise ValueError(f'picture {number}: {error}') from error


def _seen(asked: Asked, frame: Frame, used: Current) -> Frame:
    """Return the part of an image that was embedded."""
    if not isinstance(asked, Pair):
        return frame
    region, = asked.regions.detections
    return cut(frame, to_box(region), used.parameters.region_margin, 0)


class _Asker:
    """Asks the worker for one embedding."""

    def __init__(self, must_show: bool) -> None:
        self._must_show = must_show
        self.done: Future[np.ndarray] = Future()

    def answer(self, asked: Asked, frame: Frame, predictions: Predictions, used: Current) -> None:
        prediction, = predictions
        if prediction is None:
            self.refuse(TOO_LITTLE)
        elif self._must_show and _seen(asked, frame, used).is_blank():
            self.refuse(BLANK)
        else:
            self.done.set_result(prediction.vector())

    def refuse(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(ValueError(reason))
