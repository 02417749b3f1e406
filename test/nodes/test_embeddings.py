"""~/embedding, ~/region_embeddings, ~/encode_text, ~/encode_image: vectors that fit together."""
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from support import shapes
from support.ros_processes import Camera, LABELS, Process, Ros, wait_until
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray
from vl2v_msgs.msg import Embedding, EmbeddingArray
from vl2v_msgs.srv import ClassifyImage, EncodeImage, EncodeText
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.regions import Box, cut
from vl2v_ros.labeller import Labeller
from vl2v_ros.nodes.messages import byte_array, to_image, to_regions
from vl2v_ros.nodes.services.pictures import MOST_PICTURES
from vl2v_ros.words.vectors.origin import Origin, unit_rows

SIDE, MARGIN = 240, 0.1
CLOSE = 2e-3  # in cosine, of a batch of several to one
LEFT = Box(SIDE / 2, SIDE / 2, SIDE - 60.0, SIDE - 60.0)


@pytest.fixture(scope='module')
def labeller(settings: dict[str, object]) -> Labeller:
    return Labeller.open(str(settings['checkpoint']), 'cpu',
                         cache_dir=Path(str(settings['cache_dir'])))


@pytest.fixture(scope='module')
def classifier(ros: Ros, settings: dict[str, object]) -> Process:
    return ros.classifier(settings | {'device': 'cpu', 'region_margin': MARGIN, 'where_size': 96,
                                      'smoothing': 0.5, 'unknown_threshold': -1.0})


@pytest.fixture(scope='module')
def picture() -> np.ndarray:
    """Draw a red circle left, a blue square right."""
    rng = np.random.default_rng(0)
    return np.hstack([shapes.draw(label, SIDE, SIDE, rng, (0, 0)) for label in LABELS[:2]])


@pytest.fixture
def camera(ros: Ros, classifier: Process) -> Iterator[Camera]:
    with closing(Camera(ros)) as camera:
        yield camera


def rows_of(message: object, values: object, labeller: Labeller) -> np.ndarray:
    """Return the vectors of a message, which has to be of the labeller's origin."""
    found = Origin(message.space, getattr(message, 'student', labeller.origin.student))
    assert found == labeller.origin
    return unit_rows(values, found, labeller.origin, width=labeller.spec.width)


def near(rows: np.ndarray, wanted: np.ndarray) -> bool:
    assert rows.shape == wanted.shape
    return bool(((rows * wanted).sum(1) > 1 - CLOSE).all())


def test_each_image_has_the_embedding_that_labels_it(
        ros: Ros, camera: Camera, labeller: Labeller, picture: np.ndarray) -> None:
    embeddings = ros.subscribe(Embedding, 'classifier/embedding')
    words = labeller.vocabulary(LABELS)
    for pixels in picture, picture[:, ::-1].copy():  # with smoothing: each is that of one image
        def seen(pixels: np.ndarray = pixels) -> Embedding | None:
            answer = camera.show(pixels)
            return next((found for found in embeddings.messages
                         if found.header == answer.header), None)
        row = rows_of(found := wait_until(seen, 'embedding'), found.vector, labeller)
        assert near(row, labeller.embed([pixels]))
    asked = ros.call(ClassifyImage, 'classifier/classify', image=to_image(
        picture, 'rgb8', Header()))
    best = asked.result.labels[0]
    assert best.similarity == pytest.approx(
        labeller.embed([picture])[0] @ words.prototypes[words.labels.index(best.label)], abs=CLOSE)


