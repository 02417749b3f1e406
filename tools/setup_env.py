"""
Make .venv: Python, ROS 2, the message packages and this package, ready to run.

Where a ROS 2 distribution is sourced it is used, and .venv holds only what it lacks. Elsewhere
.venv gets ROS 2 Kilted from wheels. Only steps whose inputs changed since the last run are run;
the argument `build` runs those that build in any case. Needs Python's standard library only.
"""

from __future__ import annotations  # so that an old Python gets as far as being told so

import ast
from ctypes.util import find_library
import hashlib
import importlib.util
from itertools import product
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

# Those for development, training and robot, and those that ROS 2 from wheels needs beside them.
LIBRARIES = ROOT / 'tools' / 'requirements.txt'
ROS_WHEELS = ROOT / 'tools' / 'requirements_ros.txt'
# The newest that constraints.txt has wheels for. A distribution with a newer one gets the newest
# versions within the bounds of LIBRARIES.
PINNED_PYTHON = (3, 14)
# Settings of pip -> those of uv, which does not read pip's files, and what stands between values.
UV_SETTINGS = {
    'index-url': ('UV_DEFAULT_INDEX', ' '), 'extra-index-url': ('UV_INDEX', ' '),
    'find-links': ('UV_FIND_LINKS', ','), 'no-index': ('UV_NO_INDEX', ' '),
    'trusted-host': ('UV_INSECURE_HOST', ' '), 'proxy': ('ALL_PROXY', ' '),
    'cert': ('SSL_CERT_FILE', ' '), 'timeout': ('UV_HTTP_TIMEOUT', ' ')}
