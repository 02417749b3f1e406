"""Image and CompressedImage -> Frame, Prediction -> result messages; pure functions."""
import array
from collections.abc import Sequence
from typing import TYPE_CHECKING

from geometry_msgs.msg import Point, Pose, PoseWithCovariance, Vector3
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    BoundingBox3D,
    Classification,
    Detection2D,
    Detection2DArray,
    Detection3D,
    Detection3DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
    VisionInfo,
)
from vl2v_msgs.msg import DescriptionMatch, Label, LabelArray, Presence, PresenceArray
from vl2v_msgs.msg import Vocabulary as VocabularyMessage
from vl2v_ros.images.depth import Place
from vl2v_ros.images.encodings import decode, view
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.regions import Box
from vl2v_ros.model.presence import Present
from vl2v_ros.words.explain import Reason
from vl2v_ros.words.vocabulary import Vocabulary

if TYPE_CHECKING:  # otherwise each program that publishes images would import torch
    from vl2v_ros.model.prediction import Prediction


def to_frame(message: Image | CompressedImage) -> Frame:
    """
    Return the pixels of a message: viewed or converted (Image) or decoded (CompressedImage).

    :raises ValueError: for an invalid size, step, encoding or data.
    """
    if isinstance(message, CompressedImage):
        return decode(bytes(message.data), note=f' (format field: {message.format!r:.80})')
    return view(message)


def byte_array(pixels: np.ndarray) -> array.array:
    """Copy uint8 values into an array for `data`; with numpy, rclpy is 1000 times slower."""
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(pixels).data.cast('B'))
    return data


def float_array(rows: Sequence[np.ndarray] | np.ndarray) -> array.array:
    """Copy (N, D) values, row by row, into an array for a list of float32, as `byte_array`."""
    return array.array('f', np.asarray(rows, np.float32).tobytes())


def to_image(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    """Wrap contiguous (H, W) or (H, W, C) uint8 pixels of a given encoding."""
    data = byte_array(pixels)
    height, width = pixels.shape[:2]
    return Image(header=header, height=height, width=width, encoding=encoding,
                 step=len(data) // height, data=data)


def to_label_array(prediction: 'Prediction', header: Header) -> LabelArray:
    """Return all labels of a prediction, best first."""
    return LabelArray(
        header=header, vocabulary_version=prediction.vocabulary_version,
        labels=[Label(label=label, similarity=similarity, score=score) for label, similarity, score
                in zip(prediction.labels, prediction.similarities, prediction.scores,
                       strict=True)],
        unknown=prediction.unknown, unknown_score=prediction.unknown_score)


def to_classification(prediction: 'Prediction', header: Header, unknown_threshold: float,
                      score_threshold: float) -> Classification:
    """Return the labels that reach both thresholds, none if the image is unknown."""
    return Classification(header=header, results=[
        ObjectHypothesis(class_id=label, score=score)
        for label, score in prediction.reported(unknown_threshold, score_threshold)])


def to_box(region: Detection2D) -> Box:
    """Return the box of a detection."""
    box = region.bbox
    return Box(box.center.position.x, box.center.position.y, box.size_x, box.size_y,
               box.center.theta)


def to_regions(header: Header, boxes: Sequence[Box]) -> Detection2DArray:
    """Return boxes without labels and without ids."""
    return Detection2DArray(header=header, detections=[
        Detection2D(header=header, bbox=BoundingBox2D(
            center=Pose2D(position=Point2D(x=box.x, y=box.y), theta=box.angle),
            size_x=box.width, size_y=box.height)) for box in boxes])


def to_detections(regions: Detection2DArray, predictions: 'Sequence[Prediction | None]',
                  unknown_threshold: float, score_threshold: float) -> Detection2DArray:
    """
    Return the boxes as they came, with our labels in place of theirs.

    :param predictions: what each box shows; None, as for unknown, gives a box without labels.
    """
    return Detection2DArray(header=regions.header, detections=[
        Detection2D(header=region.header, bbox=region.bbox, id=region.id, results=[
            ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id=label, score=score))
            for label, score in (prediction.reported(unknown_threshold, score_threshold)
                                 if prediction else ())])
        for region, prediction in zip(regions.detections, predictions, strict=True)])


def to_detections_3d(found: Detection2DArray, places: Sequence[Place | None], frame_id: str
                     ) -> Detection3DArray:
    """
    Return those of our detections that have a place in space.

    :param places: of each detection; one of None is left out: zeros would be at the camera.
    :param frame_id: of the camera's optical frame.
    """
    header = Header(stamp=found.header.stamp, frame_id=frame_id)
    return Detection3DArray(header=header, detections=[
        _to_detection_3d(detection, place, header)
        for detection, place in zip(found.detections, places, strict=True) if place])


def _to_detection_3d(detection: Detection2D, place: Place, header: Header) -> Detection3D:
    pose = Pose(position=Point(x=place.x, y=place.y, z=place.z))  # not turned
    size = Vector3(x=place.width, y=place.height, z=place.length)
    return Detection3D(
        header=header, id=detection.id, bbox=BoundingBox3D(center=pose, size=size), results=[
            ObjectHypothesisWithPose(hypothesis=result.hypothesis,
                                     pose=PoseWithCovariance(pose=pose))
            for result in detection.results])


def to_presence(found: Sequence[Present], header: Header, version: int) -> PresenceArray:
    """Return which labels of a version of the vocabulary are present, in the given order."""
    return PresenceArray(header=header, vocabulary_version=version, labels=[
        Presence(label=one.label, probability=one.probability, placed=one.place is not None,
                 place=Point2D(x=one.place[0], y=one.place[1]) if one.place else Point2D())
        for one in found])


def to_description_matches(reasons: Sequence[Reason]) -> list[DescriptionMatch]:
    """Return the similarity of each prompt, in the order of the reasons."""
    return [DescriptionMatch(label=reason.label, prompt=reason.prompt,
                             similarity=reason.similarity) for reason in reasons]


def to_vocabulary(vocabulary: Vocabulary) -> VocabularyMessage:
    """Return the labels of a vocabulary with their descriptions and numbers of examples."""
    return VocabularyMessage(version=vocabulary.version, labels=list(vocabulary.labels),
                             descriptions=['\n'.join(sentences)
                                           for sentences in vocabulary.descriptions],
                             examples=[len(vocabulary.examples.get(label, ()))
                                       for label in vocabulary.labels])


def to_vision_info(vocabulary: Vocabulary, location: str, header: Header) -> VisionInfo:
    """Return where the vocabulary is described: the topic `location`."""
    return VisionInfo(header=header, method='vl2v_ros', database_location=location,
                      database_version=vocabulary.version)


def to_label_info(threshold: float, header: Header) -> LabelInfo:
    """
    Return the smallest score of a result.

    The class map from numbers to names is empty: `class_id` is the name itself.
    """
    return LabelInfo(header=header, threshold=threshold)
