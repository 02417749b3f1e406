"""
Measure the time from the start of a node with a bundle to its first label.

python -m benchmarks.choices.first_label robot/

It starts itself again in a network namespace of its own, where only the loopback interface is up
(DDS needs it), and with an empty home. That needs root, or unprivileged user namespaces.
"""
from dataclasses import dataclass
import os
from pathlib import Path
import signal
import subprocess
import sys
from tempfile import TemporaryDirectory
import time

from sensor_msgs.msg import Image
import tyro
from vl2v_msgs.msg import LabelArray
from vl2v_ros.model import bundle

INSIDE = 'VL2V_FIRST_LABEL'  # set in the namespace
PATIENCE = 120  # until the first label [s]
ALONE = 'ip link set lo up && exec "$@"'


@dataclass(frozen=True)
class Options:
    """What is measured."""

    folder: tyro.conf.Positional[Path]  # Bundle that vl2v_bundle wrote.
    rounds: int = 5  # Number of starts, each with an empty home.
    device: str = 'cpu'  # Device that runs the student.


def start(folder: Path, device: str, home: Path) -> tuple[float, float, str]:
    """Return wall and CPU time from the start to the first label [s], and the label."""
    import rclpy
    bundle.check(folder)
    own = folder / bundle.PARAMETERS
    given = ['--params-file', str(own)] if own.is_file() else []
    for name, value in (('checkpoint', folder / bundle.STUDENT), ('device', device),
                        ('vocabulary', folder / bundle.VOCABULARY)):
        given += ['-p', f'{name}:={value}']
    rclpy.init()
    node = rclpy.create_node('first_label')
    labels: list[LabelArray] = []
    node.create_subscription(LabelArray, 'classifier/labels', labels.append, 10)
    publisher = node.create_publisher(Image, 'image', 1)
    image = Image(height=480, width=640, encoding='rgb8', step=1920, data=bytes(480 * 1920))
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, '-m', 'vl2v_ros.nodes.classifier_node', '--ros-args', *given],
        env={**os.environ, 'HOME': str(home), 'ROS_LOG_DIR': str(home / 'log')})
    try:
        while not labels and time.monotonic() - begun < PATIENCE and process.poll() is None:
            image.header.stamp = node.get_clock().now().to_msg()
            publisher.publish(image)
            rclpy.spin_once(node, timeout_sec=0.05)
        took = time.monotonic() - begun
        fields = Path(f'/proc/{process.pid}/stat').read_text().rpartition(')')[2].split()
        used = (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        node.destroy_node()
        rclpy.shutdown()
    if not labels:
        sys.exit(f'first_label: expected a label within {PATIENCE} s, got none')
    return took, used, labels[0].labels[0].label


def main(options: Options) -> None:
    """Start again without a network, and measure there."""
    if INSIDE not in os.environ:
        kept = {name: value for name, value in os.environ.items() if name != 'XDG_CACHE_HOME'}
        os.execvpe('unshare', ['unshare', '--map-root-user', '--net', 'sh', '-c', ALONE, 'sh',
                               sys.executable, '-m', 'benchmarks.choices.first_label',
                               *sys.argv[1:]], {**kept, INSIDE: '1'})
    for _ in range(options.rounds):
        with TemporaryDirectory() as home:
            took, used, label = start(options.folder.resolve(), options.device, Path(home))
            print(f'first label after {took:.2f} s, {used:.2f} s of them on the CPU: {label}',
                  flush=True)


if __name__ == '__main__':
    main(tyro.cli(Options))
