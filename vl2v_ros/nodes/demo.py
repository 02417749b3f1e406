"""
vl2v_demo: run the classifier and a camera as two processes, without `ros2 launch`.

It prints the labels as they arrive, and changes the vocabulary by the service after half of the
time. It saves ~/overlay as a video, a picture per vocabulary, and a page of labelled pictures.
With --scene it shows renders of heaps instead, and what is where in them.
"""
import argparse
from collections.abc import Sequence
import math
import os
from pathlib import Path
import sys
from tempfile import TemporaryFile
import time
from typing import Any

from ament_index_python.packages import get_package_share_directory
import cv2
import numpy as np
import rclpy
from rclpy.client import Client
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, qos_profile_sensor_data, QoSProfile
from sensor_msgs.msg import Image
from vl2v_msgs.msg import LabelArray, Vocabulary
from vl2v_msgs.srv import SetVocabulary
from vl2v_ros.checks import number
from vl2v_ros.drawing import contact_sheet
from vl2v_ros.drawing.contact_sheet import Part, Tile
from vl2v_ros.images.frame import to_rgb
from vl2v_ros.nodes.camera_node import is_webcam, open_source
from vl2v_ros.nodes.demo_parts import scenes
from vl2v_ros.nodes.demo_parts.processes import NAMESPACE, running, spin, START_TIMEOUT
from vl2v_ros.nodes.messages import to_frame
from vl2v_ros.nodes.program import until_stopped
from vl2v_ros.nodes.transport import environment
from vl2v_ros.words.vocabulary_file import parse

RATE = 30.0  # [Hz]
TILES = 8  # pictures of each vocabulary on the page
LISTENERS = 2  # subscribers of the camera: the classifier and the viewer
KEPT = 8  # images that may wait for their labels
# The labels of the second half: kinds of things, which need no network.
OTHER_LABELS = 'fruit, vegetable, juice, milk, person, furniture'