START = ROOT / 'tools' / 'start.pth'  # what .venv's Python does at its start
ADVICE = {  # what a failed command says -> what to do
    'No space left': 'no room is left: .venv takes 7 GB, of which uv keeps a part in ~/.cache/uv',
    'ensurepip': 'pip could not be put into .venv, as if no room were left: .venv takes 7 GB',
    'initialize cache': 'uv cannot write its cache: UV_CACHE_DIR=<another folder> make setup',
    **dict.fromkeys(['ProxyError', 'tunnel error'],  # as pip and uv say it
                    'the proxy of https_proxy or http_proxy does not answer: correct or unset it')}
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
    if not distro and not re.match(r'linux x86_64 Python 3\.1[0-4]\.', machine):
        stop(f'ROS 2 wheels exist for linux x86_64 Python 3.10 to 3.14, this is {machine}: '
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


def run(command: list[str], what: str, settings: dict[str, str] | None = None) -> None:
    """Run a command with its output shown, not beside colcon_defaults.yaml; stop if it fails."""
    print(f'setup: {what}', flush=True)
    process = subprocess.Popen(command, env={**(settings or {}), **clean_environment()},
                               stderr=subprocess.PIPE, text=True, errors='replace',
                               cwd=VENV if VENV.is_dir() else ROOT / 'tools')
    said = ''.join(line for line in process.stderr or () if sys.stderr.write(line))
    if process.wait() != 0:
        stop(f'failed: {what}; ' + next(
            (advice for words, advice in ADVICE.items() if words in said), 'the reason is above'))


def clean_environment() -> dict[str, str]:
    """Return the environment without what an outer make, colcon or wheel start-up hook set."""
    unwanted = {'COLCON_DEFAULTS_FILE', '_ROS_WHEELS_BOOTSTRAP_COMPLETE'}
    ours = {'MAKEFLAGS': f'-j{os.cpu_count()}'}  # colcon's own starts nothing on a busy machine
    if not sourced_distro():
        unwanted |= {'PYTHONPATH', 'LD_LIBRARY_PATH', 'COLCON_PREFIX_PATH'}
        ours |= {'AMENT_PREFIX_PATH': str(VENV), 'CMAKE_PREFIX_PATH': str(VENV)}
    return {name: v for name, v in os.environ.items() if name not in unwanted} | ours


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
    """Make .venv again, with all packages from the package index."""
    pip = [PYTHON, '-m', 'pip', '--disable-pip-version-check']
    if not distro:
        run([sys.executable, '-m', 'venv', '--clear', str(VENV)], 'making .venv')
        # Many times as fast as pip, and what several environments hold lies on the disk once.
        run([*pip, 'install', '-q', '-c', str(PINS), 'uv'], 'installing uv')
        run([PYTHON, '-m', 'uv', 'pip', 'install', '--python', PYTHON, '-c', str(PINS),
             '-r', str(LIBRARIES), '-r', str(ROS_WHEELS)],
            'installing with uv (the first time it gets 4 GB)', uv_settings())
        if not Path('/proc/driver/nvidia').exists() and 'UV_TORCH_BACKEND' not in os.environ:
            print('setup: there is no NVIDIA GPU: UV_TORCH_BACKEND=cpu make clean setup takes '
                  'torch without CUDA, 3 GB less, from the index of PyTorch')
        return
    # With pip, as uv does not look at what the distribution has (its issue 4466).
    run([distro_python(), '-m', 'venv', '--clear', '--system-site-packages', str(VENV)],
        f'making .venv on top of ROS 2 {distro}')
    listing = json.loads(subprocess.check_output([*pip, 'list', '--format=json']))
    installed = {normalised(entry['name']): entry['version'] for entry in listing}
    version = subprocess.check_output([PYTHON, '-c', 'import sys; print(*sys.version_info[:2])'])
    pins = read_pins(tuple(map(int, version.split())))
    (VENV / 'constraints.txt').write_text('\n'.join(distro_pins(pins, installed)))
    # Of 20,000 modules few are ever imported, which compiles and keeps them.
    run([*pip, 'install', '--no-compile', '-c', f'{VENV}/constraints.txt', '-r', str(LIBRARIES)],
        'installing with pip (minutes)')


def uv_settings() -> dict[str, str]:
    """Return what the user set for pip, in files and variables, as variables for uv."""
    settings = {'UV_INDEX_STRATEGY': 'unsafe-best-match'}  # all indexes count alike, as with pip
    listing = subprocess.check_output([PYTHON, '-m', 'pip', 'config', 'list'], text=True)
    found = dict(line.split('=', 1) for line in listing.splitlines())
    for section, (option, (name, between)) in product(
            ('global.', 'install.', ':env:.default-', ':env:.'), UV_SETTINGS.items()):
        if value := found.get(section + option):
            settings[name] = between.join(ast.literal_eval(value).split())
    return settings


def make_interfaces(distro: str) -> None:
    """Build the message packages into .venv; of others' only where no distribution has them."""
    packages, ninja = [ROOT / 'vl2v_msgs'], list[str]()
    if not distro:
        ninja = ['-GNinja', f'-DCMAKE_MAKE_PROGRAM={VENV}/bin/ninja']  # a fifth less time
        packages += [ROOT / 'tools' / 'bond', ROOT / 'tools' / 'vision_msgs']
        includes = sysconfig.get_path('include'), f'{VENV}/{site_packages()}/numpy/_core/include'
        for path in VENV.glob('share/*/cmake/*.cmake'):
            text = patch_cmake(path.read_text(), *includes)
            path.unlink()  # it may be one file with that of uv's cache
            path.write_text(text)
    colcon('building the messages (a minute)', packages, '--cmake-args', '-DBUILD_TESTING=OFF',
           f'-DPython3_EXECUTABLE={PYTHON}', f'-DPYTHON_INSTALL_DIR={site_packages()}', *ninja)


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
    shutil.copy(START, VENV / site_packages() / '_vl2v_ros_start.pth')


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
    packages = [platform.python_version(), distro, rclpy, str(VENV),
                *(path.read_text() for path in (PINS, LIBRARIES, ROS_WHEELS))]
    both = [*packages, Path(__file__).read_text(), START.read_text()]  # for both build steps
    messages = [f'{p} {p.read_text()}'
                for p in files('vl2v_msgs', 'tools/bond', 'tools/vision_msgs')]
    package = [(ROOT / name).read_text() for name in ('package.xml', 'setup.py', 'setup.cfg')]
    package += map(str, files('launch', 'config', 'models'))  # linked: names matter
    inputs = {'packages': packages, 'interfaces': both + messages, 'package': both + package}
    return {step: hashlib.sha256('\0'.join(parts).encode()).hexdigest()
            for step, parts in inputs.items()}


def main() -> None:
    """Run the steps that are stale, or all that build if asked to."""
    distro = sourced_distro()
    wanted = fingerprints(distro)
    always = ('interfaces', 'package') if 'build' in sys.argv[1:] else ()
    stamps = {step: VENV / f'setup-{step}' for step in STEPS}  # there once a step has finished
    stale = [step for step, stamp in stamps.items() if step in always
             or not stamp.is_file() or stamp.read_text() != wanted[step]]
    if stale:
        check_machine(distro)
        if distro:
            add_distro_packages(distro)
    for step in stale:
        stamps[step].unlink(missing_ok=True)  # stays away if the step is interrupted
        STEPS[step](distro)
        stamps[step].write_text(wanted[step])


if __name__ == '__main__':
    try:
        main()
    except OSError as error:  # such as on a full or a read-only disk
        stop(f'{error}; expected a folder with room that this user may write')