def test_each_box_has_one_with_its_id_or_is_a_box_of_our_own(
        ros: Ros, camera: Camera, labeller: Labeller, picture: np.ndarray) -> None:
    found = ros.subscribe(EmbeddingArray, 'classifier/region_embeddings')

    def own() -> EmbeddingArray | None:
        camera.show(picture)
        return next((message for message in found.messages if message.boxes), None)
    ours = wait_until(own, 'own boxes')
    assert len(rows_of(ours, ours.vectors, labeller)) == len(ours.boxes) == len(ours.ids)
    assert not any(ours.ids)

    detector = ros.publisher(Detection2DArray, 'regions')
    small = Box(1.0 * SIDE, SIDE / 2, 3.0, 3.0)

    def given() -> EmbeddingArray | None:
        header = camera.show(picture).header
        regions = to_regions(header, [small, LEFT])
        regions.detections[1].id = 'left'
        detector.publish(regions)
        return next((message for message in found.messages if list(message.ids) == ['left']), None)
    theirs = wait_until(given, 'boxes of the detector', step=0.3)
    assert theirs.header.frame_id.startswith('frame ')
    assert theirs.boxes[0].size_x == LEFT.width
    wanted = cut(Frame(picture), LEFT, MARGIN, 0)
    assert near(rows_of(theirs, theirs.vectors, labeller), labeller.embed([wanted]))
    ros.node.destroy_publisher(detector)


@pytest.mark.usefixtures('classifier')
def test_texts_and_images_are_embedded_on_demand(
        ros: Ros, labeller: Labeller, picture: np.ndarray) -> None:
    texts = ['a photo of a red circle.', 'a photo of  a blue square.', 'a photo of a red circle.']
    said = ros.call(EncodeText, 'classifier/encode_text', texts=texts)
    assert said.success and not said.message
    assert near(rows_of(said, said.vectors, labeller), labeller.encoder.encode(
        [' '.join(text.split()) for text in texts]).rows)

    count = 9  # more than a batch
    data = cv2.imencode('.png', picture[..., ::-1])[1]
    box = to_regions(Header(), [LEFT]).detections[0].bbox
    seen = ros.call(EncodeImage, 'classifier/encode_image',
                    images=[to_image(picture, 'rgb8', Header())] * count,
                    compressed=[CompressedImage(format='png', data=byte_array(data))],
                    regions=[BoundingBox2D()] * count + [box])
    assert seen.success and not seen.message
    rows = rows_of(seen, seen.vectors, labeller)
    assert near(rows[:count], np.repeat(labeller.embed([picture]), count, axis=0))
    assert near(rows[count:], labeller.embed([cut(Frame(picture), LEFT, MARGIN, 0)]))


@pytest.mark.usefixtures('classifier')
def test_what_is_no_text_and_no_picture_is_refused_in_one_line(ros: Ros, picture: np.ndarray
                                                               ) -> None:
    image, outside = to_image(picture, 'rgb8', Header()), Detection2D().bbox
    outside.center.position.x, outside.size_x, outside.size_y = -1000.0, 9.0, 9.0
    text = Image(height=1, width=5, encoding='a red mug', step=5, data=[*b'a mug'])
    for kind, fields, said in [
            ('text', {'texts': []}, 'texts: expected 1 to 1000, got 0'),
            ('text', {'texts': ['a'] * 1001}, 'texts: expected 1 to 1000, got 1001'),
            ('text', {'texts': ['a mug', ' ']}, 'text 2: expected a sentence, got a blank'),
            ('text', {'texts': ['a\nmug']}, 'text 1: expected one line without control'),
            ('image', {}, f'expected 1 to {MOST_PICTURES} pictures, got 0'),
            ('image', {'images': [Image()] * 101}, 'expected 1 to 100 pictures, got 101'),
            ('image', {'images': [image, text]}, 'picture 2: expected an encoding of sensor_ms'),
            ('image', {'compressed': [CompressedImage(data=[*b'a mug'])]}, 'picture 1: expected'),
            ('image', {'images': [image] * 2, 'regions': [outside]}, 'expected no regions or one'),
            ('image', {'images': [image], 'regions': [outside]}, 'picture 1: expected a box')]:
        service = {'text': EncodeText, 'image': EncodeImage}[kind]
        response = ros.call(service, f'classifier/encode_{kind}', **fields)
        assert not response.success and not response.vectors
        assert said in response.message and '\n' not in response.message
