"""The parameters of both nodes at their start: of another type, empty, refused."""
from dataclasses import fields
from pathlib import Path
import sys

import pytest
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from support.ros_processes import Ros
from support.tiny_fonts import write_font
from test_lifecycle import in_this_process
from vl2v_msgs.srv import SetVocabulary
from vl2v_ros.drawing import text
from vl2v_ros.nodes.parameters import CameraParameters, ClassifierParameters, declare

# Text of a value -> types of the defaults that it fits; whether it is valid is another matter.
VALUES: dict[str, tuple[type, ...]] = {
    '[]': (tuple, type(None)), "''": (str,), "['']": (tuple,), '[1]': (), '0': (int,),
    '0.5': (float, type(None)), 'abc': (str,), 'true': (bool,), '~': (str,)}


@pytest.mark.parametrize('module', ['camera_node', 'classifier_node', 'remembering.memory_node'])
def test_a_node_explains_itself_and_takes_no_other_options(ros: Ros, module: str) -> None:
    program = sys.executable, '-m', f'vl2v_ros.nodes.{module}'
    name = module.rpartition('.')[2]
    asked = ros.run(*program, '--help', '--ros-args', '-p', 'rate:=30.0')
    assert asked.wait() == 0 and asked.output.startswith(f'usage: {name} ')
    assert '--ros-args -p NAME:=VALUE' in asked.output and '[INFO]' not in asked.output
    wrong = ros.run(*program, '--rate', '30')
    assert wrong.wait() == 2 and f'{name}: error: unrecognized arguments: ' in wrong.output


@pytest.mark.parametrize('text', VALUES)
@pytest.mark.parametrize('in_file', [False, True], ids=['command line', 'file'])
def test_a_value_of_another_type_is_refused_by_the_name_of_its_parameter(
        ros: Ros, tmp_path: Path, text: str, in_file: bool) -> None:
    for kind, entry in [(kind, entry) for kind in (ClassifierParameters, CameraParameters)
                        for entry in fields(kind)]:
        arguments = ['-p', f'{entry.name}:={text}']
        if in_file:
            path = tmp_path / f'{kind.__name__}_{entry.name}.yaml'
            path.write_text(f'/**:\n  ros__parameters:\n    {entry.name}: {text}\n')
            arguments = ['--params-file', str(path)]
        node = Node('given', context=ros.node.context, start_parameter_services=False,
                    use_global_arguments=False, cli_args=['--ros-args', *arguments])
        try:
            given = getattr(declare(node, kind), entry.name)
            assert type(entry.default) in VALUES[text], entry.name
            if text == '[]':
                assert given == entry.default
                if given is not None:
                    assert tuple(node.get_parameter(entry.name).value) == given
        except (ValueError, ParameterException) as error:
            assert entry.name in str(error) and '\n' not in str(error)
            if type(entry.default) not in VALUES[text]:
                assert f'parameter {entry.name}: expected ' in str(error)
        finally:
            node.destroy_node()


def test_what_looks_misspelt_is_logged(ros: Ros, capfd: pytest.CaptureFixture[str]) -> None:
    """And nothing else: a file may be for several nodes."""
    arguments = ['--ros-args', '-p', 'topk:=3', '-p', 'jpeg_quality:=80', '-p', 'top_k:=2']
    node = Node('given', context=ros.node.context, start_parameter_services=False,
                use_global_arguments=False, cli_args=arguments)
    assert declare(node, ClassifierParameters).top_k == 2
    node.destroy_node()
    said = capfd.readouterr().err
    assert 'parameter topk is unknown and changes nothing; is top_k meant?' in said
    assert 'jpeg_quality' not in said


def test_empty_lists_are_one_camera_and_no_background(ros: Ros, settings: dict[str, object]
                                                      ) -> None:
    node = in_this_process(ros, settings | {'cameras': None, 'background': None})
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert [camera.topics['raw'] for camera in node._cameras] == ['/image']
    assert node._loaded.keeper.current.background == ()
    node.destroy_node()


def test_what_no_font_has_is_logged_once_per_vocabulary(
        ros: Ros, settings: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(text, 'FOLDERS', ())
    text._installed.cache_clear()
    text._file_with.cache_clear()
    font = write_font(tmp_path / 'mine.ttf', '犬')
    node = in_this_process(ros, settings | {'font': font, 'vocabulary': '犬, cup'})
    node.trigger_configure()
    assert 'no font has' not in capfd.readouterr().err
    node._loaded.keeper.change(SetVocabulary.Request(labels=['犬', '猫']))
    assert capfd.readouterr().err.count('overlay: no font has 猫 (U+732B), so pictures') == 1
    node.destroy_node()
    text._installed.cache_clear()
    text._file_with.cache_clear()


@pytest.mark.parametrize(('module', 'arguments'), [
    ('camera_node', ['-p', 'source:=']), ('classifier_node', ['--params-file', '/no/such.yaml'])])
def test_what_ros_cannot_read_ends_the_node_in_one_line(ros: Ros, module: str,
                                                        arguments: list[str]) -> None:
    process = ros.start(module, {}, *arguments)
    assert process.wait() == 1
    assert f'\n{module}: ' in f'\n{process.output}'
    assert arguments[-1] in process.output and 'Traceback' not in process.output


@pytest.mark.parametrize(('parameters', 'reasons'), [
    ({'top_k': 0}, ['top_k', 'range']),
    ({'max_rate': 'fast'}, ['parameter max_rate: expected a number with a point']),
    ({'image_transport': 'theora'}, ["('auto', 'raw', 'compressed'), got 'theora'"]),
    ({'unknown_threshold': 2.0}, ['unknown_threshold', 'range']),
    ({'cameras': ['front', 'front']}, ['cameras', 'front']),
    ({'font': '/no/such.ttf'}, ['font: expected a font file', '/no/such.ttf']),
    ({'cameras': ['front camera']}, ['parameter cameras: ', 'front camera']),
    ({'vocabulary': 7}, ['parameter vocabulary: expected a text', "got '7' (INTEGER)"]),
])
def test_a_bad_value_at_start_ends_the_node_with_a_reason(
        ros: Ros, settings: dict[str, object], parameters: dict[str, object], reasons: list[str]
        ) -> None:
    process = ros.start('classifier_node', settings | parameters, '-r', '__node:=wrong')
    assert process.wait() == 1
    for reason in reasons:
        assert reason in process.output
    assert 'Traceback' not in process.output
