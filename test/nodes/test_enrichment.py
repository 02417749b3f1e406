"""A running classifier that asks a language model: frames flow, and what became of it is said."""
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import pytest
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters
from rclpy.parameter import Parameter
from support.asking_nodes import KEY, LATCHED, new_labels, Request, start
from support.chat_server import (
    Answer,
    ChatServer,
    CLEAN,
    completion,
    INJECTED,
    SAID,
)
from support.ros_processes import draw_frames, Process, Received, Ros, wait_until
from vl2v_msgs.msg import LabelArray, Vocabulary
from vl2v_msgs.srv import SetVocabulary

RATE = 30.0  # [Hz]


@pytest.fixture(scope='module')
def settings(asking: dict[str, object]) -> dict[str, object]:
    return asking


@pytest.fixture(scope='module')
def node(ros: Ros, settings: dict[str, object]) -> Iterator[Process]:
    with start(ros, settings) as process:
        yield process
        assert 'Traceback' not in process.output
        assert KEY not in process.output


@pytest.fixture(scope='module')
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_frames(tmp_path_factory.mktemp('frames') / 'small.npz', 160, 120)


@pytest.fixture(scope='module')
def labels(ros: Ros, node: Process, frames: Path) -> Iterator[Received[LabelArray]]:
    """Yield what a camera is answered that runs all the time."""
    received = ros.subscribe(LabelArray, 'classifier/labels')
    with ros.publish_frames(frames, count=100_000, rate=RATE):
        received.wait_for(bool)
        yield received


@pytest.fixture(scope='module')
def diagnostics(ros: Ros, node: Process) -> Received[DiagnosticArray]:
    return ros.subscribe(DiagnosticArray, '/diagnostics')


@pytest.fixture(scope='module')
def vocabularies(ros: Ros, node: Process) -> Received[Vocabulary]:
    return ros.subscribe(Vocabulary, 'classifier/vocabulary', LATCHED)


def change(ros: Ros, labels: Sequence[str] = (), **fields: Any) -> SetVocabulary.Response:
    return ros.call(SetVocabulary, 'classifier/set_vocabulary', labels=labels, **fields)


def set_parameter(ros: Ros, name: str, value: object) -> str:
    """Change a parameter; return why it was refused, '' if it was not."""
    result, = ros.call(SetParameters, 'classifier/set_parameters', parameters=[
        Parameter(name, value=value).to_parameter_msg()]).results
    assert result.successful is not bool(result.reason)
    return result.reason


def status(message: DiagnosticArray) -> DiagnosticStatus:
    found, = (status for status in message.status if status.name == '/classifier: vocabulary')
    return found


def values(message: DiagnosticArray) -> dict[str, str]:
    return {entry.key: entry.value for entry in status(message).values}


def wait_for_diagnosis(diagnostics: Received[DiagnosticArray], said: str, asked: str
                       ) -> DiagnosticStatus:
    """Wait for one that says this, and that of the descriptions; it is taken after this call."""
    return status(diagnostics.wait_for(
        lambda message: said in status(message).message
        and values(message)['descriptions asked for'] == asked, since=len(diagnostics.messages)))


FAILURES = {
    '500s': (Answer(500, 'database down'), '500 database down'),
    'malformed': (Answer(200, '{"choices": [{"mess'), 'expected the JSON of a chat completion'),
    'empty': (Answer(200, completion('')), 'got an empty answer'),
    '1 MB': (Answer(200, completion('word ' * 200_000)), 'got more than 262144 bytes'),
    'hang': (None, 'timed out'),
    'refused': (Answer(401, f'unknown key {KEY}'), '401: the service refused the key'),
}
SUCCESSES = {
    'normal': ([], None),
    '429 first': ([Answer(429, 'slow down', {'Retry-After': '1'})] * 2, None),
    'instructions': ([Answer(200, completion(INJECTED))] * 2, CLEAN),
}
WAITING = '500s', 'hang', '429 first'


