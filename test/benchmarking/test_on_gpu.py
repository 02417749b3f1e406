"""The script for a machine with a GPU, rehearsed on the CPU."""
import json
import os
from pathlib import Path
import subprocess
import sys
import zipfile

from benchmarks import on_gpu
import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / 'benchmarks/on_gpu.sh'


def start(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        ['bash', str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, timeout=300,
        env={**os.environ, 'PYTHON': sys.executable, 'CUDA_VISIBLE_DEVICES': ''})


def write_wheel(folder: Path, name: str) -> None:
    """Write a wheel of one empty module."""
    about = f'{name}-1.0.dist-info'
    with zipfile.ZipFile(folder / f'{name}-1.0-py3-none-any.whl', 'w') as wheel:
        wheel.writestr(f'{name}.py', '')
        wheel.writestr(f'{about}/METADATA', f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0')
        wheel.writestr(f'{about}/WHEEL', 'Wheel-Version: 1.0\nTag: py3-none-any')
        wheel.writestr(f'{about}/RECORD', f'{name}.py,,\n{about}/RECORD,,')


@pytest.mark.long
def test_a_part_is_rehearsed_without_a_gpu(tmp_path: Path) -> None:
    wheels, out = tmp_path / 'the wheels', tmp_path / 'out'
    wheels.mkdir()
    for name in ('numpy', 'not_there_yet'):
        write_wheel(wheels, name)
    done = start('--wheels', wheels, '--device', 'cpu', '--parts', 'profile', '--out', out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f'takes from {wheels}: not_there_yet-1.0-py3-none-any.whl\n' in done.stdout
    assert {path.name for path in out.iterdir()} == {'on_gpu.json', 'on_gpu.md', 'on_gpu.log'}
    result = json.loads((out / 'on_gpu.json').read_text())
    found = result['parts']['profile']['result']
    assert 0 < found['frame [ms]']['least'] <= found['frame [ms]']['p50']
    assert {'resize', 'model', 'match'} <= found['stages [ms]'].keys()
    assert all(row['calls'] > 0 for row in found['profile [us]'])  # none of OpenVINO's
    page = (out / 'on_gpu.md').read_text()
    assert page.startswith('# CPU, a rehearsal') and '| One frame | ' in page
    assert '| **whole frame** | ' in page and page in done.stdout


@pytest.mark.parametrize('arguments, said', [
    ([], 'on_gpu: expected a CUDA device, torch'),
    (['--wheels', 'nowhere'], 'on_gpu: --wheels: expected a folder, found none at nowhere')])
@pytest.mark.long
def test_what_is_missing_is_said(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = start(*arguments, '--out', tmp_path / 'out')
    assert done.returncode != 0 and said in done.stderr
    assert not (tmp_path / 'out').exists()


@pytest.mark.long
def test_a_part_that_fails_or_hangs_is_reported(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_gpu, 'PACKAGES', [])
    script, log = tmp_path / 'part.py', tmp_path / 'log'
    script.write_text('import sys, time\nprint("begun", flush=True)\ntime.sleep(1 / int('
                      'sys.argv[1]))\nsys.exit(int(sys.argv[2]))')
    assert on_gpu.run([script, 1000, 0], 60, log).code == 0
    assert on_gpu.run([script, 1000, 3], 60, log).code == 3
    done = on_gpu.run([script, 0, 0], 60, log)
    assert done.code == 1 and 'ZeroDivisionError' in done.said
    script.write_text('import time\nprint("begun", flush=True)\ntime.sleep(600)')
    done = on_gpu.run([script], 2, log)
    assert done.code == 124 and done.said.splitlines() == [
        'begun', 'stopped: it took more than 2 s']
    assert on_gpu.state(1, {}) == 'FAILED (exit code 1)'
    assert on_gpu.state(0, {'left out': {'ViT': 'no memory'}}) == 'FAILED (left out: ViT)'
    case = tmp_path / 'test_case.py'
    case.write_text('def test_right(): pass\ndef test_wrong(): assert 1 == 2\n')
    done = on_gpu.run(['-m', 'pytest', f'--junitxml={tmp_path / "tests.xml"}', case], 60,
                      log)
    assert done.code == 1
    found = on_gpu.read_result('tests', tmp_path)
    assert found['tests'] == 2 and 'test_wrong: assert 1 == 2' in found['failed'][0]
    assert found['table'].startswith('2 tests, 1 failed, 0 skipped.')
    assert on_gpu.read_result('profile', tmp_path) == {}
