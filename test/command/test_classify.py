"""vl2v_classify, as a user starts it: images, folders, videos, bags, and runs that are ended."""
import fcntl
import os
from pathlib import Path
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time

import cv2
from PIL import Image
import pytest
from rosbags.rosbag2 import Reader
from support import image_bags, warm
from support.classify_command import COMMAND, draw, LABELS, PROGRAM, rows, run
from support.image_bags import DELAY, SECOND, START
from vl2v_ros.drawing import overlay
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.sources import read_image
from vl2v_ros.model import checkpoint
from vl2v_ros.model.classifier import Classifier
from vl2v_ros.words import clip_text, vocabulary, vocabulary_file
from vl2v_ros.words.explain import reasons
from vl2v_ros.words.labels import check_labels
from vl2v_ros.words.vocabulary import Vocabulary
from vl2v_ros.words.vocabulary_file import VocabularyFile

ROOT = Path(__file__).resolve().parents[2]
BANANA = ROOT / 'data/ycb_sample/single/studio/011_banana/00000.jpg'
VOCABULARY = """
labels:
  red circle: [It is flat and of one colour., It lies on the floor of a room.]
  blue square: {descriptions: [It is flat and of one colour.], synonyms: [blue box]}
templates: ['a photo of a {label}. {description}', 'the {label}']
background: [an empty table]
"""

pytestmark = pytest.mark.usefixtures('warm_cache')


def load(student: str, file: VocabularyFile) -> tuple[Classifier, Vocabulary]:
    """Make with the package's own functions what the command makes."""
    classifier = Classifier(checkpoint.load(Path(student)), 'cpu')
    tower = clip_text.ClipText(classifier.spec.text_tower, Path(student).parent)
    return classifier, vocabulary.build(file.entries, tower, 1,
                                        file.templates or classifier.spec.templates,
                                        file.background)


