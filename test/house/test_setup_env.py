"""tools/setup_env.py: which steps are stale, what it says if something is missing, its edits."""

from pathlib import Path
import shutil
import subprocess
import sys
from types import ModuleType

from packaging.requirements import Requirement
import pytest
from support.setup_tool import load

ROOT = Path(__file__).resolve().parents[2]
INPUTS = ['constraints.txt', 'package.xml', 'setup.py', 'setup.cfg', 'tools', 'vl2v_msgs']

# As in std_msgs's wheel for Python 3.11
EXPORTED_CMAKE = """\
set_target_properties(std_msgs::std_msgs__rosidl_generator_py PROPERTIES
  INTERFACE_INCLUDE_DIRECTORIES "/opt/python/cp311-cp311/include/python3.11;\
/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include"
)
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy what the tool reads; no distribution is sourced."""
    monkeypatch.delenv('ROS_DISTRO', raising=False)
    monkeypatch.delenv('AMENT_PREFIX_PATH', raising=False)
    for name in INPUTS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    for name in ('launch/x.launch.py', 'config/x.yaml', 'config/vocabularies/x.yaml'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('first')
    (tmp_path / '.venv').mkdir()
    return tmp_path


@pytest.fixture
def tool(checkout: Path) -> ModuleType:
    """Import the copy of the tool."""
    return load(checkout)


def run(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[str]:
    """Run the tool with steps that do nothing; return the names of those it ran."""
    ran: list[str] = []
    monkeypatch.setattr(tool, 'STEPS', {s: lambda _, s=s: ran.append(s) for s in tool.STEPS})
    monkeypatch.setattr(tool, 'check_machine', lambda distro: None)
    monkeypatch.setattr(sys, 'argv', ['setup_env.py', *arguments])
    tool.main()
    return ran


ALL = ['packages', 'interfaces', 'package']


def test_second_run_does_nothing(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps run once; `build` runs those that build again."""
    assert run(tool, monkeypatch) == ALL
    assert run(tool, monkeypatch) == []
    assert run(tool, monkeypatch, 'build') == ['interfaces', 'package']


@pytest.mark.parametrize(('name', 'expected'), [
    ('constraints.txt', ALL),
    ('vl2v_msgs/msg/Label.msg', ['interfaces']),
    ('vl2v_msgs/srv/New.srv', ['interfaces']),
    ('tools/vision_msgs/CMakeLists.txt', ['interfaces']),
    ('tools/bond/msg/Status.msg', ['interfaces']),
    ('tools/setup_env.py', ['interfaces', 'package']),
    ('tools/start.pth', ['interfaces', 'package']),
    ('tools/requirements.txt', ALL),
    ('tools/requirements_ros.txt', ALL),
    ('setup.py', ['package']),
    ('launch/new.launch.py', ['package']),
    ('config/vocabularies/x.yaml', []),  # linked, not copied
    ('vl2v_ros/images/frame.py', []),
    ('launch/__pycache__/x.pyc', []),  # of a launch file that was run
])
def test_changed_file(
    checkout: Path, tool: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str,
    expected: list[str],
) -> None:
    """A change reaches the steps that read the file and no other."""
    run(tool, monkeypatch)
    path = checkout / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text((path.read_text() if path.exists() else '') + '\n# changed\n')
    assert run(load(checkout), monkeypatch) == expected


def test_sourcing_a_distribution_makes_all_anew(
    tool: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The environment on a distribution is another one than that of wheels."""
    run(tool, monkeypatch)
    monkeypatch.setenv('ROS_DISTRO', 'jazzy')
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(checkout / 'ros'))
    monkeypatch.setattr(tool, 'add_distro_packages', lambda distro: None)
    assert run(tool, monkeypatch) == ALL


def test_interrupted_step_runs_again(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that did not end has no stamp, even if an earlier run ended."""
    run(tool, monkeypatch)

    def interrupted(distro: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tool, 'STEPS', {**tool.STEPS, 'interfaces': interrupted})
        patch.setattr(sys, 'argv', ['setup_env.py', 'build'])
        with pytest.raises(KeyboardInterrupt):
            tool.main()
    assert run(tool, monkeypatch) == ['interfaces']


def call(checkout: Path, path: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run the real tool as a program with nothing but `path` to find programs in."""
    return subprocess.run(
        [sys.executable, '-I', checkout / 'tools/setup_env.py'], capture_output=True, text=True,
        env={'PATH': str(path), '_ROS_WHEELS_BOOTSTRAP_COMPLETE': '1', **environment})


def programs(folder: Path, *names: str) -> Path:
    """Make a folder with programs that do nothing."""
    folder.mkdir()
    for name in names:
        (folder / name).write_text('#!/bin/sh\n')
        (folder / name).chmod(0o755)
    return folder


def test_missing_cmake(checkout: Path) -> None:
    """One line names what is missing and how to install it."""
    result = call(checkout, programs(checkout / 'bin', 'g++', 'make'))
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert 'cmake missing: apt-get install -y cmake' in result.stderr
    assert not list((checkout / '.venv').iterdir())


def test_python_without_wheels(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A Python for which there is no ROS 2 wheel is refused, unless a distribution is sourced."""
    monkeypatch.setattr(tool.platform, 'python_version', lambda: '3.9.18')
    monkeypatch.setattr(tool.shutil, 'which', lambda name: name)
    monkeypatch.setattr(tool.importlib.util, 'find_spec', lambda name: name)
    monkeypatch.setattr(tool, 'find_library', lambda name: name)
    monkeypatch.setattr(tool.sysconfig, 'get_path', lambda name: str(headers(tool)))
    with pytest.raises(SystemExit, match=r'Python 3\.10 to 3\.14, this is .*3\.9\.18: source'):
        tool.check_machine('')
    tool.check_machine('humble')


def test_32_bits_are_refused_before_anything_is_to_be_installed(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such as of ARM: also on a distribution, and also with a 64-bit kernel."""
    monkeypatch.setattr(tool.platform, 'machine', lambda: 'armv7l')
    monkeypatch.setattr(tool.shutil, 'which', lambda name: None)
    for bits, distro in (31, ''), (31, 'jazzy'), (63, ''):
        monkeypatch.setattr(tool.sys, 'maxsize', 2 ** bits - 1)
        with pytest.raises(SystemExit, match='this is linux armv7l Python'):
            tool.check_machine(distro)


@pytest.mark.parametrize(('command', 'advice'), [
    (['cp', __file__, '/dev/full'], 'no room is left: .venv takes'),
    ([sys.executable, '-m', 'pip', 'install', '--isolated', '--retries=1', '--index-url',
      'https://index.invalid/simple', 'nothing'], 'the proxy of https_proxy'),
    (['env', 'UV_HTTP_RETRIES=0', sys.executable, '-m', 'uv', 'pip', 'install', '--no-cache',
      '--index-url', 'https://index.invalid/simple', 'nothing'], 'the proxy of https_proxy'),
    (['env', 'UV_CACHE_DIR=/proc/none', sys.executable, '-m', 'uv', 'pip', 'install', 'nothing'],
     'uv cannot write its cache: UV_CACHE_DIR='),
    (['sh', '-c', f'ulimit -f 1; exec {sys.executable} -m venv ${{TMPDIR:-/tmp}}/$$'],
     'pip could not be put into .venv'),
    (['ls', '/nowhere'], 'the reason is above')])
def test_why_a_command_failed(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    command: list[str], advice: str,
) -> None:
    """The last line says what to do, below what the command said."""
    monkeypatch.setenv('https_proxy', 'http://127.0.0.1:9')
    monkeypatch.delenv('no_proxy', raising=False)
    with pytest.raises(SystemExit, match=f'^setup: failed: a step; {advice}'):
        tool.run(command, 'a step')
    assert capfd.readouterr().err


def test_a_disk_that_cannot_be_written_is_one_line(checkout: Path) -> None:
    """Here a file lies where the folder of an environment is to be."""
    (checkout / '.venv').rmdir()
    (checkout / '.venv').touch()
    result = call(checkout, programs(checkout / 'bin', 'cmake', 'g++', 'make'))
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert 'expected a folder with room' in result.stderr


def headers(tool: ModuleType) -> Path:
    """Make a folder with Python's header file."""
    (tool.ROOT / 'Python.h').touch()
    return tool.ROOT


def test_distro_without_vision_msgs(
    checkout: Path, tool: ModuleType, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who may not install is told the command; the vision_msgs in .venv does not count."""
    index = checkout / 'ros/share/ament_index/resource_index/packages'
    index.mkdir(parents=True)
    for name in tool.DISTRO_PACKAGES:
        if name != 'vision_msgs':
            (index / name).touch()
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{checkout}/.venv:{checkout}/ros')
    monkeypatch.setattr(tool, 'distro_python', lambda: '/bin/true')
    monkeypatch.setattr(tool.os, 'geteuid', lambda: 1000)
    own = checkout / '.venv/share/ament_index/resource_index/packages/vision_msgs'
    own.parent.mkdir(parents=True)
    own.touch()
    with pytest.raises(SystemExit, match='sudo apt-get install -y ros-jazzy-vision-msgs$'):
        tool.add_distro_packages('jazzy')


def test_distro_environment_without_the_distro(
    checkout: Path, tool: ModuleType, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A shell in which sourcing was forgotten does not replace the environment by another one."""
    monkeypatch.setattr(tool.shutil, 'which', lambda name: name)
    monkeypatch.setattr(tool.platform, 'python_version', lambda: '3.12.3')
    monkeypatch.setattr(tool.importlib.util, 'find_spec', lambda name: name)
    monkeypatch.setattr(tool, 'find_library', lambda name: name)
    monkeypatch.setattr(tool.sysconfig, 'get_path', lambda name: str(headers(tool)))
    (checkout / '.venv/pyvenv.cfg').write_text('include-system-site-packages = true\n')
    with pytest.raises(SystemExit, match='none is sourced: source /opt/ros/'):
        tool.check_machine('')


def test_distro_pins(tool: ModuleType) -> None:
    """What the distribution has stays as it is; numpy and torch at their very version."""
    pins = ['numpy==2.2.6', 'PyYAML==6.0.3', 'torch==2.14.1', 'torchvision==0.29.1',
            'open_clip_torch==3.3.0']
    assert tool.distro_pins(pins, {}) == pins
    assert tool.distro_pins(pins, {'numpy': '1.26.4', 'pyyaml': '6.0.1'}) == [
        'torch==2.14.1', 'torchvision==0.29.1', 'open_clip_torch==3.3.0', 'numpy==1.26.4']
    both = ["scipy==1.15.3; python_version < '3.14'", "scipy==1.17.1; python_version >= '3.14'"]
    assert tool.distro_pins(both, {}) == both
    assert tool.distro_pins(both, {'scipy': '1.11.4'}) == []
    assert tool.distro_pins(pins, {'torch': '2.5.0', 'open-clip-torch': '2.30.0'}) == [
        'numpy==2.2.6', 'PyYAML==6.0.3', 'torch==2.5.0']


def test_a_python_newer_than_the_pins_is_not_held_to_them(tool: ModuleType) -> None:
    assert tool.read_pins((3, 10)) == tool.read_pins((3, 14)) != []
    assert tool.read_pins((3, 15)) == []
    assert tool.distro_pins(tool.read_pins((3, 15)), {'numpy': '2.3.4'}) == ['numpy==2.3.4']


def test_pins_are_complete(tool: ModuleType) -> None:
    """Every package asked for has one version for each Python; every line of the file is a pin."""
    lines = [line for line in tool.PINS.read_text().splitlines() if not line.startswith('#')]
    assert all(line.count('==') == 1 for line in lines)
    asked = {tool.normalised(Requirement(line).name) for line in [
        'uv', *tool.LIBRARIES.read_text().splitlines(), *tool.ROS_WHEELS.read_text().splitlines(),
    ] if not line.startswith('#')}
    for minor in range(10, tool.PINNED_PYTHON[1] + 1):
        names = [tool.normalised(pin.name) for pin in map(Requirement, lines)
                 if not pin.marker or pin.marker.evaluate({'python_version': f'3.{minor}'})]
        assert len(names) == len(set(names))
        assert asked <= set(names)


def test_patch_cmake(tool: ModuleType) -> None:
    """Both folders of the build machine are replaced, everything else stays; twice is once."""
    patched = tool.patch_cmake(EXPORTED_CMAKE, '/usr/include/python3.11', '/v/numpy/include')
    assert '"/usr/include/python3.11;/v/numpy/include"' in patched
    assert patched.splitlines()[0] == EXPORTED_CMAKE.splitlines()[0]
    assert tool.patch_cmake(patched, '/a', '/b') == patched


def test_a_link_to_the_environment_of_another_checkout(checkout: Path) -> None:
    """Setting up through it would empty what that checkout works with."""
    other = checkout.parent / 'other'
    shutil.copytree(checkout, other)
    (other / '.venv' / 'kept').touch()
    (checkout / '.venv').rmdir()
    (checkout / '.venv').symlink_to(other / '.venv')
    result = call(checkout, programs(checkout / 'bin', 'cmake', 'g++', 'make'))
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert f'a link to that of the checkout {other}' in result.stderr
    assert (other / '.venv' / 'kept').is_file()
