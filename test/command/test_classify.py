"""vl2v_classify, as a user starts it; and what it says of what it cannot do."""
from collections.abc import Iterator
import csv
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
import numpy as np
from PIL import Image
import pytest
from rosbags.rosbag2 import Reader
from support import image_bags, shapes
from support.image_bags import DELAY, SECOND, START
from vl2v_ros.command.classify import main, STILL_RATE
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

COMMAND = Path(sys.executable).parent / 'vl2v_classify'
ROOT = Path(__file__).resolve().parents[2]
BANANA = ROOT / 'data/ycb_sample/single/studio/011_banana/00000.jpg'
LABELS = ('red circle', 'blue square', 'green triangle', 'yellow star')
VOCABULARY = """
labels:
  red circle: [It is flat and of one colour., It lies on the floor of a room.]
  blue square: {descriptions: [It is flat and of one colour.], synonyms: [blue box]}
templates: ['a photo of a {label}. {description}', 'the {label}']
background: [an empty table]
"""

pytestmark = pytest.mark.usefixtures('cache_dir')


def draw(label: str, seed: int = 0, width: int = 160, height: int = 120) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB that shows a shape in its middle."""
    return shapes.draw(label, width, height, np.random.default_rng(seed), (0, 0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a picture of each label, and damaged files among them."""
    path = tmp_path / 'pictures'
    path.mkdir()
    for number, label in enumerate(LABELS):
        cv2.imwrite(str(path / f'{number}.png'), draw(label, number)[..., ::-1])
    (path / '1_cut.png').write_bytes((path / '1.png').read_bytes()[:3000])
    (path / '2_text.jpg').write_text('no image')
    return path


