"""vl2v_classify: what it says of what it cannot do."""
import os
from pathlib import Path

import pytest
from support import image_bags
from support.classify_command import draw, refused
from support.image_bags import START
from vl2v_ros.command.classify import main

pytestmark = pytest.mark.usefixtures('warm_cache')


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
    (['{image}', '--html', '{tmp}/x.htmx'], '--html: expected a file that ends with .html'),
    (['{image}', '--font', '{image}'], 'font: expected a font file'),
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
    (['{image}', '--device', 'tpu'], "expected 'auto', 'cpu', 'cuda', 'cuda:N' or one of "
     "'onnx:cpu', 'onnx:cuda', 'onnx:tensorrt', got 'tpu'"),
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
