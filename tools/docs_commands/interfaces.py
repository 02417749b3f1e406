"""What launch files, services and nodes offer: arguments, fields, topics, parameters."""
import ast
from collections.abc import Sequence
import re

from docs_commands.pages import ROOT
import yaml

NODES = {'classifier_node': ('nodes/parameters.py', 'ClassifierParameters'),
         'camera_node': ('nodes/parameters.py', 'CameraParameters'),
         'memory_node': ('nodes/remembering/settings.py', 'MemoryParameters')}


def check_launch(file: str, given: Sequence[str]) -> list[str]:
    """Check that a launch file is there and declares the arguments."""
    if not (ROOT / 'launch' / file).is_file():
        return [f'there is no launch file {file}']
    known = declared(file)
    return [f'{file} has no argument {name}' for name in (
        word.partition(':=')[0] for word in given if ':=' in word) if name not in known]


def declared(file: str) -> set[str]:
    """Return the arguments of a launch file, and of those that it includes."""
    tree, found = ast.parse((ROOT / 'launch' / file).read_text('utf-8')), set[str]()
    for node in tree.body:  # tables of arguments
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            found |= {str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)}
    for part in ast.walk(tree):
        if isinstance(part, ast.Call) and getattr(part.func, 'id', '') == 'DeclareLaunchArgument':
            found |= {str(name.value) for name in part.args[:1] if isinstance(name, ast.Constant)}
        elif isinstance(part, ast.Constant) and re.fullmatch(r'\w+\.launch\.py', str(part.value)):
            found |= declared(str(part.value))
    return found


def check_request(name: str, kind: str = '', request: str = '{}') -> list[str]:
    """Check a service or action of ours: its name, its type and the fields of the request."""
    path = ROOT / f'{kind}.{kind.split("/")[-2] if "/" in kind else ""}'
    if not path.is_file():
        return [f'there is no {kind}']
    lines = (line.partition('#')[0].split()
             for line in path.read_text('utf-8').partition('---')[0].splitlines())
    fields = {line[1] for line in lines if len(line) == 2 and '=' not in line[1]}
    try:
        given = yaml.safe_load(request)
    except yaml.YAMLError as error:
        return [f'the request is no YAML: {" ".join(str(error).split())}']
    return check_topic(name) + [f'{kind} has no field {field}'
                                for field in given if field not in fields]


def check_topic(name: str) -> list[str]:
    """Check that a node of ours offers a topic or service; others are not known here."""
    _, node, *rest = f'{name}/'.split('/')
    offered = re.compile(rf"'~/(\{{inside\}})?{re.escape(rest[0] if rest else '')}'")
    files = (ROOT / 'vl2v_ros/nodes').rglob('*.py')
    if f'{node}_node' not in NODES or any(offered.search(file.read_text('utf-8'))
                                          for file in files):
        return []
    return [f'no node offers {name}']


def check_parameters(node: str, names: Sequence[str], live: bool = False) -> list[str]:
    """Check that a node has parameters; `live`: that they can change while it runs."""
    if node not in NODES:
        return [f'there is no node {node}']
    file, kind = NODES[node]
    tree, found = ast.parse((ROOT / 'vl2v_ros' / file).read_text('utf-8')), dict[str, str]()
    for part in tree.body:
        if isinstance(part, ast.ClassDef) and part.name == kind:
            found = {ast.unparse(field.target): ast.unparse(field)
                     for field in part.body if isinstance(field, ast.AnnAssign)}
    return [f'the parameter {name} cannot change while {node} runs' if name in found else
            f'{node} has no parameter {name}' for name in names
            if name not in found or live and 'live=True' not in found[name]]
