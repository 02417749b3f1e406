"""
Let listeners of a camera come and crash, and measure for how long its images stand still.

python -m reliability.crashes --seconds 60 --wait 1000

A camera sends 30 images of 640x480 a second. Once a second a process of its own begins to listen
to it; it is killed 3 s later. Prints the times without an image of over three periods, as seen by
one that listens all the while. --wait is what Fast DDS's profile says of it [ms]; by default as in
config/fastdds_shm.xml, and Fast DDS's own is 1000. Exits with 1 if the camera does not end.
"""
import argparse
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
import itertools
import json
import os
from pathlib import Path
import re
import signal
import sys
import tempfile
import time
from typing import Any

from rclpy.qos import QoSProfile
from reliability.soak import GAP, RATE
from sensor_msgs.msg import Image
from support.processes import Process
from support.ros_processes import draw_frames, own_domain, Ros, what_was_sent
from vl2v_ros.nodes.transport import PROFILE

ROOT = Path(__file__).parents[2]
TOPIC = 'front/image'
EVERY, STAY = 1.0, 3.0  # one comes after so long, and is killed after so long [s]


def crashes(seconds: float, profile: Path) -> dict[str, Any]:
    """
    Run, and return what was seen.

    :param profile: of Fast DDS, for all processes; other files are written beside it.
    """
    os.environ[PROFILE] = str(profile)
    with own_domain() as domain, ExitStack() as stack:
        ros = Ros(domain, profile.parent)
        stack.callback(ros.close)
        came: list[float] = []

        def note(_: Image, info: Mapping[str, int]) -> None:
            came.append(info['received_timestamp'] / 1e9)

        ros.node.create_subscription(Image, TOPIC, note, QoSProfile(depth=1))
        frames = draw_frames(profile.parent / 'frames.npz', 640, 480)
        camera = ros.publish_frames(frames, TOPIC, round((seconds + 5) * RATE), RATE,
                                    reliability='reliable', settle=2.0)
        listeners, killed, end = deque[tuple[float, Process]](), 0, time.monotonic() + seconds
        while time.monotonic() < end or listeners:
            if time.monotonic() < end:
                listeners.append((time.monotonic() + STAY, ros.run(
                    sys.executable, ROOT / 'test/support/listener.py', TOPIC)))
            time.sleep(EVERY)
            while listeners and listeners[0][0] < time.monotonic():
                listeners.popleft()[1].stop(signal.SIGKILL)
                killed += 1
        sent, lateness = what_was_sent(camera)
    return {'sent': len(sent), 'arrived': len(came), 'killed': killed,
            'camera was late by at most [s]': round(lateness, 3),
            'over three periods without an image [s]': [
                round(after - before, 3) for before, after in itertools.pairwise(sorted(came))
                if after - before > GAP]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=60.0)
    parser.add_argument('--wait', type=int, help='healthy_check_timeout_ms')
    options = parser.parse_args()
    text = (ROOT / 'config/fastdds_shm.xml').read_text()
    if options.wait is not None:
        text = re.sub(r'(<healthy_check_timeout_ms>)\d+', rf'\g<1>{options.wait}', text)
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / 'profile.xml'
        profile.write_text(text)
        print(json.dumps(crashes(options.seconds, profile), indent=1))


if __name__ == '__main__':
    main()
