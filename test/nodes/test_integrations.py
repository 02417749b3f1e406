"""docs/integrations.md: its lines, with stand-ins of what they name as processes of their own."""
from collections.abc import Iterator
from contextlib import contextmanager
import json
from pathlib import Path
import re

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import pytest
from support import shapes
from support.drivers import SIMULATED
from support.ros_processes import LABELS, Process, Ros, wait_until
from vision_msgs.msg import Detection3DArray
from vl2v_msgs.msg import LabelArray
from vl2v_msgs.srv import Find

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs/integrations.md').read_text(encoding='utf-8')
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
DRIVERS, DETECTOR = (ROOT / 'test/support' / name for name in ('drivers.py', 'detector.py'))
LINE = re.compile(r'ros2 launch vl2v_ros (\w+)\.launch\.py((?:[^\n]*\\\n)*[^\n]*)')
SHOWN, AWAY = LABELS[1], 1.5  # what the camera sees, and how far it is [m]
OURS = {'unknown_threshold': -1.0, 'region_margin': 0.0, 'region_slack': 2.0}


def arguments(said: str) -> dict[str, str]:
    """Return the launch arguments of a line on a page."""
    return dict(re.findall(r'(\w+):=(\'[^\']*\'|[^\s\'`]+)', said))


def line(section: str, file: str = 'classify') -> dict[str, str]:
    """Return the arguments of the first line of a section that starts one of our launch files."""
    text = PAGE.partition(f'\n## {section}\n')[2].partition('\n## ')[0]
    return next(arguments(said) for name, said in LINE.findall(text) if name == file)


def remapped(given: dict[str, str]) -> list[str]:
    """Return topics as a launch file hands them on."""
    topics = [(name, topic) for name, topic in given.items()
              if name in ('image', 'depth', 'camera_info')]
    return [word for name, topic in topics for word in ('-r', f'{name}:={topic}')]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_arguments_on_pages_are_those_of_the_launch_files(page: Path) -> None:
    for file, said in LINE.findall(page.read_text(encoding='utf-8')):
        source = (ROOT / f'launch/{file}.launch.py').read_text(encoding='utf-8')
        if file == 'demo':  # it includes the other
            source += (ROOT / 'launch/classify.launch.py').read_text(encoding='utf-8')
        for name in arguments(said):
            assert f"'{name}'" in source, f'{file}.launch.py has no argument {name}'


@contextmanager
def driver(ros: Ros, folder: Path, name: str, width: int, height: int, *remaps: str
           ) -> Iterator[Process]:
    """Start a stand-in that shows SHOWN, AWAY, with holes in the depth."""
    depth = np.full((height, width), AWAY)
    depth[:, ::7] = np.inf
    path = folder / f'{name.replace(" ", "_")}.npz'
    np.savez(path, depth=depth, rgb=shapes.draw(SHOWN, width, height, np.random.default_rng(1),
                                                (0, 0)))
    with ros.run(DRIVERS, name, path, '--ros-args', *remaps) as process:
        yield process


@contextmanager
def detector(ros: Ros, folder: Path, image: str, frame_id: str, width: int, height: int
             ) -> Iterator[Process]:
    """Start a detector that finds a box around the middle."""
    boxes = folder / 'boxes.json'
    boxes.write_text(json.dumps({frame_id: [
        [width / 2, height / 2, height, height, 'track 1']]}))
    with ros.run(DETECTOR, boxes, image, 'regions') as process:
        yield process


def placed(ros: Ros, frame_id: str) -> Detection3DArray:
    """Wait for a box with its place, and check both."""
    found = ros.subscribe(Detection3DArray, 'classifier/detections_3d').wait_for(
        lambda message: message.detections)
    assert found.header.frame_id == frame_id
    box, = found.detections
    assert (box.id, box.results[0].hypothesis.class_id) == ('track 1', SHOWN)
    place = box.bbox.center.position
    assert (place.x, place.y, place.z) == pytest.approx((0.0, 0.0, AWAY), abs=0.01)
    return found


