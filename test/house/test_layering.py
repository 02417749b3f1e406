"""The rooms of the house: what each may import, no circle, and nothing too large to read."""
import ast
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
import re
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[2]
ROS = {'ament_index_python', 'bond', 'cv_bridge', 'launch', 'launch_ros', 'rclpy'}

# Room -> the rooms it may import from, beside itself. A room is a folder; the modules that lie
# right in vl2v_ros/ and in training/ are rooms of their own, those not listed are `commands`.
LEAVES = {'vl2v_ros.files', 'vl2v_ros.checks', 'vl2v_ros.frame_profile', 'vl2v_ros.sqlite_table'}
CORE = LEAVES | {'vl2v_ros.images', 'vl2v_ros.words', 'vl2v_ros.model', 'vl2v_ros.memory',
                 'vl2v_ros.drawing', 'vl2v_ros.labeller'}
RECIPE = CORE | {'training.recipe', 'training.recipe_file'}
ROOMS = {
    'vl2v_ros.files': set(),
    'vl2v_ros.checks': set(),
    'vl2v_ros.frame_profile': {'vl2v_ros.files'},
    'vl2v_ros.sqlite_table': set(),
    'vl2v_ros.images': LEAVES,
    'vl2v_ros.words': LEAVES,
    'vl2v_ros.model': LEAVES | {'vl2v_ros.images', 'vl2v_ros.words'},
    'vl2v_ros.memory': LEAVES | {'vl2v_ros.images', 'vl2v_ros.words'},
    'vl2v_ros.drawing': LEAVES | {'vl2v_ros.images', 'vl2v_ros.words', 'vl2v_ros.model'},
    'vl2v_ros.labeller': LEAVES | {'vl2v_ros.images', 'vl2v_ros.words', 'vl2v_ros.model'},
    'vl2v_ros': {'vl2v_ros.labeller'},  # its front door
    'vl2v_ros.command': CORE,
    'vl2v_ros.nodes': CORE,
    'launch': {'vl2v_ros.nodes'},
    'training.recipe': CORE,
    'training.recipe_file': RECIPE,
    'training.data': RECIPE,
    'training.rendering': RECIPE,
    'training.teachers': RECIPE | {'training.data'},
    'training.learning': RECIPE | {'training.data', 'training.teachers'},
    'training.measuring': RECIPE | {'training.data', 'training.rendering', 'training.teachers',
                                    'training.learning'},
    'training.exporting': RECIPE | {'training.data', 'training.measuring'},
    'training.commands': RECIPE | {
        'training.data', 'training.rendering', 'training.teachers', 'training.learning',
        'training.measuring', 'training.exporting', 'training.commands'},
}
WITH_ROS = {'vl2v_ros.nodes', 'launch'}
# Libraries of the robot; training may use whatever it needs, but no ROS.
LIBRARIES = {'cv2', 'huggingface_hub', 'jinja2', 'matplotlib', 'mcap', 'mcp', 'numpy',
             'onnxruntime', 'open_clip', 'openai', 'openvino', 'PIL', 'pydantic', 'rosbags',
             'safetensors', 'timm', 'torch', 'tqdm', 'yaml'} | sys.stdlib_module_names
MOST_LINES, MOST_LINES_OF_FUNCTION, MOST_MODULES = 300, 60, 15
REASON = 'This file is long because'


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


def room(name: str) -> str:
    """Return the room of a module, or of what is imported from it, by its full name."""
    parts = name.split('.')
    if parts[0] not in ('vl2v_ros', 'training') or parts == ['training']:
        return parts[0]
    if '.'.join(parts[:2]) in ROOMS or parts == ['vl2v_ros']:
        return '.'.join(parts[:2])
    return 'training.commands' if parts[0] == 'training' else 'vl2v_ros'


def module(path: PurePosixPath) -> str:
    """Return the full name of the module that a file is."""
    parts = path.with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def forbidden(path: PurePosixPath, source: str) -> list[str]:
    """Return what a file must not import."""
    here = room(module(path))

    def allowed(name: str) -> bool:
        if name.partition('.')[0] in ('vl2v_ros', 'training', 'benchmarks', 'tools'):
            return room(name) == here or room(name) in ROOMS[here]
        if is_ros(name):
            return here in WITH_ROS
        return here.startswith('training') or name.partition('.')[0] in LIBRARIES

    return [name for name in imports(source, '.'.join(path.parent.parts)) if not allowed(name)]


FILES = [PurePosixPath(path.relative_to(ROOT).as_posix())
         for folder in ('vl2v_ros', 'launch', 'training')
         for path in sorted((ROOT / folder).rglob('*.py'))]
CODE = FILES + [PurePosixPath(path.relative_to(ROOT).as_posix())
                for folder in ('benchmarks', 'tools', 'examples')
                for path in sorted((ROOT / folder).rglob('*.py'))]
TESTS = [PurePosixPath(path.relative_to(ROOT).as_posix())
         for path in sorted((ROOT / 'test').rglob('*.py'))]


