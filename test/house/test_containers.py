"""docker/ and .devcontainer/: they parse, and name what is there; no image is built here."""
from fnmatch import fnmatch
import json
import os
from pathlib import Path
import re
import shlex
import shutil
import subprocess
from typing import Any

import pytest
from support.containers import COMPOSE, compose, DOCKERFILE, instructions, ROOT
from support.setup_tool import load
import yaml

TEXT = DOCKERFILE.read_text(encoding='utf-8')
STEPS = instructions(TEXT)
HOME = '/opt/vl2v_ros'  # of the checkout in the image
ENTRYPOINT = f'{HOME}/docker/entrypoint.sh'
SERVICES = compose()['services']
SCRIPTS = set(re.findall(r"f'(\w+) = \{NAME\}", (ROOT / 'setup.py').read_text()))
DISTRIBUTIONS = ('humble', 'jazzy', 'kilted', 'lyrical')


def given(name: str) -> list[str]:
    """Return what follows each instruction of a name."""
    return [rest for instruction, rest in STEPS if instruction == name]


def words(name: str) -> list[str]:
    """Return the words of the one instruction that is a JSON list at its end."""
    rest, = given(name)
    return json.loads(rest[rest.index('['):])


def there(path: str) -> bool:
    """Return whether a path in the image is one of the checkout."""
    return (ROOT / path.removeprefix(f'{HOME}/')).exists()


def check_command(command: list[str]) -> None:
    """Fail unless a command's program, files and parameters are there."""
    assert command[0] in SCRIPTS
    for option, value in zip(command, command[1:], strict=False):
        if option == '--params-file':
            assert there(value), value
        elif option == '-p':
            name, _, said = value.partition(':=')
            assert re.search(rf'^    {name}: \w+ = parameter', parameters(command[0]), re.M), name
            assert '/' not in said or there(said), said


def parameters(program: str) -> str:
    """Return the source of the module that declares a program's parameters."""
    module = 'remembering/settings' if program == 'memory_node' else 'parameters'
    return (ROOT / f'vl2v_ros/nodes/{module}.py').read_text()


def test_instructions_are_those_of_a_dockerfile() -> None:
    assert {name for name, _ in STEPS} == {'ARG', 'FROM', 'RUN', 'WORKDIR', 'COPY', 'ENV', 'USER',
                                           'ENTRYPOINT', 'HEALTHCHECK', 'CMD'}
    assert given('FROM') == ['${BASE} AS system', 'system']
    assert given('ARG')[:2] == ['ROS=jazzy', 'BASE=ros:${ROS}']


@pytest.mark.parametrize('argument', given('ARG'))
def test_argument_is_used(argument: str) -> None:
    name = argument.partition('=')[0]
    after = TEXT[TEXT.index(f'ARG {argument}') + len(argument):]
    assert re.search(rf'\$\{{?{name}\b', after)


@pytest.mark.parametrize('step', given('RUN'))
def test_step_is_one_for_the_shell(step: str) -> None:
    subprocess.run(['/bin/sh', '-n', '-c', re.sub(r'^(--\S+ +)*', '', step)], check=True)


def installed(folder: Path, distribution: str) -> set[str]:
    """Return what the image has from apt: the step is run with an apt-get that only tells."""
    for name, line in (('apt-get', 'echo "$@"'), ('rm', ':')):
        (folder / name).write_text(f'#!/bin/sh\n{line}\n')
        (folder / name).chmod(0o755)
    step = next(step for step in given('RUN') if 'apt-get install' in step)
    said = subprocess.run(
        ['/bin/sh', '-c', step], check=True, text=True, capture_output=True,
        env={'PATH': str(folder), 'ROS_DISTRO': distribution, 'PACKAGES': 'one two'}).stdout
    return set(said.splitlines()[1].split())


def test_system_has_what_setup_asks_for(tmp_path: Path) -> None:
    wanted = {'cmake', 'g++', 'make', 'libgl1', 'libglib2.0-0', 'python3-dev', 'python3-venv',
              'one', 'two'}
    assert installed(tmp_path, '') == wanted | {'install', '-y', '--no-install-recommends'}
    ros = {f'ros-jazzy-{name.replace("_", "-")}' for name in load(ROOT).DISTRO_PACKAGES}
    assert installed(tmp_path, 'jazzy') - installed(tmp_path, '') == ros | {'python3-opencv'}


def test_image_runs_as_a_user_and_tells_its_health() -> None:
    user, = given('USER')
    assert user not in ('root', '0')
    assert any(re.search(rf'useradd .* {user}$', step) for step in given('RUN'))
    assert [name for name, _ in STEPS].index('USER') < len(STEPS) - 1
    assert words('HEALTHCHECK') == [ENTRYPOINT, 'vl2v_health']
    assert words('ENTRYPOINT') == [ENTRYPOINT] and there(ENTRYPOINT)
    assert (ROOT / 'docker/entrypoint.sh').stat().st_mode & 0o111
    check_command(words('CMD'))


def test_copied_files_are_there() -> None:
    assert given('WORKDIR') == [HOME]
    for copied in given('COPY'):
        *sources, target = copied.split()
        assert sources and all((ROOT / source).exists() for source in sources)
        assert target == '.'
    named = re.findall(rf'{HOME}/([\w./]+)', TEXT)
    assert named and all((ROOT / name).exists() for name in named if not name.startswith('.venv'))


