"""Bad images and requests over DDS: each gets a clear answer, and the node continues."""
from collections.abc import Iterator
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import pytest
from support.ros_processes import Camera, LABELS, Process, Received, Ros, wait_until
from test_messages import encoded, png_header
from vl2v_msgs.msg import LabelArray
from vl2v_msgs.srv import SetVocabulary

Request = SetVocabulary.Request


@pytest.fixture(scope='module')
def process(ros: Ros, settings: dict[str, object]) -> Iterator[Process]:
    """Yield a classifier with two cameras, one of each transport."""
    with ros.classifier(settings | {'cameras': ['raw', 'jpeg'], 'top_k': 1000}) as process:
        yield process
        assert 'Traceback' not in process.output


@pytest.fixture(scope='module')
def camera(ros: Ros, process: Process) -> Camera:
    return Camera(ros, 'raw/image', 'classifier/raw/labels')


@pytest.fixture(scope='module')
def diagnostics(ros: Ros, process: Process) -> Received[DiagnosticArray]:
    return ros.subscribe(DiagnosticArray, '/diagnostics')


def refusals(message: DiagnosticArray, side: str) -> tuple[int, str]:
    """Return how many images of a camera were refused, and why the last one was."""
    status, = (status for status in message.status if status.name == f'/classifier: {side}')
    values = {entry.key: entry.value for entry in status.values}
    return int(values['refused']), values['last refusal']


def wait_for_refusal(diagnostics: Received[DiagnosticArray], side: str, reason: str) -> None:
    """Wait for a diagnosis whose last refusal has a reason; it is taken after this call."""
    diagnostics.wait_for(lambda message: reason in refusals(message, side)[1],
                         since=len(diagnostics.messages))


@pytest.mark.parametrize(('changes', 'reason'), [
    ({'encoding': 'rbg8'}, "got 'rbg8'; is it 'rgb8'?"),
    ({'encoding': '64FC1'}, "got '64FC1'"),
    ({'encoding': 'nv24'}, 'expected 27648 bytes of data (step 192 x 144 rows), got 9216'),
    ({'data': b'short'}, 'expected 9216 bytes of data (step 192 x 48 rows), got 5'),
    ({'data': b''}, 'expected 9216 bytes of data (step 192 x 48 rows), got 0'),
    ({'width': 0}, 'at least 1 x 1 px, got 0 x 48'),
    ({'height': 0}, 'at least 1 x 1 px, got 64 x 0'),
    ({'step': 191}, 'step of at least 192 bytes for 64 px rgb8, got 191'),
    ({'width': 16384, 'height': 16384, 'step': 49152}, 'at most 67108864 px'),
])
def test_a_bad_image_is_refused_with_a_reason_and_a_good_one_answered(
        camera: Camera, diagnostics: Received[DiagnosticArray], changes: dict[str, Any],
        reason: str) -> None:
    camera.send(**changes)
    wait_for_refusal(diagnostics, 'raw', reason)
    assert len(camera.show().labels) == len(LABELS)


@pytest.fixture(scope='module')
def jpeg(ros: Ros, process: Process) -> Camera:
    return Camera(ros, 'jpeg/image/compressed', 'classifier/jpeg/labels')


@pytest.mark.parametrize(('data', 'reason'), [
    (b'', 'got 0 bytes of another format'),
    (b'\xff\xd8\xff\xe0 no picture', 'without an end mark'),
    (encoded('.jpg')[:200], 'expected a'),
    (encoded('.jpg')[:-20], 'without an end mark'),
    (png_header(16384, 16384), 'at most 67108864 px'),
], ids=['empty', 'no image', 'cut header', 'cut end', 'bomb'])
def test_a_bad_compressed_image_is_refused_with_a_reason_and_a_good_one_answered(
        jpeg: Camera, diagnostics: Received[DiagnosticArray], data: bytes, reason: str) -> None:
    jpeg.send(data=data)
    wait_for_refusal(diagnostics, 'jpeg', reason)
    assert len(jpeg.show().labels) == len(LABELS)


def test_images_far_too_large_do_the_node_no_harm(camera: Camera, process: Process) -> None:
    answer = wait_for_answer(camera, np.zeros((7000, 7000), np.uint8))
    assert len(answer.labels) == len(LABELS)
    before = process.rss
    # 256 MiB do not fit the shared memory; an image right behind them may be lost with them.
    camera.send(np.zeros((16384, 16384), np.uint8), 'mono8')
    wait_for_answer(camera, np.zeros((48, 64), np.uint8))
    assert process.rss < before + 2 ** 20  # [KiB]


def wait_for_answer(camera: Camera, pixels: np.ndarray) -> LabelArray:
    """Send a grey image again and again until it is answered."""
    first = len(camera.answers.messages)
    wait_until(lambda: camera.send(pixels, 'mono8') and len(camera.answers.messages) > first,
               'answer', step=0.5)
    return camera.answers.messages[-1]


def change(ros: Ros, operation: int = Request.REPLACE, **fields: Any) -> SetVocabulary.Response:
    return ros.call(SetVocabulary, 'classifier/set_vocabulary', operation=operation, **fields)


