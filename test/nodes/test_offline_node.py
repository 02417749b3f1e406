"""The classifier on a robot without a network: words it knows, and words it does not."""
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from support import offline_student
from support.offline_student import IDENTITY, no_hub
from support.ros_processes import Process, Ros
from vl2v_msgs.msg import Vocabulary
from vl2v_msgs.srv import SetVocabulary

Request = SetVocabulary.Request
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
REASON = f'the text tower {IDENTITY} is not cached, and there is no network (127.0.0.1:'


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('offline')
    offline_student.write(folder, graph=True)
    return folder


def start(ros: Ros, folder: Path, vocabulary: object, **parameters: object) -> Process:
    return ros.start('classifier_node', {
        'checkpoint': folder / 'student.safetensors', 'vocabulary': vocabulary, 'device': 'cpu',
        'cache_dir': folder / 'cache', **parameters},
        env=no_hub(folder / 'hub'), fresh=True)


@pytest.fixture(scope='module')
def process(ros: Ros, folder: Path) -> Iterator[Process]:
    with start(ros, folder, 'mug, alarm clock') as process:
        yield process.wait_for_output('labels images of')


def change(ros: Ros, *labels: str, **fields: Any) -> SetVocabulary.Response:
    return ros.call(SetVocabulary, 'classifier/set_vocabulary', labels=labels, **fields)


def in_force(ros: Ros) -> list[str]:
    return list(ros.subscribe(Vocabulary, 'classifier/vocabulary', LATCHED).wait_for(bool).labels)


def prompts_said(ros: Ros) -> str:
    """Return the next diagnosis of the vocabulary's prompts."""
    message = ros.subscribe(DiagnosticArray, '/diagnostics').wait_for(bool)
    found, = (status for status in message.status if status.name.endswith(': vocabulary'))
    return {entry.key: entry.value for entry in found.values}['prompts']


def test_words_that_are_not_known_are_refused_and_the_list_stays(
        ros: Ros, process: Process) -> None:
    before = change(ros, 'mug', 'alarm clock')
    assert before.success and before.message == 'the vocabulary now has 2 label(s)'
    for fields in ({}, {'operation': Request.ADD}):
        reply = change(ros, 'orange', 'red mug', 'xyzzy', **fields)
        assert not reply.success
        assert reply.message.startswith("cannot encode label 'red mug' (known: mug, coffee mug), "
                                        f"label 'xyzzy'; {REASON}")
        assert reply.message.endswith('; the vocabulary is unchanged')
        assert (reply.version, list(reply.labels)) == (before.version, ['mug', 'alarm clock'])
    assert in_force(ros) == ['mug', 'alarm clock']
    assert 'set_vocabulary: cannot encode label' in process.output


def test_known_words_are_put_in_force(ros: Ros, process: Process) -> None:
    reply = change(ros, 'orange', 'calculator', 'light bulb')
    assert reply.success and in_force(ros) == ['orange', 'calculator', 'light bulb']
    # The template of this student is not known of this one name, but another is.
    assert '1 of 3 labels lack a part' in reply.message
    assert "are used: 'a calculator'" in reply.message
    assert change(ros, 'orange', 'calculator', operation=Request.REMOVE).success
    assert change(ros, operation=Request.RESET).labels == ['mug', 'alarm clock']


def test_descriptions_without_effect_are_said(ros: Ros, process: Process) -> None:
    assert prompts_said(ros) == 'all 2 are in use'
    reply = change(ros, 'mug', 'orange', descriptions=['It has a handle.', ''])
    assert reply.success
    note = f'1 of 2 labels lack a part of their prompts, because {REASON}'
    assert note in reply.message and "are used: 'a photo of a mug'" in reply.message
    assert prompts_said(ros).startswith(note)
    process.wait_for_output(f'vocabulary: {note}')
    process.wait_for_output("prompts in use: 'a photo of a mug', 'a photo of an orange'")
    assert change(ros, 'mug').message == 'the vocabulary now has 1 label(s)'
    assert prompts_said(ros) == 'all 1 are in use'


@pytest.mark.parametrize(('vocabulary', 'parameters', 'message'), [
    ('mug, xyzzy', {}, "cannot encode label 'xyzzy'; "),
    ('mug', {'background': ['an empty table']}, "encode background prompt 'an empty table'; ")])
def test_a_start_with_unknown_words_fails_as_with_any_bad_list(
        ros: Ros, folder: Path, vocabulary: str, parameters: dict[str, object], message: str
        ) -> None:
    with start(ros, folder, vocabulary, **parameters) as process:
        assert process.wait() == 1
    said, = (line for line in process.output.splitlines() if 'FATAL' in line)
    assert message + REASON in said and 'Traceback' not in process.output


def test_a_start_goes_on_with_the_kept_list_or_the_configured_one(
        ros: Ros, folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / 'kept.yaml'
    kept.write_text('labels: [xyzzy]')
    with start(ros, folder, 'orange', persist=kept) as process:
        process.wait_for_output('labels images of')
        assert "cannot encode label 'xyzzy'" in process.output
        assert 'the parameter vocabulary is used instead' in process.output
    assert kept.read_text() == 'labels: [xyzzy]'
