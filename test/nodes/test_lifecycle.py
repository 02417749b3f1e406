"""The classifier's life: transitions, starts that fail, ends, and what it keeps in memory."""
from collections.abc import Iterator
import gc
import json
from pathlib import Path
import shutil
import signal

from bond.msg import Status
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from safetensors.numpy import save_file
from support.ros_processes import Camera, draw_frames, LABELS, Process, Ros, wait_until
from vl2v_msgs.msg import LabelArray
from vl2v_msgs.srv import ClassifyImage, SetVocabulary
from vl2v_ros.model.classifier import Classifier
from vl2v_ros.nodes.classifier_node import ClassifierNode
from vl2v_ros.nodes.messages import to_image


def state(ros: Ros) -> int:
    return ros.call(GetState, 'classifier/get_state').current_state.id


def transit(ros: Ros, transition: int) -> bool:
    return ros.call(ChangeState, 'classifier/change_state',
                    transition=Transition(id=transition)).success


@pytest.fixture
def manual(ros: Ros, settings: dict[str, object]) -> Iterator[Process]:
    """Yield a classifier that waits for a lifecycle manager."""
    with ros.start('classifier_node', settings | {'autostart': False}) as process:
        yield process.wait_for_output('waits to be configured')  # its forerunner is forgotten then


