"""memory_node as a process, beside a real classifier: what is found, and how it refuses."""
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from random import Random
import subprocess
import sys
import time
from typing import Any

from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Duration, Time
import cv2
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.action import ActionClient
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from reliability import memory_kills
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header
from support import shapes
from support.processes import Process, wait_until
from support.ros_processes import Camera, LABELS, PIXELS, Received, Ros
from vl2v_msgs.action import Find as LookFor
from vl2v_msgs.msg import Embedding, LabelArray
from vl2v_msgs.srv import Find
from vl2v_ros.images.encodings import decode
from vl2v_ros.memory.memory import Memory
from vl2v_ros.nodes.messages import byte_array

NODE = 'remembering.memory_node'
SHOWN = LABELS[:3]
EXAMPLE = Path(__file__).parents[2] / 'examples/look_for_thing.py'


def picture(label: str, seed: int = 0) -> np.ndarray:
    return shapes.draw(label, 320, 240, np.random.default_rng(seed), (0, 0))


def compressed(pixels: np.ndarray) -> CompressedImage:
    data = cv2.imencode('.jpg', pixels[..., ::-1])[1]
    return CompressedImage(format='jpeg', data=byte_array(data))


@pytest.fixture(scope='module')
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('memory') / 'memory.sqlite'


@pytest.fixture(scope='module')
def memory(ros: Ros, settings: dict[str, object], file: Path) -> Process:
    ros.classifier(settings)
    return ros.start(NODE, {'file': file}).wait_for_output('remembers in')


@pytest.fixture(scope='module')
def camera(ros: Ros, memory: Process) -> Iterator[Camera]:
    camera = Camera(ros)
    # The memory may hear of the camera a second later than of the classifier.
    wait_until(lambda: show(camera) and any(one.thumbnail.data for one in find(
        ros, text=SHOWN[0]).sightings), 'a sighting with its picture', step=0.3)
    yield camera
    camera.close()


@pytest.fixture(scope='module')
def shown(ros: Ros, camera: Camera) -> dict[str, Time]:
    """Show some things one after the other; return the stamp of each."""
    ros.publisher(PoseStamped, 'pose').publish(PoseStamped(header=Header(
        stamp=ros.node.get_clock().now().to_msg(), frame_id='map')))
    stamps = {label: show(camera, picture(label)).header.stamp for label in SHOWN}
    wait_until(lambda: find(ros, text=SHOWN[-1]).compared > len(SHOWN), 'the last one')
    return stamps


@pytest.fixture(scope='module')
def look(ros: Ros, memory: Process) -> ActionClient:
    client = ActionClient(ros.node, LookFor, 'memory/look_for')
    assert client.wait_for_server(60)
    return client


def show(camera: Camera, pixels: np.ndarray = PIXELS) -> LabelArray:
    """Show a picture until it is answered: while a node listens anew, one may get lost."""
    for _ in range(9):
        frame = camera.send(pixels)
        with suppress(AssertionError):
            return camera.answers.wait_for(
                lambda answer, frame=frame: answer.header.frame_id == frame, patience=8)
    raise AssertionError('no answer')


def find(ros: Ros, **fields: Any) -> Find.Response:
    return ros.call(Find, 'memory/find', **fields)


def result_of(goal: Any) -> Any:
    asked = goal.get_result_async()
    wait_until(asked.done, 'a result')
    return asked.result()


def goal_of(client: ActionClient, heard: Callable[[Any], None] = lambda _: None, **fields: Any
            ) -> Any:
    sent = client.send_goal_async(LookFor.Goal(**fields), feedback_callback=heard)
    wait_until(sent.done, 'an answer to the goal')
    return sent.result()


def test_things_are_found_by_text_and_by_picture(ros: Ros, shown: dict[str, Time]) -> None:
    for label, stamp in shown.items():
        for asked in ({'text': label}, {'text': f'a {label}'},
                      {'image': compressed(picture(label, 7))}):
            answer = find(ros, k=2, **asked)
            assert answer.success and len(answer.sightings) == 2, answer.message
            best = answer.sightings[0]
            assert best.first_seen == stamp, (label, asked.keys())
            assert best.similarity > answer.sightings[1].similarity
            assert best.position_header.frame_id == 'map'
            small = decode(bytes(best.thumbnail.data)).pixels
            whole = cv2.resize(picture(label), small.shape[1::-1], interpolation=cv2.INTER_AREA)
            assert np.abs(small[..., ::-1].astype(int) - whole).mean() < 8
    assert answer.seconds < 5 and answer.compared > len(SHOWN)
    after = find(ros, text=SHOWN[0], after=Time(sec=2 ** 31 - 1))
    assert after.success and not after.sightings and after.message == (
        'nothing was seen there and then')