def test_what_is_needed_is_not_left_out() -> None:
    ignored = [line for line in (ROOT / '.dockerignore').read_text().splitlines()
               if line and not line.startswith('#')]
    needed = ['Makefile', 'LICENSE', 'NOTICE', 'constraints.txt', 'package.xml', 'setup.py',
              'setup.cfg', 'config', 'data', 'docker', 'launch', 'models', 'resource', 'tools',
              'training', 'vl2v_msgs', 'vl2v_ros']
    assert all((ROOT / name).exists() for name in needed)
    assert [name for name in needed for rule in ignored if fnmatch(name, rule)] == []
    made = [line.strip('/') for line in (ROOT / '.gitignore').read_text().splitlines()
            if line and not line.startswith('#')]
    assert {rule for rule in made if rule not in ignored and f'**/{rule}' not in ignored} == {
        'docs/api'}  # docs is left out


def test_environment_is_that_of_the_launch_files() -> None:
    transport = pytest.importorskip('vl2v_ros.nodes.transport')
    entries = dict(word.split('=', 1) for word in shlex.split(given('ENV')[0]))
    assert entries.pop('PATH') == f'{HOME}/.venv/bin:$PATH'
    assert entries == transport.MALLOC


@pytest.mark.parametrize('distribution', ['', *DISTRIBUTIONS])
def test_profile_has_the_name_that_fast_dds_knows(tmp_path: Path, distribution: str) -> None:
    transport = pytest.importorskip('vl2v_ros.nodes.transport')
    (tmp_path / 'docker').mkdir()
    (tmp_path / '.venv').mkdir()
    (tmp_path / '.venv/setup.sh').touch()
    program = shutil.copy(ROOT / 'docker/entrypoint.sh', tmp_path / 'docker')
    name = (transport.OLDER_PROFILE if distribution in transport.FAST_DDS_2 else
            transport.PROFILE)
    for own in ('', 'own.xml'):
        said = subprocess.run(
            [program, 'env'], check=True, text=True, capture_output=True,
            env={'PATH': os.environ['PATH'], 'ROS_DISTRO': distribution, name: own}).stdout
        assert [line for line in said.splitlines() if 'PROFILES' in line] == [
            f'{name}={own or tmp_path / "config/fastdds_shm.xml"}']


@pytest.mark.parametrize('name', SERVICES)
def test_service_names_what_is_there(name: str) -> None:
    service = SERVICES[name]
    check_build(service['build'], COMPOSE.parent)
    assert (service['network_mode'], service['ipc']) == ('host', 'host')
    if name == 'foxglove':
        package = service['build']['args']['PACKAGES']
        assert package == f'ros-jazzy-{service["command"][2].replace("_", "-")}'
        assert service['command'][-1] == 'address:=127.0.0.1'
    else:
        check_command(service['command'])
    health = service.get('healthcheck', {})
    assert health == {'disable': True} or 'test' not in health or (
        health['test'] == ['CMD', ENTRYPOINT, 'vl2v_health', f'/{name}'])
    for volume in service.get('volumes', []):
        assert volume.partition(':')[0] in compose()['volumes']
        assert any(volume.partition(':')[2] in step for step in given('RUN')), volume


def check_build(build: dict[str, Any], folder: Path) -> None:
    """Fail unless what an image is built from is there."""
    assert (folder / build['context']).resolve() == ROOT
    base = folder / build['context'] if folder == COMPOSE.parent else folder
    assert (base / build['dockerfile']).resolve() == DOCKERFILE
    assert build['args'].keys() <= {argument.partition('=')[0] for argument in given('ARG')}


def test_variables_reach_the_services() -> None:
    services = compose(ROS='kilted', SOURCE='/dev/video0', IMAGE='/camera/image',
                       VOCABULARY='mug, cup')['services']
    assert {service['image'] for service in services.values()} == {'vl2v_ros:kilted'}
    assert 'source:=/dev/video0' in services['camera']['command']
    assert 'vocabulary:=mug, cup' in services['classifier']['command']
    assert all('image:=/camera/image' in services[name]['command']
               for name in ('camera', 'classifier', 'memory'))


def test_gpu_is_for_a_service_that_is_there() -> None:
    changed = yaml.safe_load((ROOT / 'docker/compose.cuda.yaml').read_text())['services']
    assert changed.keys() == {'classifier'} <= SERVICES.keys()
    device, = changed['classifier']['deploy']['resources']['reservations']['devices']
    assert device == {'driver': 'nvidia', 'count': 'all', 'capabilities': ['gpu']}


def test_development_container_is_made_of_the_same_dockerfile() -> None:
    content = json.loads((ROOT / '.devcontainer/devcontainer.json').read_text())
    check_build(content['build'], ROOT / '.devcontainer')
    assert given('FROM')[0].endswith(f' AS {content["build"]["target"]}')
    assert content['remoteUser'] == given('USER')[0]
    command = content['postCreateCommand']
    subprocess.run(['sh', '-n', '-c', command], check=True)
    assert '. /opt/ros/$ROS_DISTRO/setup.sh && make setup' in command


def test_page_has_the_arguments_and_the_distributions() -> None:
    page = (ROOT / 'docs/containers.md').read_text(encoding='utf-8')
    names = [argument.partition('=')[0] for argument in given('ARG')]
    assert [name for name in names if f'`{name}' not in page] == []
    assert [name for name in DISTRIBUTIONS if name not in page or name not in TEXT] == []
    variables = set(re.findall(r'\$\{(\w+)', COMPOSE.read_text()))
    assert [name for name in variables if f'`{name}`' not in page] == []