@pytest.fixture
def hanging(ros: Ros, request: pytest.FixtureRequest) -> Iterator[None]:
    """Give up soon where the server hangs."""
    if 'hang' not in request.node.callspec.params.values():
        yield
        return
    assert not set_parameter(ros, 'llm_timeout', 0.5)
    yield
    assert not set_parameter(ros, 'llm_timeout', 30.0)


def answered(labels: Received[LabelArray], first: int) -> float:
    """Return the share of the frames sent that were answered, from answer number `first` on."""
    numbers = [int(answer.header.frame_id.split('#')[1]) for answer in labels.messages[first:]]
    assert len(set(numbers)) == len(numbers) > RATE
    return len(numbers) / (numbers[-1] - numbers[0] + 1)


def check_success(reply: SetVocabulary.Response, vocabularies: Received[Vocabulary],
                  diagnostics: Received[DiagnosticArray], sentence: str | None) -> None:
    """Find the enriched list to be current, as a new version."""
    enriched = vocabularies.wait_for(lambda message: message.version > reply.version)
    assert list(enriched.labels) == list(reply.labels)
    assert list(enriched.descriptions) == [sentence or SAID.format(label)
                                           for label in reply.labels]
    said = wait_for_diagnosis(diagnostics, '2 labels', '2 of 2 found')
    assert said.level == DiagnosticStatus.OK


def check_failure(reply: SetVocabulary.Response, vocabularies: Received[Vocabulary],
                  diagnostics: Received[DiagnosticArray], reason: str) -> None:
    """Find the plain list to be current, and the reason."""
    said = wait_for_diagnosis(diagnostics, reason, '0 of 2 found')
    assert said.level == DiagnosticStatus.WARN
    assert f"no description was found for 2 labels, such as '{reply.labels[0]}'" in said.message \
        or f"no description was found for 2 labels, such as '{reply.labels[1]}'" in said.message
    assert KEY not in said.message
    in_force = vocabularies.messages[-1]
    assert (in_force.version, list(in_force.labels)) == (reply.version, list(reply.labels))
    assert not any(in_force.descriptions)


@pytest.mark.usefixtures('node')
def test_what_is_answered_is_used_where_some_answers_fail(
        ros: Ros, server: ChatServer, vocabularies: Received[Vocabulary],
        diagnostics: Received[DiagnosticArray]) -> None:
    server.reset()
    server.queue = [Answer(400, 'too rude')]
    asked = new_labels(3)
    reply = change(ros, [*asked, 'mug'], descriptions=['', '', '', 'It has a handle.'],
                   enrich=True)
    assert 'descriptions of 3 labels' in reply.message
    enriched = vocabularies.wait_for(lambda message: message.version > reply.version)
    missing, = (label for label, said in zip(enriched.labels, enriched.descriptions, strict=True)
                if not said)
    said = wait_for_diagnosis(diagnostics, f'no description was found for 1 labels, such as '
                                           f'{missing!r}: 400 too rude', '2 of 3 found')
    assert said.level == DiagnosticStatus.WARN
    assert enriched.descriptions[3] == 'It has a handle.'
    # Asked again, only the one that failed is asked for.
    server.seen.clear()
    change(ros, operation=Request.ADD, enrich=True)
    whole = vocabularies.wait_for(lambda message: message.version > enriched.version + 1)
    assert all(whole.descriptions)
    assert len(server.seen) == 1
    reply = change(ros, operation=Request.ADD, enrich=True)
    assert 'every label already has a description' in reply.message


@pytest.mark.usefixtures('node')
def test_a_change_meanwhile_counts_more_than_the_answers(
        ros: Ros, asked_server: ChatServer, vocabularies: Received[Vocabulary],
        diagnostics: Received[DiagnosticArray]) -> None:
    change(ros, new_labels(), enrich=True)
    wait_until(lambda: asked_server.seen, 'a request')
    wait_for_diagnosis(diagnostics, '2 labels', '0 of 2 answered')
    refused = change(ros, ['mug', 'Mug'])  # changes nothing
    assert not refused.success
    wait_for_diagnosis(diagnostics, '2 labels', '0 of 2 answered')
    reply = change(ros, ['mug', 'cup'])
    assert 'the request for descriptions before it was cancelled' in reply.message
    asked_server.open.set()
    again = change(ros, ['bowl'], enrich=True)  # the node's next request is answered
    last = vocabularies.wait_for(lambda message: message.version > again.version)
    assert list(last.labels) == ['bowl']
    known = {message.version: list(message.labels) for message in vocabularies.messages}
    assert known[reply.version] == ['mug', 'cup']
    assert [version for version in known if reply.version < version] == [again.version,
                                                                        last.version]


@pytest.mark.usefixtures('node')
def test_what_is_known_at_once_is_replied(ros: Ros, settings: dict[str, object],
                                          diagnostics: Received[DiagnosticArray]) -> None:
    assert not set_parameter(ros, 'llm_model', '')
    reply = change(ros, new_labels(), enrich=True)
    assert not set_parameter(ros, 'llm_model', str(settings['llm_model']))
    assert reply.success
    reason = 'not enriched: set the parameters llm_endpoint and llm_model'
    assert reason in reply.message
    assert wait_for_diagnosis(diagnostics, reason, 'not asked for').level == DiagnosticStatus.WARN
    change(ros, new_labels())
    wait_for_diagnosis(diagnostics, '2 labels', 'not asked for')  # and no more is wrong


@pytest.mark.usefixtures('node')
def test_a_question_without_its_label_is_refused(ros: Ros) -> None:
    assert 'expected {cls}' in set_parameter(ros, 'llm_question', 'What is it?')


@pytest.mark.usefixtures('node')
@pytest.mark.parametrize(('name', 'value'), [
    ('llm_endpoint', 'http://127.0.0.1:1/v1'), ('llm_key_variable', 'HOME')])
def test_no_peer_can_have_a_key_sent_elsewhere(ros: Ros, name: str, value: str) -> None:
    """Whoever may set parameters would get every variable of the node's environment."""
    assert 'read-only' in set_parameter(ros, name, value)


@pytest.mark.usefixtures('node')
def test_no_parameter_holds_the_key(ros: Ros) -> None:
    names = ros.call(ListParameters, 'classifier/list_parameters').result.names
    assert 'llm_key_variable' in names
    assert KEY not in str(ros.call(GetParameters, 'classifier/get_parameters', names=names))


# While the node only waits, to ask again, others may run.
@pytest.mark.usefixtures('hanging', 'node')
@pytest.mark.parametrize('case', [
    pytest.param(case, marks=() if case in WAITING else pytest.mark.alone)
    for case in (*FAILURES, *SUCCESSES)])
def test_frames_are_labelled_at_full_rate_while_a_request_is_open(
        ros: Ros, server: ChatServer, labels: Received[LabelArray], case: str,
        vocabularies: Received[Vocabulary], diagnostics: Received[DiagnosticArray]) -> None:
    for _ in range(3):
        server.reset()
        server.open.clear()
        if case in SUCCESSES:
            server.queue = list(SUCCESSES[case][0])
        elif FAILURES[case][0]:
            server.always = FAILURES[case][0]
        asked = new_labels()
        first = len(labels.messages)
        reply = change(ros, asked, enrich=True)
        assert reply.success, reply.message
        assert reply.labels == asked
        assert '2 label(s); the language model is asked for descriptions of 2' in reply.message
        wait_until(lambda: server.seen, 'a request')
        begun = len(labels.messages)
        labels.wait_for(lambda _: len(labels.messages) > begun + RATE)
        if case != 'hang':
            server.open.set()
        if case in SUCCESSES:
            check_success(reply, vocabularies, diagnostics, SUCCESSES[case][1])
        else:
            check_failure(reply, vocabularies, diagnostics, FAILURES[case][1])
        share = answered(labels, first)
        print(f'\n{case}: {share:.1%} of the frames were answered')
        if share >= 0.99:
            return
        # Where something else keeps the cores busy, frames are dropped without a request too.
        first = len(labels.messages)
        labels.wait_for(lambda _: len(labels.messages) > first + 2 * RATE)
        usual = answered(labels, first)
        print(f'without a request: {usual:.1%}')
        if usual < 0.99 and share >= 0.9 * usual:
            return
    pytest.fail('fewer frames were answered than without a request, three times')
