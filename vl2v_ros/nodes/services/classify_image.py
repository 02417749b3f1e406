"""~/classify: what one image shows, or boxes in it, on demand."""
from concurrent.futures import Future

from vision_msgs.msg import Detection2DArray
from vl2v_msgs.msg import LabelArray
from vl2v_msgs.srv import ClassifyImage
from vl2v_ros.images.frame import Frame
from vl2v_ros.nodes import messages
from vl2v_ros.nodes.topics.region_pairs import Pair
from vl2v_ros.nodes.worker import Asked, Current, Cut, Predictions, whole, Worker
from vl2v_ros.words import explain


def classify(worker: Worker, request: ClassifyImage.Request) -> ClassifyImage.Response:
    """Wait for the worker's answer."""
    asker = ImageRequest(request)
    worker.submit(asker, asker.asked)
    return asker.done.result()


class ImageRequest:
    """
    One request, and the response to it.

    asked: what the worker labels.
    done: the response, once there is one.
    """

    def __init__(self, request: ClassifyImage.Request) -> None:
        """Store what is asked for."""
        image = request.image
        self.asked: Asked = Pair(image, Detection2DArray(
            header=image.header, detections=request.regions)) if request.regions else image
        self.done: Future[ClassifyImage.Response] = Future()

    def answer(self, asked: Asked, frame: Frame, predictions: Predictions, used: Current) -> None:
        """Respond."""
        response = ClassifyImage.Response(success=True)
        if isinstance(asked, Pair):
            parameters = used.parameters
            assert parameters.unknown_threshold is not None  # the checkpoint's, if not the user's
            response.result = LabelArray(header=asked.image.header,
                                         vocabulary_version=used.vocabulary.version)
            response.detections = messages.to_detections(
                asked.regions, predictions, parameters.unknown_threshold,
                parameters.score_threshold).detections
        else:
            assert not isinstance(asked, Cut)  # which no request is
            prediction = whole(predictions)
            response.result = messages.to_label_array(prediction, asked.header)
            response.matches = messages.to_description_matches(explain.reasons(
                prediction.vector(), used.vocabulary, prediction.labels))
        self.done.set_result(response)

    def refuse(self, reason: str) -> None:
        """Pass the reason on, unless the result came before another image's made the node fail."""
        if not self.done.done():
            self.done.set_result(ClassifyImage.Response(message=reason))