@pytest.fixture
def restored(ros: Ros, process: Process) -> Iterator[None]:
    yield
    assert change(ros, Request.RESET).success


@pytest.mark.usefixtures('restored')
@pytest.mark.parametrize(('fields', 'reason'), [
    ({'labels': []}, 'expected at least one label'),
    ({'labels': ['mug', ' \t ']}, 'label 2: expected'),
    ({'labels': ['mug', '']}, 'label 2: expected a name, got a blank'),
    ({'labels': ['mug', 'cup', ' Mug ']}, "label 3: 'Mug' repeats 'mug'"),
    ({'labels': ['mug\nred']}, 'label 1: expected one line without control characters'),
    ({'labels': ['x' * 201]}, 'label 1: expected at most 200 characters, got 201'),
    ({'labels': ['mug', 'cup'], 'descriptions': ['one']}, 'one per label (2), got 1'),
    ({'labels': ['mug'], 'descriptions': ['one\ttab']}, 'label 1, description 1: expected one'),
    ({'labels': ['mug'], 'operation': 4}, 'REPLACE (0), ADD (1), REMOVE (2) or RESET (3), got 4'),
    ({'labels': ['mug'], 'operation': Request.REMOVE}, "got 'mug'; nothing was removed"),
    ({'labels': ['x' * 10 ** 5], 'operation': Request.REMOVE}, 'xxx; nothing was removed'),
    ({'labels': LABELS, 'operation': Request.REMOVE}, 'at least one label to stay'),
    ({'labels': [LABELS[0], 'mug'], 'operation': Request.REMOVE}, "got 'mug'"),
    ({'labels': ['mug', ''], 'operation': Request.ADD}, 'label 2: expected a name, got a blank'),
    ({'labels': [f'{number}' for number in range(10001)]}, 'at most 10000 labels, got 10001'),
])
def test_a_bad_vocabulary_is_refused_with_a_reason_and_the_old_one_stays(
        ros: Ros, camera: Camera, fields: dict[str, Any], reason: str) -> None:
    before = camera.show()
    reply = change(ros, **fields)
    assert not reply.success
    assert reason in reply.message
    assert reply.message.endswith('the vocabulary is unchanged')
    assert tuple(reply.labels) == LABELS
    answer = camera.show()
    assert answer.labels == before.labels
    assert reply.version == answer.vocabulary_version == before.vocabulary_version


@pytest.mark.usefixtures('restored')
def test_labels_are_added_removed_and_reset(ros: Ros, camera: Camera) -> None:
    version = 0
    for operation, labels, left in (
            (Request.REPLACE, ['mug', 'red  apple '], ['mug', 'red apple']),
            (Request.ADD, ['cup', 'MUG'], ['mug', 'red apple', 'cup']),
            (Request.REMOVE, ['Mug'], ['red apple', 'cup']),
            (Request.ADD, [], ['red apple', 'cup']),
            (Request.RESET, ['ignored'], list(LABELS))):
        reply = change(ros, operation, labels=labels)
        assert reply.success, reply.message
        assert reply.labels == left
        assert reply.version > version
        assert reply.seconds > 0
        version = reply.version
        answer = camera.show()
        assert {entry.label for entry in answer.labels} == set(left)
        assert answer.vocabulary_version == version


@pytest.mark.usefixtures('restored')
def test_any_script_and_yaml_words_are_labels(ros: Ros, camera: Camera) -> None:
    labels = ['コップ', 'чашка', 'كوب', 'Tasse à café', '🍌', 'no', '12', '{label}', 'a: b', "'"]
    reply = change(ros, labels=labels)
    assert reply.success, reply.message
    assert reply.labels == labels
    assert {entry.label for entry in camera.show().labels} == set(labels)


@pytest.mark.usefixtures('restored', 'process')
def test_the_labels_whose_prompt_was_cut_are_named(ros: Ros) -> None:
    long = '\u860b\u679c' * 60  # each character is several tokens
    reply = change(ros, labels=['mug', long, 'cup'], descriptions=['', '', 'w ' * 100])
    assert reply.success
    assert 'now has 3 label(s); these prompts were cut, because they are longer' in reply.message
    assert reply.message.endswith(f': {long}, cup')


@pytest.mark.usefixtures('restored', 'process')
def test_a_wish_for_descriptions_that_cannot_be_met_is_said(ros: Ros) -> None:
    reply = change(ros, labels=['mug'], enrich=True)
    assert reply.success
    assert 'not enriched' in reply.message


@pytest.mark.usefixtures('restored', 'process')
def test_descriptions_change_the_prototypes(ros: Ros, camera: Camera) -> None:
    change(ros, labels=['mug', 'cup'])
    plain = {entry.label: entry.similarity for entry in camera.show().labels}
    change(ros, Request.ADD, labels=['mug'], descriptions=['It has a handle.'])
    described = {entry.label: entry.similarity for entry in camera.show().labels}
    assert described['mug'] != plain['mug']
    assert described['cup'] == plain['cup']
