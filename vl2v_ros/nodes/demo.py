"""
vl2v_demo: the classifier and a camera as two processes, without `ros2 launch`.

It prints the labels as they come, changes the vocabulary half way through the service, and saves
what a viewer of ~/overlay would have seen.
"""
import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import json
import os
from pathlib import Path
import subprocess
import sys
import time

from ament_index_python.packages import get_package_share_directory
import cv2
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image
from vl2v_msgs.msg import LabelArray
from vl2v_msgs.srv import SetVocabulary
from vl2v_ros.frame import to_rgb
from vl2v_ros.nodes.messages import to_frame
from vl2v_ros.nodes.transport import environment

NAMESPACE = '/demo'
START_TIMEOUT = 120.0  # to the first label [s]; a first start encodes prompts and compiles
VIDEO_RATE = 15.0  # [Hz]
# What it changes to half way: kinds of what the video shows, in words that need no network.
OTHER_LABELS = 'bottle, fruit, dish, drill, ball, box, mallet, cube'


class Viewer(Node):
    """Prints labels and records the overlay, as a user's own node would."""

    def __init__(self, out: Path) -> None:
        """Listen to the classifier in NAMESPACE; write into the folder `out`."""
        super().__init__('viewer', namespace=NAMESPACE)
        self._out = out
        self._video: cv2.VideoWriter | None = None
        self._shown = ''
        self._start = time.monotonic()
        self.latencies: list[float] = []
        self.newest: dict[int, Image] = {}
        """The last overlay of each vocabulary version."""
        self.version = 0
        self.create_subscription(LabelArray, 'classifier/labels', self._on_labels, 10)
        self.create_subscription(Image, 'classifier/overlay', self._on_overlay, 10)
        self._client = self.create_client(SetVocabulary, 'classifier/set_vocabulary')

    def _on_labels(self, message: LabelArray) -> None:
        now = self.get_clock().now().nanoseconds
        stamp = message.header.stamp
        self.latencies.append(now * 1e-9 - stamp.sec - stamp.nanosec * 1e-9)
        self.version = message.vocabulary_version
        best = message.labels[0]
        shown = f'unknown (nearest: {best.label})' if message.unknown else best.label
        if shown != self._shown:
            self._shown = shown
            print(f'{time.monotonic() - self._start:6.1f} s  vocabulary {self.version}  '
                  f'{shown:32s} score {best.score:.2f}  similarity {best.similarity:.2f}  '
                  f'latency {1000 * self.latencies[-1]:.0f} ms', flush=True)

    def _on_overlay(self, message: Image) -> None:
        if self._video is None:
            self._video = cv2.VideoWriter(str(self._out / 'demo.mp4'),
                                          cv2.VideoWriter_fourcc(*'mp4v'), VIDEO_RATE,
                                          (message.width, message.height))
        self._video.write(cv2.cvtColor(to_rgb(to_frame(message)), cv2.COLOR_RGB2BGR))
        self.newest[self.version] = message

    def set_vocabulary(self, labels: Sequence[str]) -> None:
        """Replace the classifier's labels and print its reply."""
        self._client.wait_for_service()
        reply = self._client.call_async(SetVocabulary.Request(
            operation=SetVocabulary.Request.REPLACE, labels=list(labels)))
        rclpy.spin_until_future_complete(self, reply)
        answer = reply.result()
        print(f'--- set_vocabulary {", ".join(labels)}: {answer.message} '
              f'({1000 * answer.seconds:.0f} ms)', flush=True)

    def save(self) -> None:
        """Finish the video and write one picture per vocabulary."""
        if self._video:
            self._video.release()
            print(f'wrote {self._out / "demo.mp4"}')
        for version, message in self.newest.items():
            path = self._out / f'vocabulary_{version}.jpg'
            cv2.imwrite(str(path), cv2.cvtColor(to_rgb(to_frame(message)), cv2.COLOR_RGB2BGR))
            print(f'wrote {path}')


@contextmanager
def running(module: str, parameters: dict[str, object]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a node of this package as a process of its own, in NAMESPACE, until the block ends."""
    command = [sys.executable, '-m', f'vl2v_ros.nodes.{module}', '--ros-args',
               '-r', f'__ns:={NAMESPACE}']
    for name, value in parameters.items():  # quoted: `yes` or `12` would not be strings in YAML
        quoted = value if isinstance(value, float) else json.dumps(str(value))
        command += ['-p', f'{name}:={quoted}']
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def spin(viewer: Viewer, processes: Sequence[subprocess.Popen[bytes]], seconds: float,
         until_labelled: bool = False) -> None:
    """Let the viewer work for some seconds; stop the demo when a process has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not (until_labelled and viewer.latencies):
        rclpy.spin_once(viewer, timeout_sec=0.1)
        for process in processes:
            if process.poll() is not None:
                sys.exit(f'vl2v_demo: {process.args[2]} ended with {process.returncode}; '
                         'see its message above')
    if until_labelled and not viewer.latencies:
        sys.exit(f'vl2v_demo: no label in {seconds:.0f} s')


def main() -> None:
    """Run the demo."""
    share = Path(get_package_share_directory('vl2v_ros'))
    parser = argparse.ArgumentParser(prog='vl2v_demo', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('demo'), help='folder for what it makes')
    parser.add_argument('--seconds', type=float, default=16, help='how long it labels')
    parser.add_argument('--rate', type=float, default=VIDEO_RATE, help='frames per second [Hz]')
    parser.add_argument('--source', default=share / 'data/ycb_sample/sequence.mp4',
                        help='folder of images, video file or webcam (0); by default renders of '
                        'YCB objects')
    parser.add_argument('--checkpoint', type=Path, default=share / 'models/student.safetensors',
                        help='by default the student that ships')
    parser.add_argument('--vocabulary', default=share / 'config/vocabularies/everyday.yaml',
                        help='labels of the first half, or a *.yaml file')
    parser.add_argument('--then', default=OTHER_LABELS, help='labels of the second half')
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    os.environ.update(environment())  # for the two nodes, and for what this process receives
    rclpy.init()
    viewer = Viewer(arguments.out)
    try:
        with running('classifier_node', {'checkpoint': arguments.checkpoint,
                                         'vocabulary': arguments.vocabulary}) as classifier, \
                running('camera_node', {'source': arguments.source,
                                        'rate': arguments.rate}) as camera:
            processes = classifier, camera
            spin(viewer, processes, START_TIMEOUT, until_labelled=True)
            spin(viewer, processes, arguments.seconds / 2)
            viewer.set_vocabulary([label.strip() for label in arguments.then.split(',')])
            spin(viewer, processes, arguments.seconds / 2)
    except KeyboardInterrupt:
        pass
    except Exception:
        if rclpy.ok():  # else it was told to stop, and keeps what it has seen
            raise
    viewer.save()
    latencies = sorted(viewer.latencies)
    if latencies:
        print(f'{len(latencies)} frames labelled; from image stamp to label: median '
              f'{1000 * latencies[len(latencies) // 2]:.1f} ms')
    rclpy.try_shutdown()


if __name__ == '__main__':
    main()
