"""The check that domains look different: what it measures, and what it refuses."""
from pathlib import Path
import subprocess
import sys

import cv2
import numpy as np
import pytest
from training import domain_check

ROOT = Path(__file__).parents[2]


def write_dataset(root: Path, levels: dict[str, tuple[int, int]], classes: int = 4) -> Path:
    """Write two images per class and domain; levels: brightness and noise of each domain."""
    rng = np.random.default_rng(0)
    for domain, (level, noise) in levels.items():
        for number in range(classes):
            for image in range(2):
                path = root / domain / f'class {number}' / f'{image}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = (level + rng.integers(-noise, noise + 1, (32, 32, 3))).astype(np.uint8)
                path.write_bytes(cv2.imencode('.png', pixels)[1].tobytes())
    return root


def run(data: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, 'training/domain_check.py', '--data', str(data)],
                          cwd=ROOT, capture_output=True, text=True, check=False,
                          env={'PYTHONPATH': str(ROOT)})


def test_domains_that_differ_are_told_apart(tmp_path: Path) -> None:
    write_dataset(tmp_path / 'single', {'dark': (40, 4), 'grey': (120, 15), 'light': (200, 50)})
    (tmp_path / 'single' / 'dark' / 'class 0' / 'empty.jpg').write_bytes(b'')
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert '| grey | 0 | 4 | 0 |' in done.stdout
    assert '100.0% of 12 images in the right one of 3 domains (chance 33.3%)' in done.stdout
    assert 'skipped dark/class 0/empty.jpg: expected a ' in done.stderr


def test_one_domain_is_refused(tmp_path: Path) -> None:
    done = run(write_dataset(tmp_path, {'dark': (40, 4)}))
    assert done.returncode == 1
    assert done.stderr.startswith('domain_check: expected at least 2 domains')


def test_equal_domains_are_near_chance() -> None:
    rng = np.random.default_rng(0)
    table = domain_check.confusion(rng.standard_normal((4000, 5)), np.arange(4000) % 10,
                                   rng.integers(0, 4, 4000))
    assert abs(np.trace(table) / table.sum() - 0.25) < 0.05


@pytest.mark.parametrize('labels, domains, message', [
    ([0, 0, 0, 0], [0, 1, 0, 1], 'at least 2 classes, got 2 and 1'),
    ([0, 1, 0, 1], [0, 0, 1, 1], None), ([0, 1, 2, 3], [0, 1, 0, 1], 'in both halves')])
def test_too_little_to_compare(labels: list[int], domains: list[int], message: str | None) -> None:
    features = np.arange(8.0).reshape(4, 2)
    if message is None:
        assert domain_check.confusion(features, np.array(labels), np.array(domains)).sum() == 2
    else:
        with pytest.raises(ValueError, match=message):
            domain_check.confusion(features, np.array(labels), np.array(domains))


def test_blur_noise_and_colour_move_the_statistics() -> None:
    rng = np.random.default_rng(0)
    sharp = rng.integers(60, 190, (64, 64, 3), np.uint8)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 3)
    before, after = domain_check.statistics(sharp), domain_check.statistics(blurred)
    assert before.shape == after.shape == (17,)
    assert np.isfinite(domain_check.statistics(np.zeros((8, 8, 3), np.uint8))).all()
    assert after[-1] < before[-1] - 2
