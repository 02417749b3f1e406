"""The interface packages: type hashes, fields and constants."""

from importlib import import_module
import json
import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
import pytest
import vl2v_msgs.action
import vl2v_msgs.msg
import vl2v_msgs.srv

ROOT = Path(__file__).resolve().parents[2]

# REP 2011 type hashes of vision_msgs 4.1.1. A peer talks to us only if ours are the same.
VISION_MSGS_HASHES = {
    'BoundingBox2D': '008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f',
    'BoundingBox3D': 'bbb73a65c163d7f9bb29009c7bde9f7faa576bd2d23299c4511d19230dab4698',
    'Classification': 'f74db28d0eaef3afb78f48bf2161cd709a1383a0309d3454383b25be11345143',
    'Detection2D': '0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea',
    'Detection2DArray': '214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968',
    'Detection3D': 'ddd703be132ab0b69d33121f1bb034132bfbb3b0ac5f9fb1516005ba1c8a265b',
    'Detection3DArray': '793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018',
    'LabelInfo': '3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783',
    'ObjectHypothesis': '51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90',
    'ObjectHypothesisWithPose':
        '41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc',
    'Point2D': 'eab0e83f44ab4de92ceaf76dd7d0e7638f2bdd1d16ffbe16c7a136c48e407247',
    'Pose2D': 'b0b5d1d7b4c20dd4fcde3ed1d4b289a919290572007d67a97043814db25d3648',
    'VisionClass': '1e4a11f0fed50b5623cb8ff26ca0e37952a48a9c074d16f804b44e9164c2037a',
    'VisionInfo': '95d3116a17484ad91c9a2686e1d54890bbfc3ff6c6a2de137738c4950d45d284',
}

HASHES = {f'vision_msgs/msg/{name}': value for name, value in VISION_MSGS_HASHES.items()} | {
    # bond 4, as upstream's own package gives it when it is built
    'bond/msg/Status': '87eaccffa254ffffadc0b61600452e8251740f06c25659a2dbda4927fdb1f70a',
}