class Viewer(Node):
    """Prints labels and records the overlay, as a user's own node would."""

    def __init__(self, out: Path, rate: float, seconds: float) -> None:
        """
        Listen to the classifier in NAMESPACE.

        :param out: folder to write into.
        :param rate: frame rate of the video to write [Hz].
        :param seconds: how long each vocabulary is used [s].
        """
        super().__init__('viewer', namespace=NAMESPACE)
        self._out, self._rate, self._step = out, rate, seconds / TILES
        self._video: cv2.VideoWriter | None = None
        self._shown = ''
        self._start = time.monotonic()
        self._since: dict[int, float] = {}  # version -> time of its first labels
        self._tiles: dict[int, dict[int, Tile]] = {}  # version -> step -> picture
        self._images: dict[tuple[int, int], Image] = {}  # stamp -> image, the newest ones
        self.latencies: list[float] = []
        self.pictures: dict[int, Image] = {}
        """An overlay of each vocabulary version."""
        self.vocabularies: dict[int, Vocabulary] = {}
        self.version = 0
        self.refused = ''
        """Why the second vocabulary was refused, if it was."""
        self.create_subscription(LabelArray, 'classifier/labels', self._on_labels, 10)
        self.create_subscription(Image, 'classifier/overlay', self._on_overlay, 10)
        self.create_subscription(Image, 'image', self._on_image, qos_profile_sensor_data)
        self.create_subscription(
            Vocabulary, 'classifier/vocabulary', self._on_vocabulary,
            QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
        self._client: Client[Any, Any] = self.create_client(
            SetVocabulary, 'classifier/set_vocabulary')

    def _on_vocabulary(self, message: Vocabulary) -> None:
        self.vocabularies[message.version] = message

    def _on_image(self, message: Image) -> None:
        self._images[message.header.stamp.sec, message.header.stamp.nanosec] = message
        if len(self._images) > KEPT:
            del self._images[next(iter(self._images))]

    def _on_labels(self, message: LabelArray) -> None:
        now = self.get_clock().now().nanoseconds
        stamp = message.header.stamp
        self.latencies.append(now * 1e-9 - stamp.sec - stamp.nanosec * 1e-9)
        self.version = message.vocabulary_version
        self._collect(message)
        best = message.labels[0]
        shown = f'unknown (nearest: {best.label})' if message.unknown else best.label
        if shown != self._shown:
            self._shown = shown
            print(f'{time.monotonic() - self._start:6.1f} s  vocabulary {self.version}  '
                  f'{shown:32s} score {best.score:.2f}  similarity {best.similarity:.2f}  '
                  f'latency {1000 * self.latencies[-1]:.0f} ms', flush=True)

    def _collect(self, message: LabelArray) -> None:
        """Keep a picture for the page in the middle of each step of a vocabulary."""
        since = self._since.setdefault(self.version, time.monotonic())
        tiles = self._tiles.setdefault(self.version, {})
        image = self._images.get((message.header.stamp.sec, message.header.stamp.nanosec))
        step = math.floor((time.monotonic() - since) / self._step - 0.5)
        if image is not None and 0 <= step < TILES and step not in tiles:
            best = message.labels[0]
            tiles[step] = Tile(to_rgb(to_frame(image)), best.label, best.score, message.unknown)

    def _on_overlay(self, message: Image) -> None:
        if self._video is None:
            self._video = cv2.VideoWriter(str(self._out / 'demo.mp4'),
                                          cv2.VideoWriter.fourcc(*'mp4v'), self._rate,
                                          (message.width, message.height))
        self._video.write(to_bgr(message))
        # The last overlay often follows a cut, so this is the one of the page's last picture.
        since = self._since.get(self.version, time.monotonic())
        if time.monotonic() < since + (TILES - 0.5) * self._step:
            self.pictures[self.version] = message

    def set_vocabulary(self, labels: Sequence[str]) -> None:
        """Replace the classifier's labels and print its reply."""
        self._client.wait_for_service()
        reply = self._client.call_async(SetVocabulary.Request(
            operation=SetVocabulary.Request.REPLACE, labels=list(labels)))
        rclpy.spin_until_future_complete(self, reply)
        answer = reply.result()
        assert answer is not None  # it was waited for
        self.refused = '' if answer.success else answer.message
        print(f'--- set_vocabulary {", ".join(labels)}: {answer.message} '
              f'({1000 * answer.seconds:.0f} ms)', flush=True)

    def save(self) -> None:
        """Finish the video, and write one picture per vocabulary and the page."""
        if self._video:
            self._video.release()
            print(f'wrote {self._out / "demo.mp4"}')
        for version, message in self.pictures.items():
            path = self._out / f'vocabulary_{version}.jpg'
            cv2.imwrite(str(path), to_bgr(message))
            print(f'wrote {path}')
        parts = [Part(heading(self.vocabularies[version]), [*tiles.values()])
                 for version, tiles in self._tiles.items()
                 if tiles and version in self.vocabularies]
        if parts:
            path = self._out / 'sheet.jpg'
            cv2.imwrite(str(path), cv2.cvtColor(contact_sheet.draw(parts), cv2.COLOR_RGB2BGR),
                        (cv2.IMWRITE_JPEG_QUALITY, 85))
            print(f'wrote {path}')


def to_bgr(message: Image) -> np.ndarray:
    """Return an image as OpenCV writes it, (H, W, 3) uint8."""
    return cv2.cvtColor(to_rgb(to_frame(message)), cv2.COLOR_RGB2BGR)


def heading(vocabulary: Vocabulary) -> str:
    """Return a line with the labels."""
    return f'{len(vocabulary.labels)} labels: {", ".join(vocabulary.labels[:30])}'


def play(viewer: Viewer, arguments: argparse.Namespace, half: float) -> None:
    """Run the two nodes, and change the vocabulary after `half` of the time [s]."""
    with running('classifier_node', {'checkpoint': arguments.checkpoint,
                                     'vocabulary': arguments.vocabulary,
                                     'unknown_threshold': arguments.unknown_threshold
                                     }) as classifier:
        spin(viewer, [classifier], START_TIMEOUT, lambda: viewer.vocabularies, 'vocabulary')
        with running('camera_node', {'source': arguments.source, 'rate': arguments.rate,
                                     'listeners': LISTENERS}) as camera:
            spin(viewer, [classifier, camera], START_TIMEOUT, lambda: viewer.latencies, 'label')
            spin(viewer, [classifier, camera], half)
            viewer.set_vocabulary([*arguments.then.entries])
            spin(viewer, [classifier, camera], half)


def main() -> None:
    """Run the demo."""
    share = Path(get_package_share_directory('vl2v_ros'))
    parser = argparse.ArgumentParser(prog='vl2v_demo', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('demo'), help='folder to write into')
    parser.add_argument('--seconds', type=number(float, 0.1, 86400), default=16,
                        help='duration of the demo [s]')
    parser.add_argument('--rate', type=number(float, 0.1, 1000), default=RATE,
                        help='frames published per second [Hz]')
    parser.add_argument('--source', default=share / 'data/photos_sample/sequence.mp4',
                        help='images to label: a folder, a video file or a webcam (0); by default '
                        'a video of photos from shops')
    parser.add_argument('--checkpoint', type=Path, default=share / 'models/student.safetensors',
                        help='student to run, *.safetensors; by default the one in the package')
    parser.add_argument('--vocabulary', default=share / 'config/vocabularies/everyday.yaml',
                        help='labels of the first half, separated by commas, or a *.yaml file')
    parser.add_argument('--then', default=OTHER_LABELS,
                        help='labels of the second half, separated by commas, or a *.yaml file')
    parser.add_argument('--unknown-threshold', type=number(float, -1, 1), default=0.0,
                        help='cosine similarity below which a frame is unknown; by default 0, so '
                        'none is: the two vocabularies would need different thresholds')
    parser.add_argument('--scene', action='store_true', help='name the boxes of rendered heaps, '
                        'with their distances; of the other options, --out and --checkpoint count')
    arguments = parser.parse_args()
    arguments.source = os.path.expanduser(arguments.source)
    try:
        parse(str(arguments.vocabulary))
        arguments.then = parse(arguments.then)
        if not arguments.then.entries:
            raise ValueError('--then: expected at least one label, got none')
        if not is_webcam(arguments.source):
            next(open_source(arguments.source, loop=False))
    except ValueError as error:
        sys.exit(f'vl2v_demo: {error}')
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=arguments.out).close()
    except OSError as error:
        sys.exit(f'vl2v_demo: expected a folder for --out that can be written, got {error}')
    os.environ.update(environment())  # for the two nodes, and for what this process receives
    rclpy.init()
    if arguments.scene:
        with until_stopped():
            scenes.play(arguments.out, arguments.checkpoint)
        return
    half = arguments.seconds / 2
    viewer = Viewer(arguments.out, arguments.rate, half)
    with until_stopped():
        play(viewer, arguments, half)
    viewer.save()  # also after a signal
    latencies = sorted(viewer.latencies)
    if latencies:
        print(f'{len(latencies)} frames labelled; from image stamp to label: median '
              f'{1000 * latencies[len(latencies) // 2]:.1f} ms')
    if viewer.refused:
        sys.exit(f'vl2v_demo: --then: {viewer.refused}')


if __name__ == '__main__':
    main()
