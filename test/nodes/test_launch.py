"""The launch files: plain, and what they start and with what; really run where ros2 launch is."""
import ast
from collections.abc import Iterator
import os
from pathlib import Path
import shutil
import signal
from typing import Any

import pytest
from sensor_msgs.msg import Image
from support import shapes
from support.ros_processes import Ros
from vl2v_msgs.msg import LabelArray
from vl2v_ros.model import bundle
from vl2v_ros.nodes.parameters import CameraParameters, ClassifierParameters
from vl2v_ros.nodes.transport import environment, MALLOC, OLDER_PROFILE, PROFILE
import yaml

LAUNCH = Path(__file__).parents[2] / 'launch'
CLASSIFY, DEMO, MEMORY = 'classify.launch.py', 'demo.launch.py', 'memory.launch.py'
IMPORTED = ('launch', 'launch_ros', 'vl2v_ros.nodes.given', 'vl2v_ros.nodes.transport')
NOT_PLAIN = {'OpaqueFunction', 'OpaqueCoroutine', 'ExecuteProcess', 'ExecuteLocal', 'Command',
             'PythonExpression', 'eval', 'exec', 'compile', 'open', '__import__', 'subprocess',
             'system', 'pip'}


@pytest.mark.parametrize('name', [CLASSIFY, DEMO, MEMORY])
def test_a_launch_file_is_plain(name: str) -> None:
    for node in ast.walk(ast.parse((LAUNCH / name).read_text())):
        match node:
            case ast.Import():
                pytest.fail(f'line {node.lineno}: expected imports from {IMPORTED} only')
            case ast.ImportFrom():
                assert '.'.join(node.module.split('.')[:1]) in IMPORTED or node.module in IMPORTED
                assert not NOT_PLAIN & {alias.name for alias in node.names}
            case ast.Name():
                assert node.id not in NOT_PLAIN
            case ast.Attribute():
                assert node.attr not in NOT_PLAIN
            case ast.If() | ast.While() | ast.Try() | ast.With() | ast.Lambda() | ast.ClassDef():
                pytest.fail(f'line {node.lineno}: expected a declaration, got {type(node)}')


class Launched:
    """A launch file evaluated up to the command lines of its nodes; no process is started."""

    def __init__(self, file: str, /, **arguments: str) -> None:
        launch = pytest.importorskip('launch')
        pytest.importorskip('launch_ros')
        self._context = launch.LaunchContext()
        self._declared: list[Any] = []
        sources = pytest.importorskip('launch.launch_description_sources')
        description = launch.actions.IncludeLaunchDescription(
            sources.PythonLaunchDescriptionSource(str(LAUNCH / file)),
            launch_arguments=arguments.items())
        self.nodes = {node.node_executable: self._command(node)
                      for node in self._walk(description)}
        self.defaults = {
            argument.name: argument.default_value and launch.utilities.perform_substitutions(
                self._context, argument.default_value) for argument in self._declared}
        self.descriptions = {argument.name: argument.description for argument in self._declared}

    def _walk(self, entity: Any) -> Iterator[Any]:
        from launch.actions import DeclareLaunchArgument
        from launch_ros.actions import Node
        if isinstance(entity, DeclareLaunchArgument):
            self._declared.append(entity)
        if isinstance(entity, Node):
            yield entity
            return
        for child in entity.visit(self._context) or ():
            yield from self._walk(child)

    def _command(self, node: Any) -> dict[str, Any]:
        from launch.utilities import perform_substitutions
        node._perform_substitutions(self._context)  # as launch_ros's own tests do
        parameters: dict[str, Any] = {}
        for source, is_file in node._Node__expanded_parameter_arguments:
            assert is_file, source
            for scope in yaml.safe_load(Path(source).read_text()).values():
                parameters.update(scope['ros__parameters'])  # the last one counts
        return {'program': perform_substitutions(self._context, list(node.cmd[0])),
                'namespace': node.expanded_node_namespace, 'name': node.node_name,
                'remappings': dict(node.expanded_remapping_rules or ()),
                'parameters': parameters}


