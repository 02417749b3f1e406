"""What the classifier says on /diagnostics, above all about images that do not come."""
from collections.abc import Iterator
from pathlib import Path
import shutil
import subprocess
import sys

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import pytest
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String
from support.ros_processes import (
    Camera,
    draw_frames,
    PIXELS,
    Process,
    Received,
    Ros,
    what_was_sent,
)
from vl2v_msgs.srv import SetVocabulary
from vl2v_ros.nodes.diagnostics import Rates
from vl2v_ros.nodes.messages import to_image

# Each camera of the one classifier of this module hears nothing, for a reason of its own.
CAMERAS = ['seen', 'unplugged', 'reliable', 'typed', 'idle', 'mute']


@pytest.fixture(scope='module')
def process(ros: Ros, settings: dict[str, object]) -> Iterator[Process]:
    overridden = {f'qos_overrides./{name}/image.subscription.reliability': 'reliable'
                  for name in ('reliable', 'mute')}
    with ros.classifier(settings | overridden | {'cameras': CAMERAS}) as process:
        yield process


@pytest.fixture(scope='module')
def diagnostics(ros: Ros, process: Process) -> Received[DiagnosticArray]:
    return ros.subscribe(DiagnosticArray, '/diagnostics')


def next_status(diagnostics: Received[DiagnosticArray], camera: str, wanted: str = ''
                ) -> DiagnosticStatus:
    """Return the next diagnosis of a camera whose message contains a text."""
    def status(message: DiagnosticArray) -> DiagnosticStatus:
        found, = (status for status in message.status if status.name == f'/classifier: {camera}')
        return found
    return status(diagnostics.wait_for(lambda message: wanted in status(message).message,
                                       since=len(diagnostics.messages)))


def values(status: DiagnosticStatus) -> dict[str, str]:
    return {entry.key: entry.value for entry in status.values}


def test_without_images_the_topic_is_named(diagnostics: Received[DiagnosticArray],
                                           process: Process) -> None:
    status = next_status(diagnostics, 'unplugged', 'no image')
    assert status.level == DiagnosticStatus.WARN
    assert status.hardware_id == '/unplugged/image'
    assert 'no image on /unplugged/image/compressed or /unplugged/image for' in status.message
    assert 'nobody publishes there' in status.message
    assert values(status)['rate [Hz]'] == '0.0'
    assert values(status)['latency mean [ms]'] == 'none'
    process.wait_for_output('no image on /seen/image/compressed or /seen/image for')  # logged too


def test_an_incompatible_qos_is_named_with_the_way_out(
        ros: Ros, diagnostics: Received[DiagnosticArray]) -> None:
    publisher = ros.offer(Image, 'reliable/image', qos_profile_sensor_data)
    status = next_status(diagnostics, 'reliable', 'incompatible QoS')
    assert status.level == DiagnosticStatus.WARN
    assert 'peer publishes on /reliable/image' in status.message
    assert 'reliab' in status.message.lower()
    assert 'qos_overrides./reliable/image.subscription' in status.message
    ros.node.destroy_publisher(publisher)


def test_another_message_type_is_named(ros: Ros, diagnostics: Received[DiagnosticArray]) -> None:
    publisher = ros.offer(String, 'typed/image', 1)
    status = next_status(diagnostics, 'typed', 'expected sensor_msgs/msg/Image')
    assert status.level == DiagnosticStatus.WARN
    assert 'peer publishes std_msgs/msg/String on /typed/image' in status.message
    ros.node.destroy_publisher(publisher)


def test_a_camera_that_offers_but_sends_nothing_is_named(
        ros: Ros, diagnostics: Received[DiagnosticArray]) -> None:
    publisher = ros.offer(Image, 'idle/image', 1)
    status = next_status(diagnostics, 'idle', 'nothing arrives')
    assert status.level == DiagnosticStatus.WARN
    assert 'peer publishes on /idle/image but nothing arrives' in status.message
    ros.node.destroy_publisher(publisher)


