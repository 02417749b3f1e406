"""The setup files of .venv beside those of another workspace, in every shell that is here."""
import os
from pathlib import Path
import shutil
import subprocess
import sys
from types import ModuleType

import pytest
from support.setup_tool import load

ROOT = Path(__file__).resolve().parents[2]
SHELLS = [pytest.param(shell, marks=pytest.mark.skipif(not shutil.which(shell), reason='not here'))
          for shell in ('bash', 'sh', 'zsh')]
FIND = """\
import os
from ament_index_python import get_package_prefix
print(os.environ['AMENT_PREFIX_PATH'])
print(get_package_prefix('vl2v_ros'))
print(get_package_prefix('tiny'))
"""
# All that ament_index_python needs; a distribution's is on PYTHONPATH.
CLEAN = {name: os.environ[name] for name in ('PATH', 'HOME', 'PYTHONPATH') if name in os.environ}


@pytest.fixture(scope='module')
def tool(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Return the tool, after its last step, with an environment that shares our packages."""
    tool = load(ROOT)
    tool.VENV = tmp_path_factory.mktemp('checkout') / '.venv'
    tool.PYTHON = f'{tool.VENV}/bin/python'
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', tool.VENV], check=True)
    shared = next(path for path in sys.path if path.endswith('site-packages'))
    (tool.VENV / tool.site_packages() / 'a_shared.pth').write_text(f'{shared}\n')
    for hook in Path(shared).glob('ros_wheels_bootstrapper.p*'):  # it sets LD_LIBRARY_PATH
        shutil.copy(hook, tool.VENV / tool.site_packages())
    (tool.VENV / 'lib' / 'libmessages.so').touch()  # colcon exports a folder of libraries
    with pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) - set(CLEAN):
            patch.delenv(name)
        tool.make_package('')
    return tool


@pytest.fixture(scope='module')
def overlay(tool: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return another workspace's install folder, built by the colcon of the environment."""
    workspace = tmp_path_factory.mktemp('workspace')
    package = workspace / 'src' / 'tiny'
    (package / 'resource').mkdir(parents=True)
    (package / 'resource' / 'tiny').touch()
    (package / 'package.xml').write_text(
        '<package format="3"><name>tiny</name><version>0.0.0</version><description>.</description>'
        '<maintainer email="a@b.example">a</maintainer><license>Apache-2.0</license>'
        '<export><build_type>ament_python</build_type></export></package>')
    index = 'share/ament_index/resource_index/packages'
    (package / 'setup.py').write_text(
        'from setuptools import setup\nsetup(name="tiny", version="0.0.0", packages=[], '
        f'data_files=[("{index}", ["resource/tiny"]), ("share/tiny", ["package.xml"])])\n')
    subprocess.run([tool.PYTHON, '-m', 'colcon', 'build', '--event-handlers', 'status-'],
                   cwd=workspace, env=CLEAN, check=True, capture_output=True)
    return workspace / 'install'


def source(shell: str, python: str, *files: Path, **variables: str) -> list[str]:
    """Source setup files in a shell; return what its Python then finds, and LD_LIBRARY_PATH."""
    lines = [f'. {path}.{"sh" if shell == "sh" else shell}' for path in files]
    done = subprocess.run([shell, '-c', '\n'.join(
        [*lines, f'{python} -c "$FIND"', 'echo "$LD_LIBRARY_PATH"', 'echo "$AMENT_PREFIX_PATH"'])],
        env={**CLEAN, **variables, 'FIND': FIND}, capture_output=True, text=True, cwd='/')
    assert done.returncode == 0, done.stderr
    assert done.stderr == ''
    return done.stdout.splitlines()


@pytest.mark.parametrize('shell', SHELLS)
def test_both_packages_are_found_whichever_is_sourced_last(
        tool: ModuleType, overlay: Path, shell: str) -> None:
    ours, theirs = str(tool.VENV), str(overlay / 'tiny')
    for files, order in [
            ((tool.VENV / 'setup', overlay / 'setup'), [theirs, ours]),
            # The overlay's setup sources ours first, and no entry comes twice or moves.
            ((overlay / 'setup', tool.VENV / 'setup'), [theirs, ours]),
            ((overlay / 'local_setup', tool.VENV / 'setup'), [ours, theirs])]:
        path, vl2v, found, _, exported = source(shell, tool.PYTHON, *files)
        assert [vl2v, found] == [ours, theirs]
        assert path.split(':') == exported.split(':') == order


@pytest.mark.parametrize('shell', SHELLS)
def test_a_sourced_distribution_stays_behind_both(
        tool: ModuleType, overlay: Path, shell: str) -> None:
    *_, exported = source(shell, tool.PYTHON, tool.VENV / 'setup', overlay / 'local_setup',
                          AMENT_PREFIX_PATH='/opt/ros/jazzy')
    assert exported.split(':') == [str(overlay / 'tiny'), str(tool.VENV), '/opt/ros/jazzy']


@pytest.mark.parametrize('shell', SHELLS)
@pytest.mark.parametrize('name', ['setup', 'local_setup'])
def test_no_library_is_looked_for_in_the_current_folder(
        tool: ModuleType, overlay: Path, shell: str, name: str) -> None:
    """An empty entry of LD_LIBRARY_PATH is the current folder."""
    *_, libraries, _ = source(shell, tool.PYTHON, tool.VENV / name, overlay / name)
    assert str(tool.VENV / 'lib') in libraries.split(':')
    assert '' not in libraries.split(':')


def test_an_overlay_alone_does_not_hide_the_environment(tool: ModuleType, overlay: Path) -> None:
    path, vl2v, found, *_ = source('bash', tool.PYTHON, overlay / 'local_setup')
    assert [vl2v, found] == [str(tool.VENV), str(overlay / 'tiny')]
    assert path.split(':') == [str(overlay / 'tiny'), str(tool.VENV)]
