"""The embeddings of one camera: what the student makes of its images, for other programs."""
from collections.abc import Sequence
from contextlib import suppress
import queue

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray
from vl2v_msgs.msg import Embedding, EmbeddingArray
from vl2v_ros import frame_profile
from vl2v_ros.images.frame import BLANK, Frame
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.nodes.messages import float_array
from vl2v_ros.words.vectors.origin import Origin

PATIENCE = 5.0  # longest wait for the next image of a camera [s]


class EmbeddingTopics:
    """
    The topics `~/embedding` and `~/region_embeddings` of one camera.

    Messages are made only while somebody subscribes. The vectors are those that the labels were
    found by, so nothing is computed for them; they are of one image each, also where labels are
    smoothed.

    origin: where the vectors come from; set before the first one is published.
    """

    def __init__(self, node: Node, name: str) -> None:
        """Create the topics of the camera `name`."""
        inside = f'{name}/' if name else ''
        self._images = node.create_publisher(Embedding, f'~/{inside}embedding', 10)
        self._regions = node.create_publisher(EmbeddingArray, f'~/{inside}region_embeddings', 10)
        self._takers: list[queue.Queue[tuple[Frame, np.ndarray]]] = []
        self.origin = Origin('')

    def take(self, count: int) -> np.ndarray:
        """
        Wait for the next images, and return their (count, D) embeddings.

        :raises ValueError: if one shows nothing, or if none comes for a while.
        """
        taker: queue.Queue[tuple[Frame, np.ndarray]] = queue.Queue(1)  # others are not kept
        self._takers.append(taker)
        rows: list[np.ndarray] = []
        try:
            while len(rows) < count:
                frame, row = taker.get(timeout=PATIENCE)
                if frame.is_blank():
                    raise ValueError(f'frame {len(rows) + 1}: {BLANK}')
                rows.append(row)
        except queue.Empty:
            raise ValueError(f'expected {count} images of the camera, got {len(rows)}, and then '
                             f'none for {PATIENCE:.0f} s; /diagnostics says why') from None
        finally:
            self._takers.remove(taker)
        return np.stack(rows)

    def wants_regions(self) -> bool:
        """Return whether somebody subscribes to the embeddings of boxes."""
        return bool(self._regions.get_subscription_count())

    def publish(self, header: Header, frame: Frame, prediction: Prediction) -> None:
        """Publish the embedding of an image, by its header, and give it to who waits for it."""
        for taker in tuple(self._takers):
            with suppress(queue.Full):
                taker.put_nowait((frame, prediction.vector()))
        if self._images.get_subscription_count():
            self._images.publish(Embedding(
                header=header, space=self.origin.space, student=self.origin.student,
                vector=float_array([prediction.vector()])))
            frame_profile.mark('embedding')

    def publish_regions(self, header: Header, regions: Detection2DArray,
                        predictions: Sequence[Prediction | None]) -> None:
        """
        Publish the embeddings of boxes in an image.

        :param header: of the image.
        :param predictions: what each box shows; None: too little, it is left out.
        """
        if self.wants_regions():
            there = [(region, prediction) for region, prediction
                     in zip(regions.detections, predictions, strict=True) if prediction]
            self._regions.publish(EmbeddingArray(
                header=header, space=self.origin.space, student=self.origin.student,
                boxes=[region.bbox for region, _ in there], ids=[region.id for region, _ in there],
                vectors=float_array([prediction.vector() for _, prediction in there])))
            frame_profile.mark('embedding')