def test_the_other_transport_is_named(ros: Ros, settings: dict[str, object]) -> None:
    with ros.classifier(settings | {'image_transport': 'raw'}, '-r', '__ns:=/robot'):
        publisher = ros.offer(CompressedImage, '/robot/image/compressed', 1)
        received = ros.subscribe(DiagnosticArray, '/diagnostics')
        message = received.wait_for(lambda message: any(
            'peer publishes' in status.message for status in message.status))
    status, = (status for status in message.status if status.name == '/robot/classifier: camera')
    assert 'no image on /robot/image for' in status.message
    assert 'peer publishes on /robot/image/compressed instead' in status.message
    assert 'image_transport to compressed or auto' in status.message
    ros.node.destroy_publisher(publisher)


def test_too_little_shared_memory_is_named(ros: Ros, settings: dict[str, object]) -> None:
    if subprocess.run(['unshare', '--mount', 'true'], capture_output=True).returncode:
        pytest.skip('needs the right to mount')
    given = [word for name, value in settings.items() for word in ('-p', f'{name}:={value}')]
    node = ros.run('unshare', '--mount', 'sh', '-c',
                   'mount -t tmpfs -o size=16m tmpfs /dev/shm && exec "$@"', 'sh', sys.executable,
                   '-m', 'vl2v_ros.nodes.classifier_node', '--ros-args', '-r', '__ns:=/docked',
                   *given)
    received = ros.subscribe(DiagnosticArray, '/diagnostics')
    publisher = ros.offer(Image, '/docked/image', 1)
    message = received.wait_for(lambda message: any(
        'peer publishes' in status.message for status in message.status
        if status.name == '/docked/classifier: camera'))
    status, = (status for status in message.status if status.name == '/docked/classifier: camera')
    assert status.message.endswith('MiB are left, 68 needed for each process; docker run '
                                   '--shm-size=1g gives more')
    assert ' on both sides, and room in /dev/shm: 1' in status.message
    ros.node.destroy_publisher(publisher)
    node.close()


def test_running_well_it_says_how_well(ros: Ros, diagnostics: Received[DiagnosticArray],
                                       tmp_path: Path) -> None:
    frames = draw_frames(tmp_path / 'small.npz', 160, 120)
    reply = ros.call(SetVocabulary, 'classifier/set_vocabulary', labels=['mug', 'cup'])
    with ros.publish_frames(frames, 'seen/image', count=150) as publisher:
        next_status(diagnostics, 'seen', 'Hz')  # begun within this second
        for _ in range(3):  # something else may keep the cores busy for one of them
            status = next_status(diagnostics, 'seen', 'Hz')
            if 15 < float(values(status)['rate [Hz]']) < 32:
                break
        sent, _ = what_was_sent(publisher)
    assert status.level == DiagnosticStatus.OK
    facts = values(status)
    assert 15 < float(facts['rate [Hz]']) < 32
    assert status.message == f'{facts["rate [Hz]"]} Hz'
    assert 0 < float(facts['latency mean [ms]']) <= float(facts['latency max [ms]']) < 5000
    assert 'CPU' in facts['device'] or 'cuda' in facts['device']
    assert facts['vocabulary version'] == str(reply.version)
    assert facts['labels'] == '2'
    last = values(next_status(diagnostics, 'seen', 'no image'))
    received, answered, dropped, refused = (
        int(last[name]) for name in ('received', 'answered', 'dropped for newer ones', 'refused'))
    assert received == answered + dropped + refused <= len(sent)


def test_a_camera_of_which_no_image_is_usable_is_an_error(
        ros: Ros, diagnostics: Received[DiagnosticArray]) -> None:
    publisher = ros.publisher(Image, 'mute/image')
    image = to_image(PIXELS, 'rgb8', Header())
    image.encoding = 'rbg8'
    for _ in range(3):
        publisher.publish(image)
        status = next_status(diagnostics, 'mute')
        if status.level == DiagnosticStatus.ERROR:
            break
    assert status.level == DiagnosticStatus.ERROR
    assert 'no usable image: expected an encoding' in status.message
    assert values(status)['answered'] == '0'
    camera = Camera(ros, 'mute/image', 'classifier/mute/labels')
    camera.show()
    assert next_status(diagnostics, 'mute', 'Hz').level == DiagnosticStatus.OK
    camera.send(encoding='rbg8')  # also once some were usable
    status = next_status(diagnostics, 'mute', 'no usable image')
    assert status.level == DiagnosticStatus.ERROR and values(status)['answered'] != '0'
    camera.close()