@pytest.mark.parametrize(('asked', 'said'), [
    ({}, 'expected a text or a picture, got none'),
    ({'text': ' '}, 'expected a text or a picture, got none'),
    ({'text': 'mug', 'image': compressed(picture(LABELS[0]))}, 'got both'),
    ({'text': 'two\nlines'}, 'expected one line'),
    ({'text': 'm' * 5000}, 'expected at most 200 characters'),
    ({'image': CompressedImage(format='jpeg', data=b'a text')}, 'expected a JPEG'),
    ({'text': 'mug', 'k': 10_000}, 'expected at most 1000 sightings'),
    ({'text': 'mug', 'camera': 'rear'}, "expected a camera that has seen something ('')"),
    ({'text': 'mug', 'after': Time(sec=5), 'before': Time(sec=4)}, 'to be earlier than `before`'),
    ({'text': 'mug', 'after': Time(sec=-5)}, 'after: expected a time from 0 s on'),
    ({'text': 'mug', 'before': Time(nanosec=2 ** 31)}, 'before: expected a time from 0 s on'),
], ids=str)
def test_a_request_that_cannot_be_meant_is_refused(
        ros: Ros, shown: dict[str, Time], asked: dict[str, Any], said: str) -> None:
    answer = find(ros, **asked)
    assert not answer.success and said in answer.message, answer.message
    assert '\n' not in answer.message and not answer.sightings
    assert find(ros, text=SHOWN[0]).success


def test_it_looks_out_until_it_sees_the_thing(ros: Ros, camera: Camera, look: ActionClient,
                                              shown: dict[str, Time]) -> None:
    new = LABELS[4]
    heard: list[Any] = []
    needed = find(ros, text=new).sightings[0].similarity + 0.02  # more than all so far
    goal = goal_of(look, heard.append, text=new, similarity=needed)
    other = goal_of(look, text=LABELS[5], similarity=0.99)
    wait_until(lambda: show(camera, picture(SHOWN[0])) and heard, 'feedback', step=0.1)
    assert heard[0].feedback.compared and heard[0].feedback.best.similarity < needed
    stamp = show(camera, picture(new)).header.stamp
    done = result_of(goal)
    assert done.status == GoalStatus.STATUS_SUCCEEDED and done.result.found, done.result.message
    assert done.result.sighting.last_seen == stamp
    assert done.result.sighting.similarity >= needed
    past = result_of(goal_of(look, text=new, similarity=needed, past=True)).result
    assert past.found and past.sighting.first_seen == stamp
    cancelled = other.cancel_goal_async()
    wait_until(cancelled.done, 'the end')
    assert result_of(other).status == GoalStatus.STATUS_CANCELED


def test_a_behaviour_tree_looks_out(ros: Ros, camera: Camera, shown: dict[str, Time]) -> None:
    pytest.importorskip('py_trees')
    ros.call(SetParameters, 'memory/set_parameters', parameters=[Parameter(
        'found_similarity', value=-1.0).to_parameter_msg()])  # whatever is seen next
    thing = LABELS[3]  # which no other test asks for
    with ros.run(sys.executable, EXAMPLE, thing) as tree:
        wait_until(lambda: show(camera, picture(thing)) and tree._popen.poll() is not None,
                   'its end', step=0.3)
        assert (tree.wait(), tree.output.strip()) == (0, f'{thing}: SUCCESS'), tree.output


@pytest.mark.parametrize(('goal', 'said'), [
    ({'text': LABELS[5], 'similarity': 0.99, 'timeout': Duration(nanosec=200_000_000)},
     'not seen in time: none of '),
    ({'text': 'mug', 'timeout': Duration(sec=-1)}, 'timeout: expected a time from 0 s on'),
    ({'text': 'mug', 'similarity': 7.0}, 'expected a cosine from -1 to 1, got 7'),
    ({'image': CompressedImage(data=b'a text')}, 'expected a JPEG'),
    ({}, 'expected a text or a picture, got none')], ids=str)
def test_a_goal_that_cannot_be_reached_is_ended(look: ActionClient, shown: dict[str, Time],
                                                goal: dict[str, Any], said: str) -> None:
    done = result_of(goal_of(look, **goal))
    assert done.status == GoalStatus.STATUS_ABORTED and not done.result.found
    assert said in done.result.message and '\n' not in done.result.message


def value(status: Received[DiagnosticArray], key: str) -> str:
    """Return a value of the newest status of the memory."""
    one = [status.status[0] for status in status.messages
           if status.status[0].name == '/memory: memory'][-1]
    return next(entry.value for entry in one.values if entry.key == key)