def test_it_obeys_a_lifecycle_manager(ros: Ros, manual: Process) -> None:
    assert state(ros) == State.PRIMARY_STATE_UNCONFIGURED
    request = to_image(np.zeros((8, 8, 3), np.uint8), 'rgb8', LabelArray().header)
    reply = ros.call(ClassifyImage, 'classifier/classify', image=request)
    assert (reply.success, reply.message) == (False, 'the node is not active; activate it first')
    reply = ros.call(SetVocabulary, 'classifier/set_vocabulary', labels=['mug'])
    assert not reply.success
    assert 'not configured; configure it first' in reply.message
    assert not transit(ros, Transition.TRANSITION_ACTIVATE)
    versions = []
    for _ in range(2):
        assert transit(ros, Transition.TRANSITION_CONFIGURE)
        assert state(ros) == State.PRIMARY_STATE_INACTIVE
        reply = ros.call(SetVocabulary, 'classifier/set_vocabulary', labels=LABELS[:2])
        assert reply.success  # also before it is active
        assert not ros.call(ClassifyImage, 'classifier/classify', image=request).success
        for _ in range(2):
            assert transit(ros, Transition.TRANSITION_ACTIVATE)
            assert state(ros) == State.PRIMARY_STATE_ACTIVE
            camera = Camera(ros)
            answer = camera.show()
            assert {entry.label for entry in answer.labels} == set(LABELS[:2])
            assert transit(ros, Transition.TRANSITION_DEACTIVATE)
            assert state(ros) == State.PRIMARY_STATE_INACTIVE
            wait_until(lambda: not ros.node.count_subscribers('image'), 'end of subscription')
            camera.close()
        versions.append(answer.vocabulary_version)
        assert transit(ros, Transition.TRANSITION_CLEANUP)
        assert state(ros) == State.PRIMARY_STATE_UNCONFIGURED
    assert versions[1] > versions[0]  # a version stands for one list, also after a clean-up
    assert transit(ros, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert state(ros) == State.PRIMARY_STATE_FINALIZED
    assert manual.stop() == 0, manual.output
    assert 'Traceback' not in manual.output


def test_an_active_node_gives_its_lifecycle_manager_a_bond(ros: Ros, manual: Process) -> None:
    beats = ros.subscribe(Status, 'bond')
    assert transit(ros, Transition.TRANSITION_CONFIGURE)
    instances = []
    for _ in range(2):
        assert {beat.instance_id for beat in beats.messages} == {*instances}  # none while inactive
        before = len(beats.messages)
        assert transit(ros, Transition.TRANSITION_ACTIVATE)
        beat = beats.wait_for(lambda beat: beat.active, before)
        assert (beat.id, beat.heartbeat_period) == ('classifier', 0.25)
        beats.wait_for(lambda beat: beat.active, beats.messages.index(beat) + 1)
        assert transit(ros, Transition.TRANSITION_DEACTIVATE)
        end = beats.wait_for(lambda beat: not beat.active, before)
        assert end.instance_id == beat.instance_id
        instances.append(beat.instance_id)
    assert instances[0] != instances[1]


def test_a_node_that_needs_no_manager_gives_no_bond(ros: Ros, settings: dict[str, object]) -> None:
    """It has a name of its own: the node of the test before may still be known."""
    with ros.classifier(settings, '-r', '__node:=alone'):
        ros.subscribe(LabelArray, 'alone/labels')  # so that its topics are known
        assert ros.call(GetState, 'alone/get_state').current_state.id == (
            State.PRIMARY_STATE_ACTIVE)
        wait_until(lambda: ('alone', '/') in ros.node.get_node_names_and_namespaces(), 'its name')
        topics = dict(ros.node.get_publisher_names_and_types_by_node('alone', '/'))
        assert '/alone/labels' in topics and '/bond' not in topics


def test_shutdown_of_an_active_node_ends_its_answers(ros: Ros, settings: dict[str, object]
                                                     ) -> None:
    with ros.classifier(settings) as process:
        camera = Camera(ros)
        camera.show()
        assert transit(ros, Transition.TRANSITION_ACTIVE_SHUTDOWN)
        assert state(ros) == State.PRIMARY_STATE_FINALIZED
        assert not ros.node.count_subscribers('image')
        assert process.stop(signal.SIGTERM) == 0
        camera.close()


def test_a_failed_configure_can_be_repeated(ros: Ros, settings: dict[str, object],
                                            shapes_student: Path, tmp_path: Path) -> None:
    late = tmp_path / shapes_student.name
    with ros.start('classifier_node', settings | {'autostart': False, 'checkpoint': late}
                   ).wait_for_output('waits to be configured') as process:
        assert not transit(ros, Transition.TRANSITION_CONFIGURE)
        assert state(ros) == State.PRIMARY_STATE_UNCONFIGURED
        assert str(late) in process.output
        for path in shapes_student.parent.iterdir():
            shutil.copy(path, tmp_path)
        assert transit(ros, Transition.TRANSITION_CONFIGURE)
        assert transit(ros, Transition.TRANSITION_ACTIVATE)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_once_on_a_signal_while_frames_flow(
        ros: Ros, settings: dict[str, object], tmp_path: Path, number: int) -> None:
    frames = draw_frames(tmp_path / 'small.npz', 160, 120)
    with ros.classifier(settings) as process:
        answers = ros.subscribe(LabelArray, 'classifier/labels')
        with ros.publish_frames(frames, count=10000, rate=200.0):
            answers.wait_for(lambda _: len(answers.messages) > 100)
            assert process.stop(number, patience=20) == 0
    assert 'Traceback' not in process.output
    assert 'refused' not in process.output
    assert 'rror' not in process.output


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_it_ends_on_a_signal_while_it_starts(ros: Ros, settings: dict[str, object], number: int
                                             ) -> None:
    process = ros.start('classifier_node', settings, fresh=True).wait_for_output('student ')
    assert process.stop(number, patience=20) == 0
    assert 'Traceback' not in process.output


def broken_checkpoints(student: Path, folder: Path) -> dict[str, list[str]]:
    """Return what is wrong with each file of a folder, as the node has to say it."""
    data = student.read_bytes()
    (folder / 'cut.safetensors').write_bytes(data[:len(data) // 2])
    (folder / 'pickle.safetensors').write_bytes(b'\x80\x04\x95 no safetensors')
    save_file({'weight': np.zeros(3)}, folder / 'foreign.safetensors', {'format': 'pt'})
    config = json.loads((student.parent / 'shapes_text.json').read_text())
    (folder / 'shapes_text.json').write_text(json.dumps(config | {'embed_dim': 512}))
    shutil.copy(student, folder / 'narrow.safetensors')
    return {
        '': ['expected a student', 'parameter checkpoint'],
        'absent.safetensors': ['expected a file, found none at', 'correct the path'],
        'cut.safetensors': ['it is damaged or of another format', 'copy or export it'],
        'pickle.safetensors': ['expected a safetensors file', 'export it again'],
        'foreign.safetensors': ['expected a student written by vl2v_ros', 'found the entries'],
        'narrow.safetensors': ['shapes_text.json', 'expected width 32', 'got 512',
                               'use the text tower the student was distilled with'],
    }


@pytest.mark.parametrize('name', ['', 'narrow.safetensors'])
def test_a_checkpoint_that_is_none_ends_the_process(
        ros: Ros, settings: dict[str, object], shapes_student: Path, tmp_path: Path, name: str
        ) -> None:
    reasons = broken_checkpoints(shapes_student, tmp_path)
    process = ros.start('classifier_node', settings | {
        'checkpoint': tmp_path / name if name else ''})
    assert process.wait() == 1
    assert 'Traceback' not in process.output
    for reason in reasons[name]:
        assert reason in process.output


def test_each_broken_checkpoint_says_what_came_and_what_to_do(
        ros: Ros, settings: dict[str, object], shapes_student: Path, tmp_path: Path,
        capfd: pytest.CaptureFixture[str]) -> None:
    for name, reasons in broken_checkpoints(shapes_student, tmp_path).items():
        check_failure(ros, settings | {'checkpoint': tmp_path / name if name else ''}, reasons,
                      capfd)


@pytest.mark.parametrize(('parameters', 'reasons'), [
    ({'vocabulary': ''}, ['parameter vocabulary: expected at least one label']),
    ({'vocabulary': '/nowhere/list.yaml'}, ['expected a file, found none at /nowhere/list.yaml']),
    ({'vocabulary': 'labels.txt'}, ["got 'labels.txt', which is named like a file"]),
    ({'vocabulary': 'mug, Mug'}, ["label 2: 'Mug' repeats 'mug'"]),
    ({'device': 'cuda:99'}, ["device: expected 'cuda:99', but torch", "use 'auto' or 'cpu'"]),
    ({'device': ''}, ["device: expected 'auto', 'cpu', 'cuda', 'cuda:N' or one of", "got ''"]),
    ({'device': 'tpu'}, ["expected 'auto', 'cpu', 'cuda', 'cuda:N' or one of", "got 'tpu'"]),
])
def test_a_configure_that_fails_says_why(ros: Ros, settings: dict[str, object],
                                         parameters: dict[str, object], reasons: list[str],
                                         capfd: pytest.CaptureFixture[str]) -> None:
    check_failure(ros, settings | parameters, reasons, capfd)


def check_failure(ros: Ros, parameters: dict[str, object], reasons: list[str],
                  capfd: pytest.CaptureFixture[str]) -> None:
    node = in_this_process(ros, parameters)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    node.destroy_node()
    said = capfd.readouterr().err
    assert 'Traceback' not in said
    for reason in reasons:
        assert reason in said


def in_this_process(ros: Ros, parameters: dict[str, object]) -> ClassifierNode:
    return ClassifierNode(context=ros.node.context, parameter_overrides=[
        Parameter(name, value=str(value) if isinstance(value, Path) else value)
        for name, value in parameters.items()])


def test_one_model_serves_all_cameras_and_is_let_go_at_cleanup(
        ros: Ros, settings: dict[str, object]) -> None:
    def classifiers() -> int:
        gc.collect()
        return sum(type(thing) is Classifier for thing in gc.get_objects())
    gc.freeze()  # what is there already is neither collected nor counted
    node = in_this_process(ros, settings | {'cameras': ['front', 'rear', 'left']})
    for _ in range(2):
        assert classifiers() == 0
        node.trigger_configure()
        node.trigger_activate()
        assert classifiers() == 1
        node.trigger_deactivate()
        node.trigger_cleanup()
    assert classifiers() == 0
    gc.unfreeze()
    node.destroy_node()


def test_it_starts_without_text_tower_and_network_once_its_list_is_cached(
        ros: Ros, shapes_student: Path, tmp_path: Path) -> None:
    for path in shapes_student.parent.glob('shapes*'):
        shutil.copy(path, tmp_path)
    parameters = {'checkpoint': tmp_path / shapes_student.name, 'vocabulary': 'red circle, star',
                  'cache_dir': tmp_path / 'cache'}
    with ros.classifier(parameters):
        camera = Camera(ros)
        known = camera.show()
        camera.close()
    for path in tmp_path.glob('shapes_text*'):
        path.unlink()
    with ros.classifier(parameters):
        camera = Camera(ros)
        again = camera.show()
        assert again.labels == known.labels
        reply = ros.call(SetVocabulary, 'classifier/set_vocabulary', labels=['star'])
        assert reply.success
        reply = ros.call(SetVocabulary, 'classifier/set_vocabulary', labels=['never seen'])
        assert not reply.success
        assert 'shapes_text.json' in reply.message
        assert reply.labels == ['star']
        assert [entry.label for entry in camera.show().labels] == ['star']
        camera.close()


def test_memory_after_2000_frames_is_what_it_was_after_200(
        ros: Ros, settings: dict[str, object], tmp_path: Path) -> None:
    frames = draw_frames(tmp_path / 'small.npz', 160, 120)
    with ros.classifier(settings, fresh=True) as process:
        answers = ros.subscribe(LabelArray, 'classifier/labels')
        with ros.publish_frames(frames, count=100_000, rate=1000.0):
            answers.wait_for(lambda _: len(answers.messages) >= 200)
            early = process.rss
            answers.wait_for(lambda _: len(answers.messages) >= 2000)
            late = process.rss
    print(f'\nRSS after 200 frames {early} KiB, after 2000 {late} KiB: {late / early - 1:+.3%}')
    assert abs(late / early - 1) < 0.01
