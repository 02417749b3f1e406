"""~/teach and ~/forget: things are named that the vocabulary had no word for; real processes."""
from collections.abc import Iterator, Sequence
from contextlib import closing
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from support import shapes
from support.ros_processes import Camera, LABELS, Ros
from vision_msgs.msg import BoundingBox2D
from vl2v_msgs.msg import Vocabulary
from vl2v_msgs.srv import ClassifyImage, Forget, Teach
from vl2v_ros.images.encodings import decode
from vl2v_ros.nodes.messages import byte_array, to_image
from vl2v_ros.words.vocabulary_file import parse

ROOT = Path(__file__).parents[2]
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
NEW = 'orange star'  # which LABELS lack
EVERYDAY = [*parse(str(ROOT / 'config/vocabularies/everyday.yaml')).entries]
PRODUCTS = ('Leek', 'Nectarine', 'Oatly-Oat-Milk', 'Passion-Fruit', 'Red-Beet')


def drawn(count: int, seed: int = 0) -> list[Image]:
    rng = np.random.default_rng(seed)
    return [to_image(shapes.draw(NEW, 64, 64, rng), 'rgb8', Header()) for _ in range(count)]


def teach(ros: Ros, label: str = NEW, weight: float = -1.0, **fields: Any) -> Teach.Response:
    return ros.call(Teach, 'classifier/teach', label=label, text_weight=weight, **fields)


def announced(ros: Ros) -> Vocabulary:
    return ros.subscribe(Vocabulary, 'classifier/vocabulary', LATCHED).wait_for(bool)


@pytest.fixture(scope='module')
def parameters(settings: dict[str, object], tmp_path_factory: pytest.TempPathFactory
               ) -> dict[str, object]:
    return settings | {'device': 'cpu', 'unknown_threshold': -1.0,
                       'persist': tmp_path_factory.mktemp('kept') / 'kept.yaml'}


@pytest.fixture
def classifier(ros: Ros, parameters: dict[str, object]) -> Iterator[None]:
    Path(str(parameters['persist'])).unlink(missing_ok=True)
    with ros.classifier(parameters):
        yield


@pytest.mark.usefixtures('classifier')
def test_a_thing_is_taught_seen_and_forgotten(ros: Ros) -> None:
    def named() -> int:
        return sum(ros.call(ClassifyImage, 'classifier/classify', image=image
                            ).result.labels[0].label == NEW for image in drawn(6, seed=1))
    assert not named()
    data = cv2.imencode('.png', shapes.draw(NEW, 64, 64, np.random.default_rng(5))[..., ::-1])[1]
    box = BoundingBox2D(size_x=60.0, size_y=60.0)
    box.center.position.x = box.center.position.y = 32.0
    first = teach(ros, images=drawn(4), weight=0.0, regions=[BoundingBox2D()] * 4 + [box],
                  compressed=[CompressedImage(format='png', data=byte_array(data))])
    assert (first.success, first.count, first.version) == (True, 5, 2), first.message
    assert first.message == f"'{NEW}' has 5 example(s); the vocabulary now has 7 label(s)"
    assert named() >= 5
    said = announced(ros)
    assert (said.version, list(said.labels)) == (2, [*LABELS, NEW])
    assert list(said.examples) == [0] * len(LABELS) + [5]
    matches = ros.call(ClassifyImage, 'classifier/classify', image=drawn(1)[0]).matches
    assert {match.prompt for match in matches if match.label == NEW} >= {
        f'example {number}' for number in range(1, 6)}
    assert teach(ros, 'Orange  Star', images=drawn(1)).count == 6
    assert teach(ros, images=drawn(2), replace=True).count == 2

    with closing(Camera(ros)) as camera:  # the next frames of the camera
        camera.show(shapes.draw(NEW, 64, 64, np.random.default_rng(9)))  # the grey ones are past
        response = None
        client = ros.node.create_client(Teach, 'classifier/teach')
        assert client.wait_for_service(60)
        future = client.call_async(Teach.Request(label=NEW, frames=3, text_weight=-1.0))
        while not future.done():
            camera.show(shapes.draw(NEW, 64, 64, np.random.default_rng(9)))
        response = future.result()
        assert (response.success, response.count) == (True, 5), response.message

    gone = ros.call(Forget, 'classifier/forget', labels=[NEW])
    assert gone.success and list(gone.labels) == [*LABELS], gone.message
    assert not named() and not any(announced(ros).examples)


