"""Layering: training -> core <- nodes -> ROS, as the imports of every file say."""
import ast
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
import sys

import pytest

ROOT = Path(__file__).parent.parent
CORE = {'cv2', 'huggingface_hub', 'matplotlib', 'numpy', 'open_clip', 'openai', 'openvino',
        'PIL', 'rosbags', 'safetensors', 'timm', 'torch', 'tqdm', 'vl2v_ros',
        'yaml'} | sys.stdlib_module_names
ROS = {'ament_index_python', 'builtin_interfaces', 'cv_bridge', 'launch', 'launch_ros',
       'rcl_interfaces', 'rclpy', 'rosgraph_msgs', 'sensor_msgs', 'std_msgs', 'diagnostic_msgs',
       'lifecycle_msgs', 'vision_msgs', 'vl2v_msgs'}


def is_ros(name: str) -> bool:
    package = name.partition('.')[0]
    return (package in ROS or package.startswith(('ament_', 'rcl', 'rosidl', 'tf2_', 'launch'))
            or package.endswith(('_msgs', '_interfaces', '_bridge', '_srvs')))


def imports(source: str, package: str) -> Iterator[str]:
    """Yield the full names a file imports, wherever in it; package: where the file lies."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split('.')[:len(package.split('.')) - node.level + 1]
            base = '.'.join([*(above if node.level else []), *filter(None, [node.module])])
            yield from (f'{base}.{alias.name}' for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else (
                getattr(node.func, 'id', ''))
            name = getattr(node.args[0], 'value', None)
            if called in {'import_module', '__import__'} and isinstance(name, str):
                yield name


def layer(path: PurePosixPath) -> str:
    """Return the layer of a file, by its path below the root."""
    if path.parts[0] == 'vl2v_ros':
        return 'nodes' if path.parts[1] == 'nodes' else 'core'
    return path.parts[0]


def forbidden(path: PurePosixPath, source: str) -> list[str]:
    """Return what a file must not import."""
    where, package = layer(path), '.'.join(path.parent.parts)

    def allowed(name: str) -> bool:
        top = name.partition('.')[0]
        in_nodes = f'{name}.'.startswith('vl2v_ros.nodes.')
        if where == 'core':
            return top in CORE and not in_nodes
        if where in {'nodes', 'launch'}:
            return top in CORE | ROS
        assert where == 'training', path  # offline: whatever it needs, but no robot
        return not is_ros(name) and not in_nodes

    return [name for name in imports(source, package) if not allowed(name)]


FILES = [PurePosixPath(path.relative_to(ROOT).as_posix())
         for folder in ('vl2v_ros', 'launch', 'training')
         for path in sorted((ROOT / folder).rglob('*.py'))]


def test_every_layer_was_found() -> None:
    assert {'core', 'nodes', 'launch'} <= {layer(path) for path in FILES}
    assert PurePosixPath('vl2v_ros/runtime/__init__.py') in FILES
    if (ROOT / 'training').is_dir():
        assert 'training' in {layer(path) for path in FILES}


@pytest.mark.parametrize('path', FILES, ids=str)
def test_file_imports_only_what_its_layer_may(path: PurePosixPath) -> None:
    assert forbidden(path, (ROOT / path).read_text(encoding='utf-8')) == []


@pytest.mark.parametrize('package', sorted(ROS - {'builtin_interfaces'}))
def test_ros_packages_are_told_by_their_names(package: str) -> None:
    assert is_ros(package)
    assert is_ros(f'{package}.msg.Image')


@pytest.mark.parametrize('package', sorted(CORE))
def test_other_packages_are_not_taken_for_ros(package: str) -> None:
    assert not is_ros(package)


@pytest.mark.parametrize('path, source, found', [
    ('vl2v_ros/x.py', 'import rclpy', ['rclpy']),
    ('vl2v_ros/x.py', 'import numpy, rclpy.node as node', ['rclpy.node']),
    ('vl2v_ros/x.py', 'from sensor_msgs.msg import Image', ['sensor_msgs.msg.Image']),
    ('vl2v_ros/x.py', 'from cv_bridge import CvBridge', ['cv_bridge.CvBridge']),
    ('vl2v_ros/x.py', 'import ament_index_python', ['ament_index_python']),
    ('vl2v_ros/x.py', 'from launch import actions', ['launch.actions']),
    ('vl2v_ros/x.py', 'def f():\n    import rclpy', ['rclpy']),
    ('vl2v_ros/x.py', 'class A:\n    def f(self):\n        from rclpy import node',
     ['rclpy.node']),
    ('vl2v_ros/x.py', 'try:\n    import rclpy\nexcept ImportError:\n    pass', ['rclpy']),
    ('vl2v_ros/x.py', 'if TYPE_CHECKING:\n    import rclpy', ['rclpy']),
    ('vl2v_ros/x.py', 'import importlib\nimportlib.import_module("rclpy")', ['rclpy']),
    ('vl2v_ros/x.py', '__import__("rclpy.node")', ['rclpy.node']),
    ('vl2v_ros/x.py', 'from vl2v_ros import nodes', ['vl2v_ros.nodes']),
    ('vl2v_ros/x.py', 'from vl2v_ros.nodes import messages', ['vl2v_ros.nodes.messages']),
    ('vl2v_ros/x.py', 'import vl2v_ros.nodes.messages', ['vl2v_ros.nodes.messages']),
    ('vl2v_ros/x.py', 'from . import nodes', ['vl2v_ros.nodes']),
    ('vl2v_ros/x.py', 'from .nodes.demo import main', ['vl2v_ros.nodes.demo.main']),
    ('vl2v_ros/runtime/x.py', 'from ..nodes import messages', ['vl2v_ros.nodes.messages']),
    ('vl2v_ros/runtime/__init__.py', 'from .. import nodes', ['vl2v_ros.nodes']),
    ('vl2v_ros/runtime/x.py', 'import rclpy', ['rclpy']),
    ('vl2v_ros/x.py', 'import training.distill', ['training.distill']),
    ('vl2v_ros/x.py', 'import distill', ['distill']),
    ('vl2v_ros/x.py', 'import pandas', ['pandas']),
    ('vl2v_ros/nodes/x.py', 'from training import losses', ['training.losses']),
    ('vl2v_ros/nodes/x.py', 'import pandas', ['pandas']),
    ('launch/x.launch.py', 'import training', ['training']),
    ('training/x.py', 'import rclpy', ['rclpy']),
    ('training/x.py', 'def f():\n    from nav_msgs.msg import Path', ['nav_msgs.msg.Path']),
    ('training/x.py', 'from vl2v_ros.nodes import messages', ['vl2v_ros.nodes.messages']),
    ('training/x.py', 'from vl2v_ros import frame, nodes', ['vl2v_ros.nodes']),
])
def test_planted_import_is_found(path: str, source: str, found: list[str]) -> None:
    assert forbidden(PurePosixPath(path), source) == found


@pytest.mark.parametrize('path, source', [
    ('vl2v_ros/x.py', 'import os, torch.nn\nfrom vl2v_ros.frame import Frame\nimport cv2'),
    ('vl2v_ros/x.py', '"""import rclpy"""\n# import rclpy\nnodes = "vl2v_ros.nodes"'),
    ('vl2v_ros/runtime/x.py', 'from . import create\nfrom ..frame import Frame'),
    ('vl2v_ros/x.py', 'from vl2v_ros.nodes_of_a_graph import Node'),
    ('vl2v_ros/nodes/x.py', 'import rclpy\nfrom vl2v_ros.nodes import messages\nimport cv2'),
    ('vl2v_ros/nodes/x.py', 'from .messages import to_frame\nfrom sensor_msgs.msg import Image'),
    ('launch/x.launch.py', 'from launch import actions\nfrom vl2v_ros.nodes import transport'),
    ('training/x.py', 'import losses, pandas\nfrom vl2v_ros import checkpoint'),
])
def test_what_a_layer_may_import_is_not_found(path: str, source: str) -> None:
    assert forbidden(PurePosixPath(path), source) == []