def test_every_room_was_found() -> None:
    assert {room(module(path)) for path in FILES} - {'training'} == ROOMS.keys()


@pytest.mark.parametrize('path', FILES, ids=str)
def test_file_imports_only_what_its_room_may(path: PurePosixPath) -> None:
    assert forbidden(path, (ROOT / path).read_text(encoding='utf-8')) == []


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Return the modules of a circle of imports, or nothing."""
    done: set[str] = set()

    def search(name: str, way: list[str]) -> list[str]:
        if name in way:
            return way[way.index(name):]
        if name in done:
            return []
        for other in sorted(edges[name]):
            if found := search(other, [*way, name]):
                return found
        done.add(name)
        return []
    return next((found for name in sorted(edges) if (found := search(name, []))), [])


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = {module(path): path for path in FILES if path.parts[0] != 'launch'}
    edges = {name: {target for full in imports((ROOT / path).read_text(), module(path))
                    for target in (full, full.rpartition('.')[0])
                    if target in names and target != name and (
                        target == full or full not in names)}
             for name, path in names.items()}
    assert edges['vl2v_ros.model.classifier'] > {'vl2v_ros.model.prediction'}
    assert circle(edges) == []
    assert circle({'a': {'b'}, 'b': {'c'}, 'c': {'b'}}) == ['b', 'c']


def too_long(source: str) -> list[str]:
    """Return what of a file is too long to be read at once."""
    tree = ast.parse(source)
    found = [f'{node.name}: {length} lines' for node in ast.walk(tree)
             if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
             and (length := node.end_lineno - node.lineno + 1) > MOST_LINES_OF_FUNCTION]
    lines = source.count('\n')
    if lines > MOST_LINES and REASON not in (ast.get_docstring(tree) or ''):
        found.append(f'{lines} lines')
    return found


@pytest.mark.parametrize('path', CODE + TESTS, ids=str)
def test_nothing_is_too_long(path: PurePosixPath) -> None:
    assert too_long((ROOT / path).read_text(encoding='utf-8')) == []


def test_what_is_too_long_is_found() -> None:
    assert too_long('def f():\n' + '    pass\n' * 60) == ['f: 61 lines']
    assert too_long('\n' * 301) == ['301 lines']
    assert too_long(f'"""\nA.\n\n{REASON} so.\n"""' + '\n' * 301) == []


def test_no_folder_has_too_many_modules() -> None:
    folders = {path.parent for path in CODE}
    counts = {folder: sum(path.parent == folder and path.name != '__init__.py' for path in CODE)
              for folder in folders}
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


def lost_names(source: str) -> list[str]:
    """Return the names of our modules, in texts, that lead to nothing: a skip would hide it."""
    lost = []
    for name in re.findall(r"""['"]((?:vl2v_ros|training|benchmarks)(?:\.\w+)+)['"]""", source):
        path = ROOT / name.replace('.', '/')
        # Of a module, of something in a module, or of something in that.
        if not any((base.with_suffix('.py')).is_file() or (base / '__init__.py').is_file()
                   and base != ROOT / name.split('.')[0]
                   for base in (path, path.parent, path.parent.parent)):
            lost.append(name)
    return lost


@pytest.mark.parametrize('path', [path for path in TESTS if path.name != 'test_layering.py'],
                         ids=str)  # which plants what is not there
def test_names_of_modules_in_texts_are_those_of_modules(path: PurePosixPath) -> None:
    assert lost_names((ROOT / path).read_text(encoding='utf-8')) == []


def test_a_lost_name_is_found() -> None:
    assert lost_names("skip('vl2v_ros.runtime.graph'); patch('vl2v_ros.files.replacing')") == [
        'vl2v_ros.runtime.graph']


def test_messages_and_predictions_need_neither_torch_nor_a_runtime() -> None:
    pytest.importorskip('rclpy')
    said = subprocess.run(
        [sys.executable, '-c', 'import sys, vl2v_ros.nodes.messages as messages; print('
         '[name for name in ("torch", "openvino", "open_clip", "timm") if name in sys.modules])'],
        capture_output=True, text=True, cwd=ROOT)
    assert said.stdout == '[]\n', said.stderr


@pytest.mark.parametrize('package', sorted(ROS | {'sensor_msgs', 'rcl_interfaces', 'std_srvs'}))
def test_ros_packages_are_told_by_their_names(package: str) -> None:
    assert is_ros(package)
    assert is_ros(f'{package}.msg.Image')


@pytest.mark.parametrize('package', sorted(LIBRARIES))
def test_other_packages_are_not_taken_for_ros(package: str) -> None:
    assert not is_ros(package)


