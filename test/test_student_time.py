"""The benchmark of student and teacher runs, and writes what it prints."""
import json
from pathlib import Path
import subprocess
import sys

ROOT = Path(__file__).parent.parent


def test_table_and_json(tmp_path: Path) -> None:
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
