"""Environment variables with which full-size images pass between processes."""
from collections.abc import Mapping
import os
from pathlib import Path
import shutil
import sys

from ament_index_python.packages import get_package_share_directory

# The process keeps freed image buffers: page faults of new ones were most of the latency.
MALLOC = {'MALLOC_MMAP_THRESHOLD_': '1073741824', 'MALLOC_TRIM_THRESHOLD_': '2147483648',
          'MALLOC_TOP_PAD_': '67108864'}
PROFILE = 'FASTDDS_DEFAULT_PROFILES_FILE'
FAST_DDS_2 = ('humble', 'iron', 'jazzy')  # these distributions know the variable by its older name
OLDER_PROFILE = 'FASTRTPS_DEFAULT_PROFILES_FILE'
LEAST = 1  # with less, a signal may end the process that loads Fast DDS, without a word [MiB]
SEGMENT = 68  # shared memory of each process by the profile [MiB]


def environment(current: Mapping[str, str] = os.environ) -> dict[str, str]:
    """
    Return the variables to set for a process that sends or receives images.

    They are read at the start of a process, so they must be set before. Variables that the user
    has set already are left out.
    """
    wanted = dict(MALLOC)
    if PROFILE not in current and OLDER_PROFILE not in current:
        name = OLDER_PROFILE if current.get('ROS_DISTRO') in FAST_DDS_2 else PROFILE
        share = Path(get_package_share_directory('vl2v_ros'))
        wanted[name] = str(share / 'config' / 'fastdds_shm.xml')
    return {name: value for name, value in wanted.items() if name not in current}


def check_room(folder: str = '/dev/shm') -> None:
    """Exit with 1 and a sentence if shared memory is full; call it before rclpy is imported."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:  # none is there, and Fast DDS uses none
        return
    if free < LEAST << 20:
        sys.exit(f'vl2v_ros: expected at least {LEAST} MiB of room in {folder}, where DDS keeps '
                 f'messages, found {free >> 10} KiB; remove what fills it (each killed node '
                 f'leaves {SEGMENT} MiB as fastdds_*), or give a container more (docker run '
                 '--shm-size=1g)')


def shortage(folder: str = '/dev/shm') -> str:
    """
    Return advice for a warning if shared memory has no room for a process, '' if it has.

    Fast DDS then uses UDP alone, which loses large images. A Docker container has 64 MiB by
    default.
    """
    try:
        free = shutil.disk_usage(folder).free // 2 ** 20
    except OSError:
        return ''
    return '' if free >= SEGMENT else (
        f', and room in {folder}: {free} MiB are left, {SEGMENT} needed for each process; '
        'docker run --shm-size=1g gives more')