@pytest.mark.parametrize('path, source, found', [
    ('vl2v_ros/images/x.py', 'import rclpy', ['rclpy']),
    ('vl2v_ros/images/x.py', 'import numpy, rclpy.node as node', ['rclpy.node']),
    ('vl2v_ros/words/x.py', 'from sensor_msgs.msg import Image', ['sensor_msgs.msg.Image']),
    ('vl2v_ros/files.py', 'from cv_bridge import CvBridge', ['cv_bridge.CvBridge']),
    ('vl2v_ros/command/x.py', 'import ament_index_python', ['ament_index_python']),
    ('vl2v_ros/model/x.py', 'from launch import actions', ['launch.actions']),
    ('vl2v_ros/model/x.py', 'def f():\n    import rclpy', ['rclpy']),
    ('vl2v_ros/model/x.py', 'class A:\n    def f(self):\n        from rclpy import node',
     ['rclpy.node']),
    ('vl2v_ros/model/x.py', 'try:\n    import rclpy\nexcept ImportError:\n    pass', ['rclpy']),
    ('vl2v_ros/model/x.py', 'if TYPE_CHECKING:\n    import rclpy', ['rclpy']),
    ('vl2v_ros/model/x.py', 'import importlib\nimportlib.import_module("rclpy")', ['rclpy']),
    ('vl2v_ros/model/x.py', '__import__("rclpy.node")', ['rclpy.node']),
    ('vl2v_ros/model/x.py', 'from vl2v_ros import nodes', ['vl2v_ros.nodes']),
    ('vl2v_ros/model/x.py', 'from .. import nodes', ['vl2v_ros.nodes']),
    ('vl2v_ros/model/runtime/x.py', 'from ...nodes import messages', ['vl2v_ros.nodes.messages']),
    ('vl2v_ros/images/x.py', 'from vl2v_ros.words.labels import Entry',
     ['vl2v_ros.words.labels.Entry']),
    ('vl2v_ros/words/x.py', 'from vl2v_ros.model import spec', ['vl2v_ros.model.spec']),
    ('vl2v_ros/words/x.py', 'from vl2v_ros.images.frame import Frame',
     ['vl2v_ros.images.frame.Frame']),
    ('vl2v_ros/files.py', 'from vl2v_ros.images import frame', ['vl2v_ros.images.frame']),
    ('vl2v_ros/model/x.py', 'from vl2v_ros.drawing.overlay import draw',
     ['vl2v_ros.drawing.overlay.draw']),
    ('vl2v_ros/nodes/x.py', 'from vl2v_ros.command import bags', ['vl2v_ros.command.bags']),
    ('vl2v_ros/command/x.py', 'from vl2v_ros.nodes.demo import main',
     ['vl2v_ros.nodes.demo.main']),
    ('vl2v_ros/model/x.py', 'import training.distill', ['training.distill']),
    ('vl2v_ros/model/x.py', 'import pandas', ['pandas']),
    ('vl2v_ros/nodes/x.py', 'from training.learning import losses', ['training.learning.losses']),
    ('vl2v_ros/nodes/x.py', 'import pandas', ['pandas']),
    ('launch/x.launch.py', 'import training', ['training']),
    ('training/distill.py', 'import rclpy', ['rclpy']),
    ('training/data/x.py', 'def f():\n    from nav_msgs.msg import Path', ['nav_msgs.msg.Path']),
    ('training/distill.py', 'from vl2v_ros.nodes import messages', ['vl2v_ros.nodes.messages']),
    ('training/data/x.py', 'from training.teachers.teacher import Teacher',
     ['training.teachers.teacher.Teacher']),
    ('training/learning/x.py', 'from training.measuring import metrics',
     ['training.measuring.metrics']),
    ('training/recipe.py', 'from training.learning import losses', ['training.learning.losses']),
    ('training/learning/x.py', 'from training import distill', ['training.distill']),
    ('training/rendering/x.py', 'from training.learning import trainer',
     ['training.learning.trainer']),
])
def test_planted_import_is_found(path: str, source: str, found: list[str]) -> None:
    assert forbidden(PurePosixPath(path), source) == found


@pytest.mark.parametrize('path, source', [
    ('vl2v_ros/model/x.py', 'import os, torch.nn\nfrom vl2v_ros.images.frame import Frame'),
    ('vl2v_ros/words/x.py', '"""import rclpy"""\n# import rclpy\nnodes = "vl2v_ros.nodes"'),
    ('vl2v_ros/model/runtime/x.py', 'from . import choose\nfrom ...images.frame import Frame'),
    ('vl2v_ros/nodes/x.py', 'import rclpy\nfrom vl2v_ros.nodes import messages\nimport cv2'),
    ('vl2v_ros/nodes/x.py', 'from .messages import to_frame\nfrom sensor_msgs.msg import Image'),
    ('launch/x.launch.py', 'from launch import actions\nfrom vl2v_ros.nodes import transport'),
    ('training/distill.py', 'import pandas\nfrom training import study\n'
     'from training.measuring import metrics\nfrom vl2v_ros.model import checkpoint'),
])
def test_what_a_room_may_import_is_not_found(path: str, source: str) -> None:
    assert forbidden(PurePosixPath(path), source) == []
