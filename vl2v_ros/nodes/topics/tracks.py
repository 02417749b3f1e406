"""Tracks: which images, and which boxes in them, show the same as those before."""
from collections import Counter
from collections.abc import Hashable

from sensor_msgs.msg import CompressedImage, Image
from vl2v_ros.model.smoothing import Track
from vl2v_ros.nodes.topics.region_pairs import nanoseconds, Pair


def tracks(key: Hashable, asked: Image | CompressedImage | Pair, arrival: int
           ) -> list[Track | None]:
    """
    Return the track of an image, or of each box in it; None for a box without an id of its own.

    :param key: what the images come from.
    :param arrival: when the image came, by a steady clock [ns].
    """
    if not isinstance(asked, Pair):
        return [Track(key, nanoseconds(asked.header.stamp), arrival)]
    stamp = nanoseconds(asked.image.header.stamp)
    names = [region.id for region in asked.regions.detections]
    counts = Counter(names)  # a name that several boxes have tells none of them
    # Hashes, as a name may have any length.
    return [Track((key, hash(name)), stamp, arrival) if name and counts[name] == 1 else None
            for name in names]