@pytest.fixture
def own_environment() -> Iterator[None]:
    """Begin without transport settings, and take back what SetEnvironmentVariable sets."""
    before = dict(os.environ)
    for name in (*MALLOC, PROFILE, OLDER_PROFILE):
        os.environ.pop(name, None)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures('own_environment')
@pytest.mark.parametrize('name', [CLASSIFY, DEMO])
def test_the_arguments_people_change_have_defaults_and_descriptions(name: str) -> None:
    launched = Launched(name)
    defaults = dict(launched.defaults)
    assert Path(defaults.pop('params_file')).name == 'classify.yaml'
    if name == DEMO:
        assert Path(defaults.pop('source')).is_file() and defaults.pop('rate') == '30.0'
    assert defaults == {
        'image': 'image', 'depth': 'depth', 'camera_info': 'camera_info', 'namespace': '',
        'name': 'classifier', 'profile': '',
        'fast_transport': 'true', 'respawn': 'false',
        **dict.fromkeys(('checkpoint', 'vocabulary', 'bundle', 'device', 'overlay', 'autostart',
                         'use_sim_time'), '')}
    assert all(launched.descriptions.values())


@pytest.mark.usefixtures('own_environment')
def test_arguments_reach_the_classifier() -> None:
    launched = Launched(CLASSIFY, checkpoint='a.safetensors', vocabulary='12, true, mug',
                        device='cpu', overlay='false', autostart='False', namespace='robot',
                        name='namer', image='/camera/color/image_raw',
                        depth='/camera/depth', camera_info='/camera/info')
    assert list(launched.nodes) == ['classifier_node']
    node = launched.nodes['classifier_node']
    assert Path(node['program']).name == 'classifier_node'
    assert os.access(node['program'], os.X_OK)
    assert (node['namespace'], node['name']) == ('/robot', '/robot/namer')
    assert node['remappings'] == {'image': '/camera/color/image_raw', 'depth': '/camera/depth',
                                  'camera_info': '/camera/info'}
    given = {name: node['parameters'][name] for name in ('checkpoint', 'vocabulary', 'device',
                                                         'overlay', 'autostart')}
    assert given == {'checkpoint': 'a.safetensors', 'vocabulary': '12, true, mug',
                     'device': 'cpu', 'overlay': False, 'autostart': False}
    assert node['parameters'].keys() <= ClassifierParameters.__dataclass_fields__.keys()


@pytest.mark.usefixtures('own_environment')
@pytest.mark.parametrize(('name', 'node'), [
    (CLASSIFY, 'classifier_node'), (MEMORY, 'memory_node')])
def test_simulated_time_is_an_argument(name: str, node: str) -> None:
    assert 'use_sim_time' not in Launched(name).nodes[node]['parameters']
    assert Launched(name, use_sim_time='true').nodes[node]['parameters']['use_sim_time'] is True


@pytest.mark.usefixtures('own_environment')
def test_what_is_not_given_is_left_to_the_parameter_file(tmp_path: Path) -> None:
    path, mine = tmp_path / 'mine.yaml', {'vocabulary': 'mug', 'device': 'cpu', 'overlay': False,
                                          'checkpoint': 'b.safetensors', 'autostart': False}
    path.write_text(yaml.safe_dump({'/**': {'ros__parameters': mine}}))
    node = Launched(CLASSIFY, params_file=str(path)).nodes['classifier_node']
    assert node['parameters'] == mine
    node = Launched(CLASSIFY, params_file=str(path), vocabulary='cup').nodes['classifier_node']
    assert node['parameters'] == {**mine, 'vocabulary': 'cup'}