def test_rates_are_growth_per_time() -> None:
    rates = Rates()
    assert rates.rate('front', 100, now=5.0) == 0.0
    assert rates.rate('front', 130, now=6.0) == 30.0
    assert rates.rate('front', 130, now=6.0) == 0.0  # the clock stands still
    assert rates.rate('rear', 7, now=6.5) == 0.0
    assert rates.rate('front', 0, now=7.0) == 0.0  # counting began again
    assert rates.rate('front', 10, now=7.5) == 20.0
    for second in range(8, 20):
        rates.rate('front', 10 + second, now=second)
    assert (rates.growth('front'), rates.growth('rear')) == (5, 0)  # of the last six calls


def test_it_speaks_and_ends_while_simulated_time_stands_still(
        ros: Ros, settings: dict[str, object]) -> None:
    with ros.classifier(settings | {'use_sim_time': True}, '-r', '__ns:=/simulated') as process:
        received = ros.subscribe(DiagnosticArray, '/diagnostics')
        received.wait_for(lambda message: any(
            'nobody publishes there' in status.message for status in message.status
            if status.name == '/simulated/classifier: camera'))
        assert process.stop() == 0


def test_it_speaks_in_every_state(ros: Ros, settings: dict[str, object], tmp_path: Path) -> None:
    student = Path(str(settings['checkpoint']))
    with ros.start('classifier_node', settings | {
            'autostart': False, 'checkpoint': tmp_path / student.name, 'top_k': 2},
            '-r', '__ns:=/managed').wait_for_output('waits to be configured'):
        received = ros.subscribe(DiagnosticArray, '/diagnostics')

        def node(wanted: str) -> DiagnosticStatus:
            """Return what is said of the node once it says what is wanted."""
            def said(message: DiagnosticArray) -> list[DiagnosticStatus]:
                return [status for status in message.status if wanted in status.message
                        and status.name == '/managed/classifier: node']
            return said(received.wait_for(said, since=len(received.messages)))[0]

        def transit(number: int) -> bool:
            return ros.call(ChangeState, '/managed/classifier/change_state',
                            transition=Transition(id=number)).success
        status = node('unconfigured, configure it')
        assert (status.level, values(status)['top_k']) == (DiagnosticStatus.OK, '2')
        assert not transit(Transition.TRANSITION_CONFIGURE)
        status = node(student.name)
        assert status.level == DiagnosticStatus.ERROR
        assert status.message.startswith('unconfigured, configure it: ')
        for path in student.parent.iterdir():
            shutil.copy(path, tmp_path)
        for number, wanted in ((Transition.TRANSITION_CONFIGURE, 'inactive, activate it'),
                               (Transition.TRANSITION_ACTIVATE, 'active'),
                               (Transition.TRANSITION_DEACTIVATE, 'inactive, activate it'),
                               (Transition.TRANSITION_CLEANUP, 'unconfigured, configure it')):
            assert transit(number)
            assert node(wanted).level == DiagnosticStatus.OK


def test_stamps_of_another_clock_are_said_to_be_of_no_use(
        ros: Ros, diagnostics: Received[DiagnosticArray]) -> None:
    camera = Camera(ros, 'unplugged/image', 'classifier/unplugged/labels')
    for seconds in (0, 2 ** 31 - 1):
        for number in range(30):  # as many as the latencies that are kept
            frame_id = f'{seconds} {number}'
            camera.send(header=Header(stamp=Time(sec=seconds), frame_id=frame_id))
            camera.answers.wait_for_frame(frame_id)
        facts = values(next_status(diagnostics, 'unplugged', 'Hz'))
        assert facts['latency mean [ms]'] == facts['latency max [ms]'] == 'no usable stamps'
    camera.show()
    assert values(next_status(diagnostics, 'unplugged', 'Hz'))['latency mean [ms]'][0].isdigit()
    camera.close()
