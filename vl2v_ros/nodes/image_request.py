"""What ~/classify asks of the worker: one image, or boxes in it, on demand."""
from concurrent.futures import Future

from vision_msgs.msg import Detection2DArray
from vl2v_msgs.msg import LabelArray
from vl2v_msgs.srv import ClassifyImage
from vl2v_ros.images.frame import Frame
from vl2v_ros.model.classifier import Classifier
from vl2v_ros.nodes import messages
from vl2v_ros.nodes.topics.region_pairs import Pair
from vl2v_ros.nodes.worker import Asked, Current, Predictions, whole
from vl2v_ros.words import explain


class ImageRequest:
    """
    One request, and the response to it.

    asked: what the worker labels.
    done: the response, once there is one.
    """

    def __init__(self, classifier: Classifier, request: ClassifyImage.Request) -> None:
        """Store the classifier that the worker runs, and what is asked for."""
        self._classifier, image = classifier, request.image
        self.asked: Asked = Pair(image, Detection2DArray(
            header=image.header, detections=request.regions)) if request.regions else image
        self.done: Future[ClassifyImage.Response] = Future()

    def answer(self, asked: Asked, frame: Frame, predictions: Predictions, used: Current) -> None:
        """Respond; only the worker's thread, which calls this, may run the model for sentences."""
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
            prediction = whole(predictions)
            embedding, = self._classifier.embed([frame])
            response.result = messages.to_label_array(prediction, asked.header)
            response.matches = messages.to_description_matches(
                explain.reasons(embedding, used.vocabulary, prediction.labels))
        self.done.set_result(response)

    def refuse(self, reason: str) -> None:
        """Pass the reason on, unless the result came before another image's made the node fail."""
        if not self.done.done():
            self.done.set_result(ClassifyImage.Response(message=reason))
