"""Benchmarks run, print their tables, and write their JSON."""
import json
from pathlib import Path
import subprocess
import sys

ROOT = Path(__file__).parent.parent


def test_time_of_the_student_beside_others(tmp_path: Path) -> None:
    out = tmp_path / 'new/time.json'
    done = subprocess.run(
        [sys.executable, str(ROOT / 'benchmarks/student_time.py'), '--rounds', '2', '--images',
         '1', '--device', 'cpu', '--out', str(out)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert list(result['milliseconds']) == ['student', 'its teacher', 'ViT-B/32']
    for name, times in result['milliseconds'].items():
        assert len(times) == 2 and all(time > 0 for time in times)
        assert f'| {name} | {result["weights"][name] / 1e6:.1f} | ' in done.stdout
    assert result['weights']['ViT-B/32'] > 80e6


def test_speed_of_training_is_compared(tmp_path: Path) -> None:
    out = tmp_path / 'step.json'
    done = subprocess.run(
        [sys.executable, str(ROOT / 'benchmarks/training_step.py'), '--rounds', '2', '--steps',
         '1', '--backbone', 'mobilenetv2_050', '--image-size', '32', '--batch', '4', '--device',
         'cpu', '--out', str(out)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rates = json.loads(out.read_text())['images/s']
    assert list(rates) == ['batch norms plain', 'batch norms folded',
                           'batch norms plain, memory kept', 'batch norms folded, memory kept']
    assert all(len(values) == 2 and f'| {name} | ' in done.stdout
               for name, values in rates.items())
