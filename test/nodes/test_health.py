"""vl2v_health: what it says of real nodes and of none; the commands of docker/compose.yaml."""
from collections.abc import Iterator
from pathlib import Path
import re
import sys

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from support.containers import compose, ROOT
from support.ros_processes import Process, Ros
from vl2v_msgs.msg import LabelArray
from vl2v_ros.nodes.health import judge

HEALTH = 'vl2v_ros/nodes/health.py'


def asked(ros: Ros, *arguments: str, seconds: float = 30.0) -> tuple[int, str]:
    """Return exit code and line of the program."""
    with ros.run(HEALTH, *arguments, '--seconds', seconds) as process:
        code = process.wait()
        line, = process.output.splitlines()
        return code, line


def test_a_home_that_cannot_be_written_is_named(ros: Ros) -> None:
    """As on a read-only disk; each node says the same, as ROS keeps logs there."""
    with ros.run(HEALTH, env={'ROS_LOG_DIR': '/proc/none'}) as process:
        assert process.wait() == 1
        line, = process.output.splitlines()
        assert line.endswith('name a folder that can be written with ROS_LOG_DIR')


@pytest.fixture(scope='module')
def classifier(ros: Ros, settings: dict[str, object]) -> Iterator[Process]:
    with ros.classifier(settings) as process:
        yield process


def test_without_a_node_it_fails(ros: Ros) -> None:
    code, line = asked(ros, seconds=1.0)
    assert code == 1
    assert 'expected /classifier on /diagnostics' in line and 'heard nobody' in line


def test_a_node_that_warns_is_well(ros: Ros, classifier: Process) -> None:
    with ros.run(sys.executable, '-m', 'vl2v_ros.nodes.health') as process:  # as a container does
        assert process.wait() == 0, process.output
        assert re.fullmatch(r'/classifier: .+: .+\n', process.output)


def test_a_node_of_another_name_is_not_taken_for_it(ros: Ros, classifier: Process) -> None:
    code, line = asked(ros, 'robot/classifier', seconds=3.0)
    assert code == 1
    assert 'expected /robot/classifier' in line and 'heard /classifier;' in line


def test_a_node_that_reports_an_error_is_not_well(ros: Ros, classifier: Process) -> None:
    publisher = ros.publisher(Image, 'image')
    bad = Image(header=Header(frame_id='bad'), encoding='nonsense', width=2, height=2, step=2)
    timer = ros.node.create_timer(0.1, lambda: publisher.publish(bad))
    diagnostics = ros.subscribe(DiagnosticArray, '/diagnostics')
    diagnostics.wait_for(lambda message: any(
        status.level == DiagnosticStatus.ERROR for status in message.status))
    code, line = asked(ros)
    ros.node.destroy_timer(timer)
    assert code == 1
    assert line.startswith('/classifier: camera: no usable image: ')


def test_a_node_that_was_killed_is_not_well(ros: Ros, classifier: Process) -> None:
    classifier.stop(9)
    assert asked(ros, seconds=2.0)[0] == 1


@pytest.mark.parametrize('level, code', [
    (DiagnosticStatus.OK, 0), (DiagnosticStatus.WARN, 0), (DiagnosticStatus.ERROR, 1),
    (DiagnosticStatus.STALE, 1)])
def test_the_worst_status_counts(level: bytes, code: int) -> None:
    found = [DiagnosticStatus(name='/n: node', message='active'),
             DiagnosticStatus(name='/n: camera', message='30.0 Hz', level=level)]
    assert judge('/n', found, {'/n'})[0] == code
    if level != DiagnosticStatus.OK:
        assert judge('/n', found, {'/n'})[1] == '/n: camera: 30.0 Hz'


def script(program: str) -> str:
    """Return the file of the module behind a name of a program."""
    found = re.search(rf'{program} = {{NAME}}\.([\w.]+):main', (ROOT / 'setup.py').read_text())
    assert found
    return f'vl2v_ros/{found[1].replace(".", "/")}.py'


@pytest.mark.usefixtures('warm_cache')
def test_the_services_of_compose_work_together(ros: Ros, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('XDG_DATA_HOME', str(tmp_path))
    services = compose()['services']
    for name in ('classifier', 'memory', 'camera'):
        program, *arguments = services[name]['command']
        ros.run(script(program), *arguments)
    ros.subscribe(LabelArray, '/classifier/labels').wait_for(lambda message: message.labels)
    for name in ('/classifier', '/memory'):
        assert asked(ros, name)[0] == 0
