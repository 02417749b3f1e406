"""The node's first start with a student that it never saw, on a CPU."""
import os
from pathlib import Path
import signal
import threading

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
import pytest
from support import offline_student
from support.converter import converter_of
from support.ros_processes import Camera, Ros
from vl2v_msgs.srv import SetVocabulary

MOST_MEMORY = 350  # [MiB]


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    """Return parameters for a student without an outline, whose words are recorded."""
    return {'checkpoint': offline_student.write(tmp_path), 'vocabulary': 'mug, orange',
            'device': 'cpu', 'cache_dir': tmp_path / 'cache'}


def configure(ros: Ros) -> bool:
    return ros.call(ChangeState, 'classifier/change_state',
                    transition=Transition(id=Transition.TRANSITION_CONFIGURE)).success


def test_the_node_never_holds_torch(ros: Ros, settings: dict[str, object]) -> None:
    with ros.classifier(settings, fresh=True) as process:
        camera = Camera(ros)
        assert len(camera.show().labels) == 2
        status = Path(f'/proc/{process.pid}/status').read_text()
        peak = next(line for line in status.splitlines() if line.startswith('VmHWM'))
        assert int(peak.split()[1]) < MOST_MEMORY * 1024
        assert 'libtorch' not in Path(f'/proc/{process.pid}/maps').read_text()
        camera.close()


def test_a_killed_conversion_leaves_the_node_unconfigured(
        ros: Ros, settings: dict[str, object]) -> None:
    with ros.start('classifier_node', settings | {'autostart': False}, fresh=True) as process:
        process.wait_for_output('waits to be configured')

        def kill() -> None:
            os.kill(converter_of(process.pid), signal.SIGKILL)
        killer = threading.Thread(target=kill)
        killer.start()
        assert not configure(ros)
        killer.join()
        said = [line for line in process.output.splitlines() if 'its first start converts' in line]
        assert len(said) == 1 and 'was ended by SIGKILL' in said[0]
        assert 'Traceback' not in process.output
        state = ros.call(GetState, 'classifier/get_state').current_state.id
        assert state == State.PRIMARY_STATE_UNCONFIGURED
        reply = ros.call(SetVocabulary, 'classifier/set_vocabulary', labels=['mug'])
        assert 'not configured; configure it first' in reply.message
        assert configure(ros)  # there is memory again