@pytest.fixture
def options(shapes_student: Path) -> list[str]:
    """Return the options for a student that knows coloured shapes."""
    return ['--checkpoint', str(shapes_student), '--device', 'cpu', '--labels', ', '.join(LABELS)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, which must be a success."""
    done = subprocess.run([str(COMMAND), *map(str, arguments)], capture_output=True, text=True,
                          timeout=600)
    assert done.returncode == 0, done.stderr
    return done


def load(student: str, file: VocabularyFile) -> tuple[Classifier, Vocabulary]:
    """Make with the package's own functions what the command makes."""
    classifier = Classifier(checkpoint.load(Path(student)), 'cpu')
    tower = clip_text.ClipText(classifier.spec.text_tower, Path(student).parent)
    return classifier, vocabulary.build(file.entries, tower, 1,
                                        file.templates or classifier.spec.templates,
                                        file.background)


def rows(path: Path, rank: int = 1) -> list[dict[str, str]]:
    with open(path, newline='') as file:
        return [row for row in csv.DictReader(file) if int(row['rank']) == rank]


def refused(*arguments: object) -> str:
    """Run in this process what must fail with one line, and return the line."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in arguments])
    assert isinstance(end.value.code, str)
    assert '\n' not in end.value.code
    return end.value.code


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Undo what the command does to this process's signals."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGPIPE)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize('name', ['x.mp4', 'bag'])
def test_a_run_that_is_ended_leaves_what_was_there(
        options: list[str], tmp_path: Path, name: str, number: int) -> None:
    many = tmp_path / 'many'
    many.mkdir()
    cv2.imwrite(str(many / '0.bmp'), draw('red circle'))
    for copy in range(1, 20_000):
        os.link(many / '0.bmp', many / f'{copy}.bmp')
    out = tmp_path / 'out' / name
    out.parent.mkdir()
    if name == 'x.mp4':
        out.write_text('before')
    process = subprocess.Popen([str(COMMAND), str(many), *options, '--out', str(out)])
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


def test_videos_and_bags_without_out_get_a_line_per_frame(
        options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image_bags.write(tmp_path / 'bag', [
        ('/image', START + number, image_bags.raw(draw(label, number), START + number))
        for number, label in enumerate(LABELS)])
    main([str(tmp_path / 'bag'), *options])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split('  ')[0] for line in lines] == [
        f'/image 1700000000.00000000{number} s' for number in range(4)]
    assert [line.split('  ')[-1] for line in lines] == list(LABELS)
    main([str(tmp_path / 'bag'), *options, '--unknown-threshold', '1'])
    assert [line.split('  ')[-1] for line in capsys.readouterr().out.splitlines()] == [
        f'unknown (nearest: {label})' for label in LABELS]


def test_several_inputs_of_all_kinds_make_one_table(
        folder: Path, options: list[str], tmp_path: Path) -> None:
    bag = image_bags.write(tmp_path / 'bag', [
        (topic, START, image_bags.raw(draw(label), START))
        for topic, label in (('/a', 'yellow star'), ('/b', 'red circle'))])
    main([str(folder / '3.png'), str(bag), str(folder), *options, '--topic', '/b',
          '--out', str(tmp_path / 'x.csv')])
    assert [(row['file'], row['topic'], row['label']) for row in rows(tmp_path / 'x.csv')] == [
        (str(folder / '3.png'), '', 'yellow star'), (str(bag), '/b', 'red circle'),
        *((str(folder / f'{number}.png'), '', label) for number, label in enumerate(LABELS))]


def test_folders_below_are_read_if_asked_for(
        folder: Path, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
        ) -> None:
    (folder / 'below').mkdir()
    (folder / '3.png').rename(folder / 'below' / '3.png')
    for given, shown in (([], 3), (['--recursive'], 4)):
        main([str(folder), *options, *given, '--out', str(tmp_path / 'x.csv')])
        assert [row['label'] for row in rows(tmp_path / 'x.csv')] == list(LABELS[:shown])
        assert ('below/3.png; --recursive reads' in capsys.readouterr().err) == (not given)


def test_names_that_are_no_utf8_spoil_nothing(options: list[str], tmp_path: Path) -> None:
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for name, label in ((b'caf\xe9.png', LABELS[0]), (b'cup.png', LABELS[1])):
        cv2.imwrite(str(tmp_path / 'x.png'), draw(label)[..., ::-1])
        (tmp_path / 'x.png').rename(folder / os.fsdecode(name))
    (folder / os.fsdecode(b'b\xe4d.png')).write_bytes(b'')
    done = run(folder, *options, '--out', tmp_path / 'x.csv', '--plot', tmp_path / 'x.png')
    assert 'skipped ' in done.stderr and 'd.png: expected a' in done.stderr
    assert [(row['file'], row['label']) for row in rows(tmp_path / 'x.csv')] == [
        (f'{folder}/caf\\xe9.png', LABELS[0]), (f'{folder}/cup.png', LABELS[1])]
    explained = run(folder / os.fsdecode(b'caf\xe9.png'), *options).stdout
    assert f'caf\\xe9.png: {LABELS[0]}' in explained
    assert 'caf\\xe9.png  similarity' in run(folder, *options).stdout
    assert 'expected a name in UTF-8' in refused(folder, *options, '--out',
                                                 tmp_path / os.fsdecode(b'\xe9.csv'))


@pytest.mark.parametrize(('given', 'rate'), [([], STILL_RATE), (['--rate', '24'], 24)])
def test_images_become_a_video_at_the_rate(folder: Path, options: list[str], tmp_path: Path,
                                           given: list[str], rate: float) -> None:
    main([str(folder), *options, '--out', str(tmp_path / 'x.mp4'), *given])
    assert cv2.VideoCapture(str(tmp_path / 'x.mp4')).get(cv2.CAP_PROP_FPS) == pytest.approx(rate)


def test_a_bag_becomes_a_video_at_its_own_rate(options: list[str], tmp_path: Path) -> None:
    image_bags.write(tmp_path / 'bag', [
        ('/image', stamp, image_bags.raw(draw('red circle'), stamp))
        for stamp in range(START, START + SECOND, SECOND // 8)])
    main([str(tmp_path / 'bag'), *options, '--out', str(tmp_path / 'x.mp4')])
    assert cv2.VideoCapture(str(tmp_path / 'x.mp4')).get(cv2.CAP_PROP_FPS) == pytest.approx(
        8, rel=0.01)


@pytest.mark.parametrize(('arguments', 'reason'), [
    (['{tmp}/nowhere.png'], 'expected an image, a video, a bag or a folder, found none'),
    (['{tmp}/empty'], 'empty: expected images (.bmp, '),
    (['{tmp}/text.png'], 'text.png: expected a BMP, JPEG, PNG, TIFF or WebP image, got'),
    (['{tmp}/text.mp4'], 'text.mp4: expected a video'),
    (['{tmp}/text.mcap'], 'text.mcap: expected a bag of ROS 2, got one that is damaged'),
    (['{tmp}/text.txt'], "a bag (.mcap, .db3) or a folder, got a file that ends with '.txt'"),
    (['{tmp}/text.bag'], '`rosbags-convert` makes a bag of ROS 2 of it'),
    (['{tmp}/texts'], 'texts: expected messages of sensor_msgs/msg/Image or'),
    (['{tmp}/two', '--topic', '/c'], 'expected a topic of images (/a, /b), got /c'),
    (['{image}', '--topic', '/a'], '--topic: expected a bag among the inputs'),
    (['{image}', '--out', '{tmp}/x.txt'], 'expected a file that ends with .csv, .mcap, .avi'),
    (['{image}', '--out', '{tmp}/empty'], 'empty: expected the name of a new file, got a folder'),
    (['{image}', '--plot', '{tmp}/x.jpg'], 'expected a file that ends with .png'),
    (['{image}', '--plot', '{image}'], '0.png is an input and would be replaced'),
    (['{tmp}/bag.mcap', '--out', '{tmp}/bag.mcap'], 'bag.mcap is an input and would be replaced'),
    (['{tmp}/two', '--plot', '{tmp}/x.png'], '--plot: expected images or folders of images'),
    (['{image}'] * 13 + ['--plot', '{tmp}/x.png'], '--plot: expected at most 12 images, got 13'),
    (['{tmp}/two', '--out', '{tmp}/x.mp4'], 'expected one topic for a video, got /a, /b'),
    (['{image}', '--labels', 'mug, Mug'], "'Mug' repeats 'mug'"),
    (['{image}', '--labels', ''], 'at least one label'),
    (['{image}', '--vocabulary', '{tmp}/none.yaml'], 'expected a file, found none at'),
    (['{image}', '--vocabulary', '{tmp}/text.txt'], ', which is a file here, but no *.yaml; '),
    (['{image}', '--labels', 'mug; banana'], "got 'mug; banana', which holds a separator"),
    (['{image}', '--checkpoint', '{tmp}/none.safetensors'], 'checkpoint: expected a file, found'),
    (['{image}', '--device', 'tpu'], "expected 'auto', 'cpu', 'cuda' or 'cuda:N', got 'tpu'"),
])
def test_what_it_cannot_do_is_said_in_one_line(
        folder: Path, options: list[str], tmp_path: Path, arguments: list[str], reason: str
        ) -> None:
    (tmp_path / 'empty').mkdir()
    for ending in ('png', 'mp4', 'mcap', 'txt', 'bag'):
        (tmp_path / f'text.{ending}').write_text('neither')
    image_bags.write(tmp_path / 'texts', [('/chatter', START, image_bags.text('no image'))])
    image_bags.write(tmp_path / 'two', [(topic, START, image_bags.raw(draw('red circle'), START))
                                        for topic in ('/a', '/b')])
    os.link(tmp_path / 'two' / 'two.mcap', tmp_path / 'bag.mcap')
    (tmp_path / 'cache').mkdir()
    before = sorted(tmp_path.glob('*'))
    given = [word.format(tmp=tmp_path, image=folder / '0.png') for word in arguments]
    known = options[:4] if {'--labels', '--vocabulary'} & {*arguments} else options
    assert reason in refused(*known, *given)
    assert sorted(tmp_path.glob('*')) == before


@pytest.mark.parametrize(('arguments', 'reason'), [
    ([], 'input'), (['--top-k', '0'], 'expected 1 to 1000, got 0'),
    (['--top-k', 'many'], "invalid whole number value: 'many'"),
    (['--unknown-threshold', 'nan'], 'expected -1 to 1, got nan'),
    (['--rate', '-3'], 'expected 0.01 to 1000, got -3'),
    (['--labels', 'mug', '--vocabulary', 'x.yaml'], 'not allowed with argument'),
])
def test_what_is_no_command_line_is_told_with_the_usage(
        capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(['x.png', *arguments] if arguments else [])
    assert end.value.code == 2
    assert reason in capsys.readouterr().err


def test_a_damaged_image_named_by_the_user_ends_the_run(
        folder: Path, options: list[str], tmp_path: Path) -> None:
    line = refused(*options, folder / '0.png', folder / '1_cut.png', '--out', tmp_path / 'x.csv')
    assert line.startswith(f'vl2v_classify: {folder / "1_cut.png"}: expected a')
    assert not (tmp_path / 'x.csv').exists()
