"""Regions of images: which boxes belong to which image, or to which depth, by their stamps."""
from collections import deque
from dataclasses import dataclass, field
import threading
import time
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

MOST = 100  # images, and arrays of boxes, that wait at a time; the oldest go first


class Pair(NamedTuple):
    """An image, and the boxes in it."""

    image: Image | CompressedImage
    regions: Detection2DArray


class Stamped(Protocol):
    """What is matched by the stamp in its header."""

    @property
    def header(self) -> Header:
        """The header of a message."""


Boxes = TypeVar('Boxes', bound=Stamped)


@dataclass(eq=False)
class _Waiting:
    """A message that waits for its other half, and since when by time.monotonic [s]."""

    stamp: int
    message: Any
    since: float = field(default_factory=time.monotonic)


class Pairing(Generic[Boxes]):
    """
    Finds the image of each array of boxes, of one camera; it is thread-safe.

    Boxes belong to the image with their stamp, else to the image with the nearest stamp, if it
    differs by at most `slack`. Boxes wait for an image that is not older than they are, but never
    longer than `slack`, and no image is kept longer than that. Each array of boxes is used once;
    an image may have several.

    unmatched: count of arrays without an image.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self._lock = threading.Lock()
        self._images: deque[_Waiting] = deque(maxlen=MOST)
        self._regions: deque[_Waiting] = deque()
        self.unmatched = 0

    def add_image(self, image: Image | CompressedImage, slack: float
                  ) -> list[tuple[Image | CompressedImage, Boxes]]:
        """Keep an image; return it or its neighbours with the boxes that waited."""
        with self._lock:
            self._images.append(_Waiting(nanoseconds(image.header.stamp), image))
            return self._pairs(slack)

    def add_regions(self, regions: Boxes, slack: float
                    ) -> list[tuple[Image | CompressedImage, Boxes]]:
        """Take boxes; return them with their image, if it is there already."""
        with self._lock:
            if len(self._regions) == MOST:
                self._regions.popleft()
                self.unmatched += 1
            self._regions.append(_Waiting(nanoseconds(regions.header.stamp), regions))
            return self._pairs(slack)

    def expire(self, slack: float) -> list[tuple[Image | CompressedImage, Boxes]]:
        """Free what has waited too long; return the boxes that still have an image near them."""
        with self._lock:
            return self._pairs(slack)

    def clear(self) -> None:
        """Forget all images and boxes."""
        with self._lock:
            self._images.clear()
            self._regions.clear()

    def _pairs(self, slack: float) -> list[tuple[Image | CompressedImage, Boxes]]:
        now, found = time.monotonic(), []
        while self._images and now - self._images[0].since > slack:
            self._images.popleft()
        for waiting in list(self._regions):
            nearest = min(self._images, default=None,
                          key=lambda image: abs(image.stamp - waiting.stamp))
            newest = max((image.stamp for image in self._images), default=0)
            if nearest and abs(nearest.stamp - waiting.stamp) > slack * 1e9:
                nearest = None
            if newest < waiting.stamp and now - waiting.since < slack:
                continue  # a nearer image may come
            self._regions.remove(waiting)
            if nearest:
                found.append((nearest.message, waiting.message))
            else:
                self.unmatched += 1
        return found


def nanoseconds(stamp: Time) -> int:
    """Return a stamp as one number [ns]."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec
