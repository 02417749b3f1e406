"""Descriptions for the running node: an invalid start, and the end."""
import threading

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import pytest
from support.asking_nodes import LATCHED, new_labels, Request, start
from support.chat_server import ChatServer
from support.ros_processes import LABELS, Ros, wait_until
from test_lifecycle import check_failure as check_failed_configure
from test_lifecycle import in_this_process
from vl2v_msgs.msg import Vocabulary
from vl2v_msgs.srv import SetVocabulary


@pytest.fixture(scope='module')
def settings(asking: dict[str, object]) -> dict[str, object]:
    return asking


@pytest.mark.parametrize(('name', 'value', 'reason'), [
    ('llm_endpoint', 'file:///tmp', 'expected an address like'),
    ('llm_endpoint', 'localhost:11434', 'expected an address like'),
    ('llm_endpoint', 'http://me:word@host/v1', 'expected an address like'),
    ('llm_key_variable', 'sk-word', 'not a key'),
])
def test_a_setting_that_cannot_work_ends_the_start(
        ros: Ros, settings: dict[str, object], name: str, value: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        in_this_process(ros, settings | {name: value})
    assert 'word' not in str(refused.value).replace('password', '')


@pytest.mark.parametrize(('parameters', 'reason'), [
    ({'background': ['an empty table', 'a\nb']}, 'background, prompt 2: expected one line'),
    ({'persist': '/tmp/list.txt'}, 'parameter persist: expected the path of a *.yaml file'),
])
def test_a_configure_that_fails_says_why(
        ros: Ros, settings: dict[str, object], parameters: dict[str, object], reason: str,
        capfd: pytest.CaptureFixture[str]) -> None:
    check_failed_configure(ros, settings | parameters, [reason], capfd)


def test_it_ends_at_once_while_a_request_is_open(ros: Ros, settings: dict[str, object],
                                                 asked_server: ChatServer) -> None:
    def transit(transition: int) -> None:
        assert ros.call(ChangeState, 'other/change_state',
                        transition=Transition(id=transition)).success

    def ask() -> None:
        asked_server.open.clear()
        asked_server.seen.clear()
        reply = ros.call(SetVocabulary, 'other/set_vocabulary', labels=new_labels(), enrich=True)
        assert 'is asked for' in reply.message
        wait_until(lambda: asked_server.seen, 'a request')
    # The requests would be open for ten minutes.
    with start(ros, settings | {'llm_timeout': 600.0}, '-r', '__node:=other') as process:
        ask()
        transit(Transition.TRANSITION_DEACTIVATE)
        transit(Transition.TRANSITION_CLEANUP)
        transit(Transition.TRANSITION_CONFIGURE)
        asked_server.open.set()
        vocabulary = ros.subscribe(Vocabulary, 'other/vocabulary', LATCHED)
        assert tuple(vocabulary.wait_for(bool).labels) == LABELS
        ask()
        assert process.stop(patience=30) == 0
        assert 'Traceback' not in process.output
        assert tuple(vocabulary.messages[-2].labels) == LABELS  # the one before `ask`


def test_nothing_is_left_of_a_request_after_shutdown(ros: Ros, settings: dict[str, object],
                                                     asked_server: ChatServer) -> None:
    node = in_this_process(ros, settings | {'llm_timeout': 600.0})
    node.trigger_configure()
    node._loaded.keeper.change(Request(labels=new_labels(), enrich=True))
    wait_until(lambda: asked_server.seen, 'a request')
    assert 'enrichment' in [thread.name for thread in threading.enumerate()]
    node.trigger_shutdown()
    wait_until(lambda: 'enrichment' not in [thread.name for thread in threading.enumerate()],
               'end of the request')
    node.destroy_node()