FIELDS = {
    vl2v_msgs.msg.DescriptionMatch: {
        'label': 'string', 'prompt': 'string', 'similarity': 'float',
    },
    vl2v_msgs.msg.Label: {'label': 'string', 'similarity': 'float', 'score': 'float'},
    vl2v_msgs.msg.LabelArray: {
        'header': 'std_msgs/Header', 'vocabulary_version': 'uint64',
        'labels': 'sequence<vl2v_msgs/Label>', 'unknown': 'boolean', 'unknown_score': 'float',
    },
    vl2v_msgs.msg.Vocabulary: {
        'version': 'uint64', 'labels': 'sequence<string>', 'descriptions': 'sequence<string>',
        'examples': 'sequence<uint32>',
    },
    vl2v_msgs.srv.SetVocabulary.Request: {
        'operation': 'uint8', 'labels': 'sequence<string>', 'descriptions': 'sequence<string>',
        'enrich': 'boolean',
    },
    vl2v_msgs.srv.SetVocabulary.Response: {
        'success': 'boolean', 'message': 'string', 'version': 'uint64',
        'labels': 'sequence<string>', 'seconds': 'double',
    },
    vl2v_msgs.srv.ClassifyImage.Request: {
        'image': 'sensor_msgs/Image', 'regions': 'sequence<vision_msgs/Detection2D>',
    },
    vl2v_msgs.srv.ClassifyImage.Response: {
        'success': 'boolean', 'message': 'string', 'result': 'vl2v_msgs/LabelArray',
        'matches': 'sequence<vl2v_msgs/DescriptionMatch>',
        'detections': 'sequence<vision_msgs/Detection2D>',
    },
    vl2v_msgs.msg.Embedding: {
        'header': 'std_msgs/Header', 'space': 'string', 'student': 'string', 'vector':
        'sequence<float>',
    },
    vl2v_msgs.msg.EmbeddingArray: {
        'header': 'std_msgs/Header', 'space': 'string', 'student': 'string', 'boxes':
        'sequence<vision_msgs/BoundingBox2D>', 'ids': 'sequence<string>', 'vectors':
        'sequence<float>',
    },
    vl2v_msgs.msg.Presence: {
        'label': 'string', 'probability': 'float', 'placed': 'boolean', 'place':
        'vision_msgs/Point2D',
    },
    vl2v_msgs.msg.PresenceArray: {
        'header': 'std_msgs/Header', 'vocabulary_version': 'uint64', 'labels':
        'sequence<vl2v_msgs/Presence>',
    },
    vl2v_msgs.msg.Sighting: {
        'first_seen': 'builtin_interfaces/Time', 'last_seen': 'builtin_interfaces/Time', 'count':
        'uint32', 'camera': 'string', 'frame_id': 'string', 'box': 'vision_msgs/BoundingBox2D',
        'position_header': 'std_msgs/Header', 'position': 'geometry_msgs/Point', 'similarity':
        'float', 'thumbnail': 'sensor_msgs/CompressedImage',
    },
    vl2v_msgs.srv.EncodeImage.Request: {
        'images': 'sequence<sensor_msgs/Image>', 'compressed':
        'sequence<sensor_msgs/CompressedImage>', 'regions': 'sequence<vision_msgs/BoundingBox2D>',
    },
    vl2v_msgs.srv.EncodeImage.Response: {
        'success': 'boolean', 'message': 'string', 'space': 'string', 'student': 'string',
        'vectors': 'sequence<float>',
    },
    vl2v_msgs.srv.EncodeText.Request: {
        'texts': 'sequence<string>',
    },
    vl2v_msgs.srv.EncodeText.Response: {
        'success': 'boolean', 'message': 'string', 'space': 'string', 'vectors':
        'sequence<float>',
    },
    vl2v_msgs.srv.Find.Request: {
        'text': 'string', 'image': 'sensor_msgs/CompressedImage', 'camera': 'string', 'after':
        'builtin_interfaces/Time', 'before': 'builtin_interfaces/Time', 'k': 'uint32',
    },
    vl2v_msgs.srv.Find.Response: {
        'success': 'boolean', 'message': 'string', 'sightings': 'sequence<vl2v_msgs/Sighting>',
        'compared': 'uint64', 'seconds': 'double',
    },
    vl2v_msgs.srv.Forget.Request: {
        'labels': 'sequence<string>',
    },
    vl2v_msgs.srv.Forget.Response: {
        'success': 'boolean', 'message': 'string', 'version': 'uint64', 'labels':
        'sequence<string>',
    },
    vl2v_msgs.srv.Teach.Request: {
        'label': 'string', 'images': 'sequence<sensor_msgs/Image>', 'compressed':
        'sequence<sensor_msgs/CompressedImage>', 'regions': 'sequence<vision_msgs/BoundingBox2D>',
        'frames': 'uint32', 'camera': 'string', 'text_weight': 'float', 'replace': 'boolean',
    },
    vl2v_msgs.srv.Teach.Response: {
        'success': 'boolean', 'message': 'string', 'version': 'uint64', 'count': 'uint32',
        'seconds': 'double',
    },
    vl2v_msgs.action.Find.Goal: {
        'text': 'string', 'image': 'sensor_msgs/CompressedImage', 'camera': 'string',
        'similarity': 'float', 'past': 'boolean', 'timeout': 'builtin_interfaces/Duration',
    },
    vl2v_msgs.action.Find.Result: {
        'found': 'boolean', 'message': 'string', 'sighting': 'vl2v_msgs/Sighting',
    },
    vl2v_msgs.action.Find.Feedback: {
        'compared': 'uint64', 'best': 'vl2v_msgs/Sighting',
    },
}


@pytest.mark.parametrize('name', HASHES)
def test_type_hash_equals_upstream(name: str) -> None:
    """The generated type description carries the hash; Humble has neither."""
    if os.environ.get('ROS_DISTRO') == 'humble':
        pytest.skip('ROS 2 Humble has no type hashes; its packages are the originals')
    package, _, message = name.split('/')
    share = Path(get_package_share_directory(package))
    hashes = json.loads((share / 'msg' / f'{message}.json').read_text())['type_hashes']
    found = {entry['type_name']: entry['hash_string'] for entry in hashes}
    assert found[name] == f'RIHS01_{HASHES[name]}'
    assert hasattr(import_module(f'{package}.msg'), message)


@pytest.mark.parametrize('message', FIELDS, ids=lambda message: message.__name__)
def test_fields(message: type) -> None:
    """Name, type and order of every field, and that a default message can be made."""
    assert message.get_fields_and_field_types() == FIELDS[message]
    assert list(message.get_fields_and_field_types()) == list(FIELDS[message])
    message()


def test_every_interface_is_checked() -> None:
    """A message added to vl2v_msgs has to be added to FIELDS."""
    files = {(path.parent.name, path.stem) for path in (ROOT / 'vl2v_msgs').glob('*/*.*')}
    assert files == {(message.__module__.split('.')[1], message.__name__.split('_')[0])
                     for message in FIELDS}


def test_operations() -> None:
    """The constants of SetVocabulary are part of the interface."""
    request = vl2v_msgs.srv.SetVocabulary.Request
    assert (request.REPLACE, request.ADD, request.REMOVE, request.RESET) == (0, 1, 2, 3)
    assert request().operation == request.REPLACE