def test_what_ships_names_an_image_without_any_part_of_ros() -> None:
    done = subprocess.run(
        [sys.executable, '-c', 'import sys\nfrom vl2v_ros.command.classify import main\n'
         'main(sys.argv[1:])\nprint([name for name in sys.modules if name == "rclpy" or '
         'name.startswith("ament_") or name.endswith("_msgs")])', str(BANANA)],
        capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    first, *_, last = done.stdout.splitlines()
    assert first == f'{BANANA}: banana'
    assert last == '[]'
    assert re.search(r' a banana\.?\n', done.stdout)  # its prompt


def test_an_image_is_explained_prompt_by_prompt_and_drawn(
        folder: Path, options: list[str], tmp_path: Path) -> None:
    (tmp_path / 'words.yaml').write_text(VOCABULARY)
    image, picture = folder / '0.png', tmp_path / 'why.png'
    said = run(image, *options[:4], '--vocabulary', tmp_path / 'words.yaml', '--plot', picture
               ).stdout.splitlines()
    assert said[0] == f'{image}: red circle'
    assert said[-1] == f'wrote {picture}'
    classifier, words = load(options[1], vocabulary_file.parse(str(tmp_path / 'words.yaml')))
    frame = read_image(image)
    [prediction] = classifier.classify([frame], words)
    why = reasons(classifier.embed([frame])[0], words, prediction.labels)
    numbers = {line.split(maxsplit=1)[1]: float(line.split()[0]) for line in said[2:-1]
               if line.split()[0][-1].isdigit()}
    assert len(why) == 3 + 4 + 1  # 'the red circle' once; two names with two templates; background
    for reason in why:
        assert numbers[reason.prompt] == pytest.approx(reason.similarity, abs=0.002)
    for label, similarity, score in zip(prediction.labels, prediction.similarities,
                                        prediction.scores, strict=True):
        assert numbers[f'{score:.3f}  {label}'] == pytest.approx(similarity, abs=0.002)
    with Image.open(picture) as shown:
        assert shown.format == 'PNG'
        assert shown.size[0] == 960


def test_a_folder_becomes_a_table_with_a_progress_bar(
        folder: Path, options: list[str], tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('4H', 24, 100, 0, 0))
    process = subprocess.Popen([str(COMMAND), str(folder), *options, '--top-k', '2', '--out',
                                str(tmp_path / 'x.csv')], stderr=theirs)
    os.close(theirs)
    seen = b''
    try:
        while part := os.read(ours, 65536):
            seen += part
    except OSError:  # how the end of a terminal is told
        pass
    os.close(ours)
    assert process.wait(60) == 0
    terminal = seen.decode()
    assert re.search(r'\d/6 \[.*picture', terminal)
    for name in ('1_cut.png', '2_text.jpg'):
        assert f'skipped {folder / name}: expected' in terminal
    best, second = rows(tmp_path / 'x.csv'), rows(tmp_path / 'x.csv', 2)
    assert [(row['file'], row['label'], row['unknown']) for row in best] == [
        (str(folder / f'{number}.png'), label, '0') for number, label in enumerate(LABELS)]
    assert len(second) == 4
    assert not rows(tmp_path / 'x.csv', 3)


def test_a_video_becomes_an_annotated_video(options: list[str], tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / 'x.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 7.5,
                             (160, 120))
    for number in range(20):
        writer.write(draw(LABELS[number // 10])[..., ::-1])
    writer.release()
    said = run(tmp_path / 'x.avi', *options, '--out', tmp_path / 'y.mp4')
    assert said.stdout == f'wrote {tmp_path / "y.mp4"}\n'
    before, after = (cv2.VideoCapture(str(tmp_path / name)) for name in ('x.avi', 'y.mp4'))
    assert after.get(cv2.CAP_PROP_FPS) == pytest.approx(7.5)
    classifier, words = load(options[1], VocabularyFile(check_labels(LABELS)))
    for number in range(20):
        frame, annotated = Frame(before.read()[1], 'bgr'), after.read()[1]
        [prediction] = classifier.classify([frame], words)
        assert prediction.labels[0] == LABELS[number // 10]
        wanted = overlay.draw(frame, prediction)[..., ::-1].astype(int)
        assert abs(annotated - wanted).mean() < 5 < 10 < abs(frame.pixels - wanted).mean()
    assert not after.read()[0]


def test_a_bag_becomes_a_bag_that_ros_reads(options: list[str], tmp_path: Path) -> None:
    from rclpy.serialization import deserialize_message
    from vision_msgs.msg import Classification
    from vl2v_msgs.msg import LabelArray
    topics = {'/front/image_raw': image_bags.raw, '/rear/image/compressed': image_bags.compressed}
    messages = [(topic, START + number * SECOND // 5, make(draw(label, number), START + number
                                                           * SECOND // 5))
                for number, label in enumerate(LABELS) for topic, make in topics.items()]
    image_bags.write(tmp_path / 'bag', messages)
    run(tmp_path / 'bag', *options, '--out', tmp_path / 'x.mcap')
    with Reader(tmp_path / 'x.mcap') as reader:
        found = [(connection.topic, time, data) for connection, time, data
                 in reader.messages(reader.connections)]
    assert len(found) == len(LABELS) * 2 * 2
    for number, label in enumerate(LABELS):
        stamp = START + number * SECOND // 5
        now = {topic: bytes(data) for topic, time, data in found if time == stamp + DELAY}
        assert now.keys() == {f'{topic}/{what}' for topic in topics
                              for what in ('labels', 'classification')}
        for topic in topics:
            labels = deserialize_message(now[f'{topic}/labels'], LabelArray)
            classification = deserialize_message(now[f'{topic}/classification'], Classification)
            assert (labels.labels[0].label, labels.unknown) == (label, False)
            assert classification.results[0].class_id == label
            assert labels.header.stamp.sec * SECOND + labels.header.stamp.nanosec == stamp
            assert labels.header.frame_id == 'camera'


@pytest.fixture(scope='module')
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with more pictures than are labelled before a run is ended."""
    many = tmp_path_factory.mktemp('many')
    cv2.imwrite(str(many / '0.bmp'), draw('red circle'))
    for copy in range(1, 20_000):
        os.link(many / '0.bmp', many / f'{copy}.bmp')
    return many


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize('name', ['x.mp4', 'bag'])
@pytest.mark.long
def test_a_run_that_is_ended_leaves_what_was_there(
        many: Path, options: list[str], tmp_path: Path, name: str, number: int) -> None:
    out = tmp_path / 'out' / name
    out.parent.mkdir()
    if name == 'x.mp4':
        out.write_text('before')
    process = warm.Program([PROGRAM, many, *options, '--out', out], tmp_path / 'said')
    end = time.monotonic() + 300
    while not list(out.parent.glob(f'.{name}.*/{name}*')):  # it writes now
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(60) != 0
    left = {path.name for path in out.parent.iterdir()}
    if number == signal.SIGKILL:
        left = {name for name in left if not name.startswith('.')}
    assert left == ({name} if name == 'x.mp4' else set())
    assert name != 'x.mp4' or out.read_text() == 'before'
