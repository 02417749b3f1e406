"""Where the files of the package are found, in the checkout and where it is installed."""
import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest
from vl2v_ros.files import brief, one_line, read_json, read_yaml, replacing, share

ROOT = Path(__file__).resolve().parents[2]


def installed(folder: Path) -> subprocess.CompletedProcess[str]:
    """Ask a copy of the module in a folder."""
    package = folder / 'vl2v_ros'
    package.mkdir(parents=True)
    (package / '__init__.py').touch()
    shutil.copy(ROOT / 'vl2v_ros' / 'files.py', package)
    return subprocess.run(
        [sys.executable, '-I', '-c', f'import sys; sys.path.insert(0, {str(folder)!r})\n'
         'from vl2v_ros.files import share; print(share())'], capture_output=True, text=True)


def test_the_checkout_holds_all_that_is_looked_for() -> None:
    for name in ('models/student.safetensors', 'config/vocabularies/everyday.yaml',
                 'vl2v_msgs/msg/LabelArray.msg', 'tools/vision_msgs/msg/Classification.msg'):
        assert (share() / name).is_file()


@pytest.mark.parametrize('packages', [
    'lib/python3.12/site-packages', 'local/lib/python3.10/dist-packages'])
def test_an_installation_has_a_share_folder(tmp_path: Path, packages: str) -> None:
    wanted = tmp_path / 'share' / 'vl2v_ros'
    (wanted / 'config' / 'vocabularies').mkdir(parents=True)
    assert installed(tmp_path / packages).stdout.strip() == str(wanted)


def test_an_installation_without_it_says_what_to_do(tmp_path: Path) -> None:
    assert 'install the package again' in installed(tmp_path / 'lib').stderr


def test_setup_py_installs_them_at_the_same_places() -> None:
    listed = subprocess.run(
        [sys.executable, '-c', 'import setuptools\nsetuptools.setup = lambda **said: '
         'print(*[folder + "/" + file.rsplit("/", 1)[-1] for folder, files in said["data_files"] '
         'for file in files], sep="\\n")\nexec(open("setup.py").read())'],
        cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in ('models/student.safetensors', 'config/vocabularies/everyday.yaml',
                 'config/sros2/policy.xml',
                 'vl2v_msgs/msg/LabelArray.msg', 'vl2v_msgs/msg/Label.msg',
                 'tools/vision_msgs/msg/Classification.msg'):
        assert f'share/vl2v_ros/{name}' in listed


def test_what_a_library_says_becomes_one_line_that_can_be_shown() -> None:
    assert one_line(ValueError('two\n  lines\x1b[2J \ud800')) == 'two lines\\x1b[2J \\ud800'
    assert len(one_line('x' * 10_000)) == 503


@pytest.mark.parametrize('content', [
    b'a: [', b'\xff', b'- !!timestamp x', b'- !!float ""', b'- !!int x', b'- !!bool x', b'\0',
    b'[' * 3000, b'a: 2020-99-99', b'? [a]\n: b'])
def test_yaml_that_is_none_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'a.yaml').write_bytes(content)
    with pytest.raises(ValueError, match='^expected a YAML file: [^\n]{1,510}$'):
        read_yaml(tmp_path / 'a.yaml')


def test_few_lines_of_yaml_that_stand_for_much_are_shown_briefly(tmp_path: Path) -> None:
    lines = ['a: &a [x, x]', *(f'{name}: &{name} [{", ".join(["*" + before] * 9)}]'
                               for before, name in zip('abcdefghijkl', 'bcdefghijklm',
                                                       strict=True))]
    (tmp_path / 'a.yaml').write_text('\n'.join(lines))
    assert len(brief(read_yaml(tmp_path / 'a.yaml'))) == 80


@pytest.mark.parametrize('content', [b'', b'{', b'\xff', b'[' * 100_000, b'9' * 5000])
def test_json_that_is_none_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'a.json').write_bytes(content)
    with pytest.raises(ValueError, match='^expected a JSON file: [^\n]{1,510}$'):
        read_json(tmp_path / 'a.json')


def test_what_a_killed_process_has_left_is_removed_a_day_later(tmp_path: Path) -> None:
    for name in ('.a[1].yaml.abcdefgh', '.a[1].yaml.ijklmnop', '.b.yaml.abcdefgh'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'half').write_text('half')
        if not name.endswith('ijklmnop'):
            os.utime(tmp_path / name, (0, 0))
    with replacing(tmp_path / 'a[1].yaml') as temporary:
        temporary.write_text('whole')
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        '.a[1].yaml.ijklmnop', '.b.yaml.abcdefgh', 'a[1].yaml']
