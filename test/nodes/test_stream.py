"""Frames at full rate from another process: answered, labelled right, under their own header."""
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

from builtin_interfaces.msg import Time
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from support.ros_processes import draw_frames, LABELS, Process, Received, Ros, what_was_sent
from vision_msgs.msg import Classification
from vl2v_msgs.msg import LabelArray, Vocabulary
from vl2v_msgs.srv import SetVocabulary

RATE = 30.0  # [Hz]
LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture(scope='module')
def vga(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_frames(tmp_path_factory.mktemp('frames') / 'vga.npz', 640, 480)


@pytest.fixture(scope='module')
def full_hd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_frames(tmp_path_factory.mktemp('frames') / 'full_hd.npz', 1920, 1080)


@pytest.fixture(scope='module')
def classifier(ros: Ros, settings: dict[str, object]) -> Process:
    return ros.classifier(settings | {'unknown_threshold': -1.0})


@pytest.fixture(scope='module')
def labels(ros: Ros, classifier: Process) -> Received[LabelArray]:
    return ros.subscribe(LabelArray, 'classifier/labels')


def truth(frame_id: str) -> str:
    return frame_id.split('#')[0]


def check(answers: list[LabelArray], sent: Mapping[str, Time]) -> None:
    """Each answer has the header of the frame it belongs to and its label; some are there."""
    answered = [answer.header.frame_id for answer in answers]
    assert len(set(answered)) == len(answered)
    for answer in answers:
        assert answer.header.stamp == sent[answer.header.frame_id]
        assert answer.labels[0].label == truth(answer.header.frame_id)
    assert answers


def say(received: Received, first: int, sent: Mapping[str, Time], late: float) -> None:
    """Print what the report wants to know; seen with -s."""
    stamps = [answer.header.stamp for answer in received.messages[first:]]
    latencies = sorted(1000 * (time - stamp.sec - stamp.nanosec * 1e-9)
                       for stamp, time in zip(stamps, received.times[first:], strict=True))
    print(f'\n{len(stamps)} of {len(sent)} answered; latency: median '
          f'{latencies[len(stamps) // 2]:.1f} ms, longest {latencies[-1]:.1f} ms; '
          f'publisher late by {1000 * late:.1f} ms at most')


def send_until_answered(ros: Ros, received: Received, frames: Path, share: float,
                        right: Callable[[list, Mapping[str, Time]], None],
                        **options: object) -> None:
    """Send frames, up to three times, until so many are answered; all answers must be right."""
    for _ in range(3):
        # Where something else keeps the cores busy for longer than a frame, frames are dropped.
        first = len(received.messages)
        sent, late = what_was_sent(ros.publish_frames(frames, **options))
        say(received, first, sent, late)
        answers = received.messages[first:]
        right(answers, sent)
        if len(answers) >= share * len(sent):
            return
    pytest.fail(f'fewer than {share:.0%} of the frames were answered, three times')


@pytest.mark.parametrize('encoding', ['bgr8', 'rgba8', 'bgra8'])
def test_the_colours_of_other_encodings_are_right(ros: Ros, labels: Received[LabelArray],
                                                  vga: Path, encoding: str) -> None:
    send_until_answered(ros, labels, vga, 0.9, check, count=30, encoding=encoding)


@pytest.mark.usefixtures('classifier')
def test_the_classification_names_the_label_itself(ros: Ros, vga: Path) -> None:
    def right(answers: list[Classification], sent: Mapping[str, Time]) -> None:
        for answer in answers:
            assert answer.header.stamp == sent[answer.header.frame_id]
            assert answer.results[0].class_id == truth(answer.header.frame_id)

    results = ros.subscribe(Classification, 'classifier/classification')
    send_until_answered(ros, results, vga, 0.9, right, count=30)


def test_frames_that_are_grey_are_labelled_by_shape(ros: Ros, labels: Received[LabelArray],
                                                    vga: Path) -> None:
    def right(answers: list[LabelArray], sent: Mapping[str, Time]) -> None:
        white = [answer for answer in answers if truth(answer.header.frame_id) == 'white circle']
        assert white
        assert all(answer.labels[0].label == 'white circle' for answer in white)

    send_until_answered(ros, labels, vga, 0.9, right, count=30, encoding='mono8')


@pytest.mark.alone
@pytest.mark.parametrize('size', ['vga', 'full_hd'])
def test_of_300_frames_at_30_hz_99_percent_are_answered(
        ros: Ros, labels: Received[LabelArray], size: str, request: pytest.FixtureRequest) -> None:
    send_until_answered(ros, labels, request.getfixturevalue(size), 0.99, check, rate=RATE)


@pytest.mark.alone
def test_the_vocabulary_changes_20_times_while_frames_flow(
        ros: Ros, labels: Received[LabelArray], vga: Path) -> None:
    vocabularies = ros.subscribe(Vocabulary, 'classifier/vocabulary', LATCHED)
    lists = LABELS[:3], LABELS[3:]
    for names in lists:  # cached from here on
        change(ros, names)
    first = len(labels.messages)
    publisher = ros.publish_frames(vga, count=200, rate=RATE)
    labels.wait_for(bool, since=first)
    replies = []
    for number in range(20):
        wanted = number * 9
        labels.wait_for(lambda answer: int(answer.header.frame_id.split('#')[1]) >= wanted,
                        since=first)
        replies.append(change(ros, lists[number % 2]))
    sent, late = what_was_sent(publisher)
    say(labels, first, sent, late)
    versions = [reply.version for reply in replies]
    assert all(later > earlier for earlier, later in pairwise(versions))
    vocabularies.wait_for(lambda message: message.version == versions[-1])
    in_force = {message.version: tuple(message.labels) for message in vocabularies.messages}
    for number, reply in enumerate(replies):
        assert in_force[reply.version] == tuple(reply.labels) == lists[number % 2]
    answers = labels.messages[first:]
    for answer in answers:
        assert {entry.label for entry in answer.labels} <= set(in_force[answer.vocabulary_version])
        if truth(answer.header.frame_id) in in_force[answer.vocabulary_version]:
            assert answer.labels[0].label == truth(answer.header.frame_id)
    assert set(versions) <= {answer.vocabulary_version for answer in answers}
    assert len(answers) >= 0.99 * len(sent)
    times = labels.times[first:]
    longest = max(after - before for before, after in pairwise(times))
    print(f'longest gap {1000 * longest:.1f} ms, changes took '
          f'{1000 * max(reply.seconds for reply in replies):.1f} ms at most')
    assert longest < 3 / RATE + late  # late: by how much the publisher itself paused


def change(ros: Ros, names: tuple[str, ...]) -> SetVocabulary.Response:
    reply = ros.call(SetVocabulary, 'classifier/set_vocabulary', labels=names)
    assert reply.success, reply.message
    return reply


def test_frames_flow_while_5000_labels_are_encoded(ros: Ros, labels: Received[LabelArray],
                                                   vga: Path) -> None:
    names = tuple(f'thing number {number}' for number in range(5000))
    with ros.publish_frames(vga, count=10000, rate=RATE):
        first = len(labels.messages)
        labels.wait_for(bool, since=first)
        begun = len(labels.messages)
        reply = change(ros, names)
        ended = len(labels.messages)
        assert tuple(reply.labels) == names
        labels.wait_for(lambda answer: answer.vocabulary_version == reply.version, since=first)
    times = labels.times[begun:ended]
    gaps = [after - before for before, after in pairwise(times)]
    print(f'\n5000 labels took {reply.seconds:.2f} s, {reply.seconds / 5:.2f} ms each, in which '
          f'{ended - begun} frames were answered, with gaps of at most {1000 * max(gaps):.0f} ms')
    assert ended - begun > reply.seconds * RATE / 2
    assert max(gaps) < 1
    change(ros, LABELS)


def test_1000_known_labels_are_put_in_force_without_a_gap(
        ros: Ros, labels: Received[LabelArray], vga: Path) -> None:
    names = tuple(f'object number {number}' for number in range(1000))
    change(ros, names)
    for _ in range(3):
        # Where something else keeps the cores busy for longer than that, there are gaps anyway.
        change(ros, LABELS)
        first = len(labels.messages)
        publisher = ros.publish_frames(vga, count=120, rate=RATE)
        labels.wait_for(lambda _: len(labels.messages) > first + RATE)
        reply = change(ros, names)
        labels.wait_for(lambda answer: answer.vocabulary_version == reply.version, since=first)
        _, late = what_was_sent(publisher)
        times = labels.times[first:]
        longest = max(after - before for before, after in pairwise(times))
        print(f'1000 known labels took {reply.seconds:.3f} s, longest gap {1000 * longest:.0f} ms')
        if longest < 3 / RATE + late:
            change(ros, LABELS)
            return
    pytest.fail('gaps longer than three frames, three times')