@pytest.mark.usefixtures('classifier')
def test_what_teaches_nothing_is_refused_and_changes_nothing(ros: Ros) -> None:
    before, image = announced(ros), drawn(1)[0]
    black = to_image(np.zeros((64, 64, 3), np.uint8), 'rgb8', Header())
    text = Image(height=1, width=5, encoding='a mug', step=5, data=[*b'a mug'])
    outside = BoundingBox2D(size_x=9.0, size_y=9.0)
    outside.center.position.x = -1000.0
    for label, fields, said in [
            (NEW, {}, 'expected 1 to 100 pictures, got 0'),
            (NEW, {'images': [Image()] * 10_000}, 'expected 1 to 100 pictures, got 10000'),
            (NEW, {'images': [image, black]}, 'picture 2: expected an image that shows something'),
            (NEW, {'images': [text]}, 'picture 1: expected an encoding of sensor_msgs'),
            (NEW, {'images': [image], 'regions': [outside]}, 'picture 1: expected a box'),
            (NEW, {'images': [image], 'weight': 7.0}, 'text_weight: expected 0.0 to 1.0, got 7.0'),
            (NEW, {'images': [image], 'frames': 2}, 'expected pictures or a number of frames'),
            (NEW, {'frames': 2, 'camera': 'rear'}, "camera: expected one of [''], got 'rear'"),
            (NEW, {'frames': 10_000}, 'frames: expected at most 100, got 10000'),
            (NEW, {'frames': 1}, 'none for 5 s'),
            ('', {'images': [image]}, 'label: expected a name, got a blank')]:
        response = teach(ros, label, **fields)
        assert not response.success and said in response.message, response.message
        assert response.message.endswith('; the vocabulary is unchanged')
        assert '\n' not in response.message and response.version == before.version
    response = ros.call(Forget, 'classifier/forget', labels=[LABELS[0]])
    assert not response.success and 'expected labels that were taught' in response.message
    assert announced(ros) == before


def read(product: str) -> Sequence[CompressedImage]:
    folder = Path(os.environ['VL2V_DATA']) / 'photos/grocery/train' / product
    return [CompressedImage(format='jpeg', data=byte_array(np.fromfile(path, np.uint8)))
            for path in sorted(folder.iterdir())]


@pytest.mark.skipif('VL2V_DATA' not in os.environ, reason='needs the photos')
@pytest.mark.usefixtures('warm_cache')
def test_five_products_are_taught_by_five_photos_each_and_kept(ros: Ros, tmp_path: Path) -> None:
    """None of them was in the student's training, and none has a recorded text."""
    photos = {product: read(product) for product in PRODUCTS}
    settings = {'checkpoint': ROOT / 'models/student.safetensors', 'device': 'cpu',
                'vocabulary': ', '.join(EVERYDAY[::6][:45]), 'persist': tmp_path / 'kept.yaml'}

    def taught() -> list[int]:
        return [count for count in announced(ros).examples if count]

    def named(step: int) -> float:
        right = [ros.call(ClassifyImage, 'classifier/classify', image=to_image(
            decode(bytes(photo.data)).pixels, 'bgr8', Header())).result.labels[0].label == product
            for product, shown in photos.items() for photo in shown[5::step]]
        return sum(right) / len(right)
    with ros.classifier(settings):
        for product, shown in photos.items():
            response = teach(ros, product, compressed=shown[:5])
            assert response.success and response.count == 5, response.message
        assert len(announced(ros).labels) == 50
        share = named(1)
        print(f'{100 * share:.1f} % of {sum(len(shown) - 5 for shown in photos.values())}')
        assert share >= 0.8
        some = named(8)
    with ros.classifier(settings):
        assert taught() == [5] * 5 and named(8) == some
        assert ros.call(Forget, 'classifier/forget').success
        assert not taught() and len(announced(ros).labels) == 45 and named(8) == 0
    with ros.classifier(settings):
        assert not taught()