def test_vectors_that_cannot_be_so_are_refused_and_the_node_goes_on(
        ros: Ros, memory: Process, shown: dict[str, Time]) -> None:
    status = ros.subscribe(DiagnosticArray, '/diagnostics')
    status.wait_for(lambda array: array.status[0].name == '/memory: memory')
    space, student = value(status, 'space'), value(status, 'student')
    before, found = int(value(status, 'refused')), find(ros, text=SHOWN[0]).sightings
    good = [float(number) for number in np.eye(1, 512)[0]]
    topic = ros.publisher(Embedding, 'classifier/embedding')
    now = ros.node.get_clock().now().to_msg()
    bad = [{'space': 'another'}, {'student': 'another'}, {'vector': [1.0]}, {'vector': []},
           {'vector': [float('nan')] * 512}, {'vector': [0.0] * 512},
           {'header': Header(stamp=Time(sec=-7))},
           {'header': Header(stamp=Time(sec=7, nanosec=2 ** 32 - 1))}]
    for change in bad:
        topic.publish(Embedding(**{'header': Header(stamp=now), 'space': space,
                                   'student': student, 'vector': good, **change}))
    wait_until(lambda: int(value(status, 'refused')) >= before + len(bad), 'refusals')
    assert find(ros, text=SHOWN[0]).sightings == found
    assert memory._popen.poll() is None and 'Traceback' not in memory.output


def test_all_is_there_after_the_next_start(ros: Ros, memory: Process, file: Path,
                                           shown: dict[str, Time]) -> None:
    before = find(ros, text=SHOWN[1], k=1000)
    assert memory.stop() == 0 and 'Traceback' not in memory.output, memory.output
    # Under another name: for a while the node that ended is still known by its own.
    with ros.start(NODE, {'file': file}, '-r', '__node:=again').wait_for_output('remembers in'):
        after = ros.call(Find, 'again/find', text=SHOWN[1], k=1000)
        assert [one.first_seen for one in after.sightings] == [
            one.first_seen for one in before.sightings]


def test_a_file_that_is_no_memory_ends_the_start_with_one_line(ros: Ros, tmp_path: Path) -> None:
    (tmp_path / 'notes.txt').write_text('no memory, ' * 1000)
    node = ros.start(NODE, {'file': tmp_path / 'notes.txt'})
    assert node.wait() == 1
    said = node.output.strip().splitlines()
    assert len(said) == 1 and said[0].startswith('memory_node: ') and 'notes.txt' in said[0]


def test_without_a_classifier_that_is_said_and_a_full_disk_is_survived(
        ros: Ros, tmp_path: Path) -> None:
    """The size of its files is limited while the node runs, as a full disk would do it."""
    file = tmp_path / 'memory.sqlite'
    with ros.run('prlimit', '--fsize=60000:unlimited', sys.executable, '-m',
                 f'vl2v_ros.nodes.{NODE}', '--ros-args', '-p', f'file:={file}', '-r',
                 '__ns:=/lonely') as node:
        node.wait_for_output('remembers in')
        status = ros.subscribe(DiagnosticArray, '/diagnostics')
        answer = ros.call(Find, 'lonely/memory/find', text='mug')
        assert not answer.success and 'start a classifier' in answer.message

        def said(text: str) -> Callable[[DiagnosticArray], bool]:
            return lambda array: (array.status[0].name == '/lonely/memory: memory'
                                  and text in array.status[0].message)
        status.wait_for(said('nobody publishes classifier/embedding'))
        topic = ros.publisher(Embedding, '/lonely/classifier/embedding', 100)
        wait_until(lambda: not send(topic, 30) and any(map(said('cannot be written'),
                                                           status.messages)), 'the end', step=0.1)
        since = len(status.messages)
        subprocess.run(['prlimit', '--pid', str(node.pid), '--fsize=unlimited:unlimited'],
                       check=True)
        status.wait_for(said(' sightings'), since)
        assert node.stop() == 0 and 'Traceback' not in node.output, node.output
    with closing(Memory(file)) as kept:
        assert len(kept) > 60


def send(topic: Publisher, count: int) -> None:
    """Publish vectors that are far from each other."""
    rows = np.random.default_rng(time.time_ns()).normal(size=(count, 512))
    for row in rows / np.linalg.norm(rows, axis=1, keepdims=True):
        topic.publish(Embedding(header=Header(stamp=Time(sec=int(time.time()))), space='a tower',
                                student='a student', vector=row.tolist()))


def test_it_is_killed_at_any_moment(ros: Ros, tmp_path: Path) -> None:
    figures = memory_kills.kill_often(ros, 4, Random(time.time_ns()), tmp_path, kept=60)
    assert figures['sightings']
