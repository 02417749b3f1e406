"""The labelled boxes of one camera, as its overlay shows them."""
from collections.abc import Sequence

from builtin_interfaces.msg import Time
from vision_msgs.msg import Detection2DArray
from vl2v_ros.drawing.boxes import Mark
from vl2v_ros.images.depth import Place
from vl2v_ros.nodes.messages import to_box
from vl2v_ros.nodes.topics.region_pairs import nanoseconds


class Marks:
    """
    Remembers the boxes that were answered last, and their places where depth gave them.

    Its threads share only references that are replaced as a whole.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._found: Detection2DArray | None = None
        self._placed: tuple[Detection2DArray | None, Sequence[Place | None]] = None, ()

    def clear(self) -> None:
        """Forget all boxes."""
        self._found, self._placed = None, (None, ())

    def answered(self, found: Detection2DArray) -> None:
        """Take labelled boxes."""
        self._found = found

    def placed(self, found: Detection2DArray, places: Sequence[Place | None]) -> None:
        """Take the places of boxes that were answered."""
        self._placed = found, places

    def near(self, stamp: Time, slack: float) -> list[Mark]:
        """Return the boxes answered last if their stamp is within the slack [s], else none."""
        found, (known, places) = self._found, self._placed
        if not found:
            return []
        if abs(nanoseconds(found.header.stamp) - nanoseconds(stamp)) > slack * 1e9:
            return []
        distances = [place.z if place else None for place in places] if known is found else (
            [None] * len(found.detections))
        return [Mark(to_box(one), one.results[0].hypothesis.class_id if one.results else '',
                     distance)
                for one, distance in zip(found.detections, distances, strict=True)]
