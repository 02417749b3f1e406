"""Benchmarks run, print their tables, and write their JSON."""
import json
from pathlib import Path
import subprocess
import sys

from benchmarks import component, passes
from benchmarks.learning import teacher_rate, training_parts
import numpy as np
import pytest
from support import warm

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


def test_component_beside_others(tmp_path: Path) -> None:
    out, names = tmp_path / 'new/component.json', ['student', 'ViT-B/32', 'ViT-B/32, our runtime']
    assert list(component.contenders(component.Options(), 'cpu')) == [
        'student', 'ViT-B/32', 'ViT-B/16', 'ViT-B/32, our runtime', 'ViT-B/16, our runtime']
    done = warm.run(
        'benchmarks/component.py', '--rounds', 2, '--seconds', 0, '--batches', 1, 3, '--width',
        320, '--height', 240, '--device', 'cuda:99', '--only', *names, '--out', out)
    assert done.returncode == 0, done.stderr
    missing, = (line for line in done.stdout.splitlines() if 'cuda:99' in line)
    assert missing.startswith('component: no GPU') and missing.endswith('measures on the CPU')
    assert 'component: tf_efficientnet_lite0 runs on CPU, ' in done.stdout
    result = json.loads(out.read_text())
    assert list(out.parent.iterdir()) == [out]
    assert result['machine']['versions']['torch'] and result['machine']['device'] == 'cpu'
    assert result['left out'] == {}
    assert list(result['milliseconds']) == names
    for name, times in result['milliseconds'].items():
        assert list(times) == ['1', '3']
        assert all(len(values) == 2 and min(values) > 0 for values in times.values())
        assert f'| {name} | {result["weights"][name] / 1e6:.1f} | ' in done.stdout
    assert '| 1.0 (1.0 to 1.0) |' in done.stdout
    assert result['weights']['ViT-B/32'] > 80e6


def test_component_goes_on_without_what_fails(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def label_two(frames: np.ndarray) -> None:
        if len(frames) > 2:
            raise RuntimeError('out of\n memory')

    def build_nothing() -> None:
        raise ImportError('not there')

    monkeypatch.setattr(component, 'contenders', lambda options, device: {
        'no model': build_nothing, 'small': lambda: (label_two, 5),
        'student': lambda: (list, 6)})
    result = component.measure(component.Options(rounds=3, seconds=0, width=8, height=8), 'cpu')
    assert result['left out'] == {'no model': 'ImportError: not there',
                                  'small': 'RuntimeError: out of memory'}
    assert [len(times) for times in result['milliseconds']['student'].values()] == [3, 3, 3]
    assert capsys.readouterr().out.splitlines() == [
        'component: no model is left out: ImportError: not there',
        'component: small is left out: RuntimeError: out of memory']
    assert len(component.table(result).splitlines()) == 3


@pytest.mark.parametrize('arguments, said', [
    (['--device', 'tpu'], "--device: expected auto, cpu, cuda or cuda:N, got 'tpu'"),
    (['--batches', '4', '0'], '--batches: expected at least 1, got (4, 0)')])
def test_component_refuses_in_one_line(
        arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'argv', ['component', *arguments])
    with pytest.raises(SystemExit) as stop:
        component.main()
    assert str(stop.value) == f'component: {said}'


def test_boxes_as_one_batch_and_one_by_one(tmp_path: Path) -> None:
    out = tmp_path / 'boxes.json'
    done = warm.run(
        'benchmarks/boxes.py', '--rounds', 2, '--seconds', 0, '--counts', 1, 3, '--width', 160,
        '--height', 120, '--largest', 60, '--checkpoint', 'data/mini/student.safetensors',
        '--vocabulary', 'mug, banana', '--out', out)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    for times in result['milliseconds per frame'].values():
        assert list(times) == ['1', '3']
        assert all(len(values) == 2 and min(values) > 0 for values in times.values())
    assert '\n| 3 | ' in done.stdout and result['options']['vocabulary'] == 'mug, banana'


def test_speed_of_training_is_compared(tmp_path: Path) -> None:
    out = tmp_path / 'step.json'
    done = warm.run(
        'benchmarks/learning/training_step.py', '--rounds', 2, '--steps', 1, '--backbone',
        'test_resnet', '--image-size', 32, '--batch', 4, '--device', 'cpu', '--out', out)
    assert done.returncode == 0, done.stderr
    rates = json.loads(out.read_text())['images/s']
    assert list(rates) == ['batch norms plain', 'batch norms folded',
                           'batch norms plain, memory kept', 'batch norms folded, memory kept']
    assert all(len(values) == 2 and f'| {name} | ' in done.stdout
               for name, values in rates.items())


def test_soak_writes_its_memory_and_a_picture(tmp_path: Path) -> None:
    out = tmp_path / 'soak.json'
    done = subprocess.run(
        [sys.executable, '-m', 'benchmarks.soak', '--frames', '40', '--parts', '4', '--checkpoint',
         'data/mini/student.safetensors', '--out', out], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result['frames'] == [10, 20, 30, 40]
    assert len(result['memory [MiB]']) == 4 and min(result['memory [MiB]']) > 50
    assert f'{result["growth [MiB]"]:.1f} MiB' in done.stdout
    assert (tmp_path / 'soak.png').read_bytes().startswith(b'\x89PNG')


def test_parts_of_inference_and_training_are_measured_in_turns() -> None:
    mini = ROOT / 'data/mini/student.safetensors'
    result = passes.measure(passes.Options(mini, (1, 2), (1,), pause=0.001, rounds=1))
    runs = result['milliseconds per frame']
    assert len(runs) == 8 and {'batch 1, 1 thread', 'batch 2, 1 thread, pinned, pauses'} < {*runs}
    assert all(len(run['cpu']) == 1 and len(run['clock']) == passes.PASSES
               and min(run['cpu'] + run['clock']) > 0 for run in runs.values())
    assert len(passes.table(result).splitlines()) == 10

    result = teacher_rate.measure(teacher_rate.Options(20, 8, (0.0,), 1))
    assert list(result['runs']) == ['0 s, 1 at once', '0 s, 8 at once']
    assert all(run['images/s'][0] > 0 for run in result['runs'].values())
    assert len(teacher_rate.table(result).splitlines()) == 4

    result = training_parts.measure(training_parts.Options(batch=2, rounds=1))
    assert all(len(used) == 1 and used[0] > 0 for used in result['CPU per image [ms]'].values())
    shares = [line.split('|')[3:5] for line in training_parts.table(result).splitlines()[2:-1]]
    for column in zip(*shares, strict=True):
        assert 97 <= sum(int(share.strip(' %') or 0) for share in column) <= 103