def test_a_realsense_gives_labels_distances_and_memory(
        ros: Ros, settings: dict[str, object], tmp_path: Path) -> None:
    frame_id, size = 'camera_color_optical_frame', (1280, 720)
    given = line('RealSense')
    with (driver(ros, tmp_path, 'realsense2_camera', *size),
          detector(ros, tmp_path, given['image'], frame_id, *size),
          ros.classifier(settings | OURS, *remapped(given)),
          ros.start('remembering.memory_node', {'file': tmp_path / 'memory.sqlite'},
                    *remapped(line('RealSense', 'memory'))).wait_for_output('remembers in')):
        label = ros.subscribe(LabelArray, 'classifier/labels').wait_for(bool)
        assert (label.header.frame_id, label.labels[0].label) == (frame_id, SHOWN)
        for topic in given['image'], given['depth'], given['camera_info']:
            offered = ros.node.get_publishers_info_by_topic(topic)
            assert {one.node_namespace + '/' + one.node_name for one in offered} == {
                '/camera/camera'}, topic
        placed(ros, frame_id)

        def seen() -> Find.Response | None:
            answer = ros.call(Find, 'memory/find', text=SHOWN)
            good = [one for one in answer.sightings if one.thumbnail.data]
            return answer if good else None
        assert wait_until(seen, 'a sighting with a picture', step=0.3).success


@pytest.fixture(scope='module')
def webcams(ros: Ros, settings: dict[str, object]) -> Process:
    """Return a classifier with a camera for each of the stand-ins below."""
    names = [name.replace(' ', '_') for name in WEBCAMS]
    remaps = [word for name in names for word in ('-r', f'{name}/image:=/{name}/image_raw')]
    return ros.classifier(settings | OURS | {'cameras': names}, *remaps, '-r', '__node:=many')


WEBCAMS = ['usb_cam mjpeg2rgb', 'usb_cam yuyv', 'usb_cam mjpeg', 'v4l2_camera']


@pytest.mark.parametrize('name', WEBCAMS)
def test_webcams_are_labelled(ros: Ros, webcams: Process, tmp_path: Path, name: str) -> None:
    camera = name.replace(' ', '_')
    assert line('usb_cam and v4l2_camera')['image'] == '/image_raw'
    with driver(ros, tmp_path, name, 640, 480, '-r', f'__ns:=/{camera}'):
        label = ros.subscribe(LabelArray, f'many/{camera}/labels').wait_for(bool)
        assert label.labels[0].label == SHOWN
        transport = '/compressed' if name == 'usb_cam mjpeg' else ''
        webcams.wait_for_output(f'receives images on /{camera}/image_raw{transport}\n')


def test_a_simulator_gives_labels_and_distances_in_its_time(
        ros: Ros, settings: dict[str, object], tmp_path: Path) -> None:
    frame_id, size, given = 'camera_optical', (320, 240), line('Gazebo')
    assert given['use_sim_time'] == 'true'
    with (driver(ros, tmp_path, 'ros_gz_bridge', *size),
          detector(ros, tmp_path, given['image'], frame_id, *size),
          ros.classifier(settings | OURS | {'use_sim_time': True}, *remapped(given))):
        found = placed(ros, frame_id)
        assert SIMULATED / 1e9 <= found.header.stamp.sec < 10 * SIMULATED / 1e9

        def latencies(message: DiagnosticArray) -> list[float]:
            return [float(value.value) for status in message.status for value in status.values
                    if status.name == '/classifier: camera' and value.key == 'latency mean [ms]'
                    and value.value[0].isdigit()]
        said = ros.subscribe(DiagnosticArray, '/diagnostics').wait_for(latencies)
        assert latencies(said)[0] < 10_000
        assert said.header.stamp.sec < 10 * SIMULATED / 1e9
