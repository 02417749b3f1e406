"""The transport settings: what is set, and that Fast DDS really uses them."""
from collections.abc import Mapping
import os
from pathlib import Path
import re
import signal

import cv2
import numpy as np
import pytest
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from support.ros_processes import Process, Ros, wait_until
from support.shared_memory import sweep
from vl2v_ros.nodes.transport import environment, MALLOC, OLDER_PROFILE, PROFILE

FRAMES = 60
SEGMENT = 64 * 2 ** 20  # [bytes]


@pytest.mark.parametrize(('distribution', 'name'), [
    ('humble', OLDER_PROFILE), ('jazzy', OLDER_PROFILE), ('kilted', PROFILE), ('', PROFILE)])
def test_the_profile_is_named_as_the_distributions_fast_dds_reads_it(distribution: str, name: str
                                                                     ) -> None:
    settings = environment({'ROS_DISTRO': distribution})
    assert settings.keys() == {*MALLOC, name}
    profile = Path(settings[name])
    assert profile.is_absolute()
    assert '<type>SHM</type>' in profile.read_text()


@pytest.mark.parametrize('name', [PROFILE, OLDER_PROFILE])
def test_a_profile_of_the_users_own_is_left_alone(name: str) -> None:
    assert environment({name: 'mine.xml'}) == MALLOC


def test_malloc_settings_of_the_users_own_are_left_alone() -> None:
    settings = environment({'MALLOC_TOP_PAD_': '1'})
    assert 'MALLOC_TOP_PAD_' not in settings
    assert settings['MALLOC_TRIM_THRESHOLD_'] == MALLOC['MALLOC_TRIM_THRESHOLD_']


def test_nothing_is_left_to_set_once_it_is_set() -> None:
    assert environment(environment({})) == {}


SHARED = Path('/dev/shm')


def own_segment(process: Process, before: set[Path]) -> int:
    """Return the size of the largest file in shared memory that a process has made [bytes]."""
    maps = Path(f'/proc/{process.pid}/maps').read_text().split()
    return max(path.stat().st_size for path in set(SHARED.iterdir()) - before if str(path) in maps)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of 1920x1080 whose grey value counts them."""
    path = tmp_path_factory.mktemp('counted')
    for number in range(FRAMES):
        cv2.imwrite(str(path / f'{number:03}.png'), np.full((1080, 1920), 4 * number, np.uint8))
    return path


@pytest.fixture
def without_settings() -> Mapping[str, str]:
    """Return the variables, emptied, that `environment` would set."""
    return dict.fromkeys((*MALLOC, PROFILE, OLDER_PROFILE), '')


def test_fast_dds_uses_the_segment_of_the_profile(ros: Ros, folder: Path,
                                                  without_settings: Mapping[str, str]) -> None:
    parameters = {'source': folder, 'width': 64, 'height': 48}
    before = set(SHARED.iterdir())
    with ros.start('camera_node', parameters, fresh=True
                   ).wait_for_output('64 x 48 px') as camera:
        assert own_segment(camera, before) >= SEGMENT
    before = set(SHARED.iterdir())
    with ros.start('camera_node', parameters, env=without_settings, fresh=True
                   ).wait_for_output('64 x 48 px') as camera:
        assert own_segment(camera, before) < SEGMENT


def test_full_size_frames_pass_between_processes_best_effort(ros: Ros, folder: Path) -> None:
    with ros.start('camera_node', {'source': folder, 'rate': 10.0}):
        images = ros.subscribe(Image, 'image', qos_profile_sensor_data)
        images.wait_for(lambda message: len(images.messages) >= FRAMES // 2)
    counted = [round(float(np.frombuffer(message.data, np.uint8, 3).mean()) / 4)
               for message in images.messages]
    assert counted == [(counted[0] + step) % FRAMES for step in range(len(counted))]


def locked(process: Process) -> list[Path]:
    """Return the segments that a process holds the locks of."""
    held = [os.readlink(file) for file in Path(f'/proc/{process.pid}/fd').iterdir()]
    return [Path(name.removesuffix('_el')) for name in held
            if re.fullmatch('/dev/shm/fastdds_[0-9a-f]{16}_el', name)]


def test_what_a_killed_process_leaves_is_removed_and_nothing_else(ros: Ros, folder: Path) -> None:
    parameters = {'source': folder, 'width': 64, 'height': 48}
    first, second = (ros.start('camera_node', parameters, fresh=True
                               ).wait_for_output('64 x 48 px') for _ in range(2))
    (left,), (kept,) = locked(first), locked(second)
    assert left.stat().st_size >= SEGMENT and kept.exists()
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    wait_until(lambda: sweep() or not left.exists(), 'its end')
    assert kept.exists()
    assert second.stop() == 0
