"""Examples: short enough to be read, and run as a user runs them."""
from contextlib import closing
from pathlib import Path
import shutil
import subprocess
import sys

import cv2
import pytest
from support import image_bags, photos_sample, shapes
from support.ros_processes import Camera, LABELS, Ros, wait_until
from vl2v_msgs.msg import LabelArray
from vl2v_msgs.srv import Find
from vl2v_ros.images.frame import to_rgb
from vl2v_ros.words.vocabulary_file import parse

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / 'examples').glob('*.py'))


@pytest.mark.parametrize('path', EXAMPLES, ids=lambda path: path.name)
def test_an_example_has_at_most_40_lines(path: Path) -> None:
    assert path.read_text().count('\n') <= 40


def example(name: str, *arguments: object) -> str:
    done = subprocess.run([sys.executable, ROOT / 'examples' / name, *map(str, arguments)],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a file of one frame for every photo of the sample, by its label."""
    folder, files = tmp_path_factory.mktemp('photos'), {}
    frames = photos_sample.read_frames()
    for number, shown in enumerate(photos_sample.read_list()):
        frame = frames[min(len(frames) - 1, photos_sample.RATE * number + photos_sample.RATE // 2)]
        path = folder / f'{number:02d}.png'
        cv2.imwrite(str(path), to_rgb(frame)[..., ::-1])
        files.setdefault(shown.labels[0], path)
    return files


@pytest.mark.usefixtures('warm_cache')
def test_a_folder_is_labelled(photos: dict[str, Path]) -> None:
    folder = next(iter(photos.values())).parent
    lines = example('label_folder.py', folder, ', '.join(photos)).splitlines()
    assert len(lines) == len(list(folder.iterdir()))
    named = [line for line in lines for label, path in photos.items()
             if line.endswith(path.name) and line.startswith(label)]
    assert len(named) > len(photos) / 2  # how many it should be, test_photos_sample.py says


@pytest.mark.usefixtures('warm_cache')
def test_a_bag_is_labelled(photos: dict[str, Path], tmp_path: Path) -> None:
    label, path = next(iter(photos.items()))
    pixels = cv2.imread(str(path))[..., ::-1]
    bag = image_bags.write(tmp_path / 'bag', [
        ('/camera', image_bags.START + number * 10**8, image_bags.raw(
            pixels, image_bags.START + number * 10**8)) for number in range(3)])
    said = example('label_bag.py', bag, ', '.join(photos))
    assert said.startswith('/camera: ') and said.endswith(' 3\n'), (label, said)


@pytest.mark.usefixtures('warm_cache')
def test_the_most_similar_image_is_the_image_itself(photos: dict[str, Path]) -> None:
    path = next(iter(photos.values()))
    lines = example('use_embedding.py', path, path.parent).splitlines()
    assert len(lines) == 6 and lines[0] == f'1.00 {path.name}'
    assert lines[-1].endswith(' a photo of a banana')


@pytest.mark.usefixtures('warm_cache')
def test_a_label_is_taught_by_photos_and_kept(photos: dict[str, Path], tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = [*photos.values()][1]
    (tmp_path / 'shown').mkdir()
    (tmp_path / 'shown' / path.name).symlink_to(path)
    for _ in range(2):  # the second time with what was kept
        assert example('teach_by_photos.py', 'my thing', 'shown', path) == 'my thing 0.30\n'
    kept = parse('taught.yaml')
    assert 'my thing' not in kept.entries and kept.examples_path is not None


def test_a_running_classifier_is_changed_and_listened_to(
        ros: Ros, settings: dict[str, object]) -> None:
    with ros.classifier(settings) as node:
        node.wait_for_output('labels images of')
        listen = [sys.executable, ROOT / 'examples' / 'label_listener.py']
        with ros.run(*listen) as listener, closing(Camera(ros)) as camera:
            # Again and again, as what comes before classifier and listener have met is lost.
            wait_until(lambda: camera.send() and 'the camera shows: ' in listener.output,
                       'what the listener says', step=0.3)
            change = ros.run(sys.executable, ROOT / 'examples' / 'change_vocabulary.py',
                             LABELS[1], LABELS[0])
            assert change.wait() == 0, change.output
            assert 'version 2: the vocabulary now has 2 label' in change.output
            assert listener.stop() == 0 and 'Traceback' not in listener.output
            with ros.run(sys.executable, ROOT / 'examples' / 'compare_with_text.py',
                         'a photo of a red circle.') as comparing:
                wait_until(lambda: camera.send() and ' a photo of a red circle.\n'
                           in comparing.output, 'a cosine', step=0.3)
                assert comparing.stop() == 0 and 'Traceback' not in comparing.output


def test_without_a_classifier_that_is_said(ros: Ros) -> None:
    change = ros.run(sys.executable, ROOT / 'examples' / 'change_vocabulary.py', 'mug')
    assert change.wait() == 1
    assert 'no classifier offers /classifier/set_vocabulary' in change.output


@pytest.mark.usefixtures('warm_cache')
def test_a_robot_is_brought_up(ros: Ros, shapes_student: Path, tmp_path: Path) -> None:
    pytest.importorskip('launch_ros')
    shapes.draw_sequence(tmp_path / 'frames', frames=2)
    given = {'camera': tmp_path / 'frames', 'checkpoint': shapes_student,
             'vocabulary': ', '.join(LABELS), 'file': tmp_path / 'memory.sqlite'}
    with ros.run(shutil.which('ros2'), 'launch', ROOT / 'examples/robot.launch.py',
                 *(f'{name}:={value}' for name, value in given.items())) as launcher:
        labels = ros.subscribe(LabelArray, '/robot/classifier/labels')
        assert labels.wait_for(bool).labels[0].label in LABELS
        wait_until(lambda: ros.call(Find, '/robot/memory/find', text=LABELS[0]).sightings,
                   'a sighting', step=0.3)
        assert launcher.stop() == 0
    assert 'Traceback' not in launcher.output