@pytest.mark.usefixtures('own_environment')
def test_a_bundle_is_between_the_parameter_file_and_the_arguments(tmp_path: Path) -> None:
    robot, mine = tmp_path / 'robot', tmp_path / 'mine.yaml'
    robot.mkdir()
    for path, parameters in ((mine, {'top_k': 3, 'max_rate': 2.0, 'checkpoint': 'b.safetensors'}),
                             (robot / bundle.PARAMETERS, {'top_k': 7})):
        path.write_text(yaml.safe_dump({'/**': {'ros__parameters': parameters}}))
    for name in (bundle.STUDENT, bundle.VOCABULARY):
        (robot / name).write_text('of this test')
    bundle.write_manifest(robot, {})
    arguments = {'bundle': str(robot), 'params_file': str(mine)}
    node = Launched(CLASSIFY, **arguments, device='cpu').nodes['classifier_node']
    assert node['parameters'] == {
        'top_k': 7, 'max_rate': 2.0, 'device': 'cpu', 'checkpoint': str(robot / bundle.STUDENT),
        'vocabulary': str(robot / bundle.VOCABULARY)}
    node = Launched(CLASSIFY, **arguments, vocabulary='cup').nodes['classifier_node']
    assert node['parameters']['vocabulary'] == 'cup'
    (robot / bundle.VOCABULARY).write_text('of another')
    with pytest.raises(ValueError, match='vocabulary.yaml is not as it was written'):
        Launched(CLASSIFY, **arguments)


@pytest.mark.usefixtures('own_environment')
def test_with_no_argument_what_ships_is_run() -> None:
    parameters = Launched(CLASSIFY).nodes['classifier_node']['parameters']
    for name, expected in (('checkpoint', 'student.safetensors'), ('vocabulary', 'everyday.yaml')):
        assert Path(parameters[name]).name == expected and Path(parameters[name]).is_file()


@pytest.mark.usefixtures('own_environment')
def test_what_is_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(ValueError, match='overlay: expected true or false, got .x.'):
        Launched(CLASSIFY, overlay='x')


@pytest.mark.usefixtures('own_environment')
def test_the_parameter_file_says_what_is_the_default_anyway() -> None:
    node = Launched(CLASSIFY, checkpoint='a.safetensors').nodes['classifier_node']
    defaults = ClassifierParameters()
    for name in ('image_transport', 'half', 'top_k', 'max_rate', 'score_threshold'):
        assert node['parameters'][name] == getattr(defaults, name), name


@pytest.mark.usefixtures('own_environment')
def test_the_transport_settings_are_applied_and_switchable() -> None:
    wanted = environment()
    assert len(wanted) == len(MALLOC) + 1
    Launched(CLASSIFY, checkpoint='a', fast_transport='false')
    assert not wanted.keys() & os.environ.keys()
    Launched(CLASSIFY, checkpoint='a')
    assert wanted.items() <= os.environ.items()


@pytest.mark.usefixtures('own_environment')
def test_the_demo_adds_a_camera_on_the_same_topic() -> None:
    launched = Launched(DEMO, checkpoint='a.safetensors', source='0', rate='15',
                        namespace='robot', image='front')
    assert set(launched.nodes) == {'classifier_node', 'camera_node'}
    camera, classifier = launched.nodes['camera_node'], launched.nodes['classifier_node']
    assert camera['remappings'] == {'image': classifier['remappings']['image']} == {
        'image': 'front'}
    assert camera['namespace'] == classifier['namespace'] == '/robot'
    assert camera['parameters'] == {'source': '0', 'rate': 15.0}
    assert camera['parameters'].keys() <= CameraParameters.__dataclass_fields__.keys()
    assert os.access(camera['program'], os.X_OK)
    assert environment(os.environ) == {}  # all set already: for the camera too


@pytest.mark.usefixtures('warm_cache')
def test_the_demo_really_runs_and_ends_on_ctrl_c(ros: Ros, shapes_student: Path, tmp_path: Path
                                                 ) -> None:
    pytest.importorskip('launch_ros')
    shapes.draw_sequence(tmp_path / 'frames', frames=2)
    with ros.run(shutil.which('ros2'), 'launch', LAUNCH / DEMO, 'namespace:=robot', 'image:=front',
                 f'source:={tmp_path / "frames"}', f'checkpoint:={shapes_student}') as launcher:
        labels = ros.subscribe(LabelArray, '/robot/classifier/labels')
        overlays = ros.subscribe(Image, '/robot/classifier/overlay')
        labels.wait_for(lambda message: len(labels.messages) > 20)
        overlays.wait_for(bool)
        assert launcher.stop(signal.SIGINT) == 0
    assert 'Traceback' not in launcher.output
    assert launcher.output.count('process has finished cleanly') == 2
