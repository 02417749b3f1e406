"""Bundles: a robot labels with nothing else, and damage is found in one line."""
import json
from pathlib import Path
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from support import offline_student
from support.tiny_models import student, write_tower
from vl2v_ros.command.bundle import main
from vl2v_ros.labeller import Labeller
from vl2v_ros.model import checkpoint
from vl2v_ros.model.bundle import MANIFEST
from vl2v_ros.words import vocabulary_file

FILES = ['LICENCES.txt', 'known_prompts.safetensors', 'manifest.json', 'student.graph',
         'student.safetensors', 'vocabulary.yaml']
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def make(source: Path, *more: object) -> Path:
    """Make the bundle `robot` beside a student."""
    main(['--checkpoint', str(source), '--out', str(source.parent / 'robot'), *map(str, more)])
    return source.parent / 'robot'


def refusal(*arguments: object) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in arguments])
    assert isinstance(end.value.code, str) and '\n' not in end.value.code
    return end.value.code


@pytest.fixture
def robot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a bundle on a machine without caches and without a hub."""
    for name, value in offline_student.no_hub(tmp_path / 'home').items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    source = offline_student.write(tmp_path, graph=True)
    return make(source, '--vocabulary', 'mug, orange', '--tar')


def test_a_bundle_is_enough(robot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
                            ) -> None:
    assert sorted(path.name for path in robot.iterdir()) == FILES
    with tarfile.open(tmp_path / 'robot.tar') as tar:
        tar.extractall(tmp_path / 'there', filter='data')
    there = tmp_path / 'there/robot'
    main(['--check', str(there)])
    assert capsys.readouterr().out.endswith(f'{there}: as it was written\n')
    kept = tmp_path / 'empty'
    found = Labeller.open(there / 'student.safetensors', 'cpu', False, kept).label(
        IMAGE, there / 'vocabulary.yaml')
    before = Labeller.open(tmp_path / 'student.safetensors', 'cpu', False).label(
        IMAGE, ['mug', 'orange'])
    assert found.labels == before.labels
    assert found.similarities == pytest.approx(before.similarities, abs=1e-3)
    assert not list(kept.rglob('*.graph'))  # nothing was converted
    names = Labeller.open(there / 'student.safetensors').encoder.names
    assert set(offline_student.NAMES) <= set(names)  # and other known names can still be used
    assert 'Apache-2.0' in (there / 'LICENCES.txt').read_text()


def test_damage_is_found_in_one_line(robot: Path, tmp_path: Path) -> None:
    for path in sorted(robot.iterdir()):
        kept = path.read_bytes()
        path.write_bytes(kept[:20] + bytes([kept[20] ^ 1]) + kept[21:])
        assert path.name in (said := refusal('--check', robot)), said
        path.unlink()
        assert path.name in (said := refusal('--check', robot)), said
        path.write_bytes(kept)
    (robot / '.directory').touch()  # as file managers write
    main(['--check', str(robot)])
    (robot / 'parameters.yaml').write_text('{}')
    assert 'parameters.yaml is not of this bundle; remove it' in refusal('--check', robot)
    (robot / 'parameters.yaml').unlink()
    assert 'unpack it: `tar -xf' in refusal('--check', tmp_path / 'robot.tar')
    manifest = json.loads((robot / MANIFEST).read_text())
    for changes, expected in (({'version': 2}, 'expected version 1, got 2'),
                              ({'format': 'other'}, "got 'other'"), ({'files': 3}, 'is damaged'),
                              ({'files': {'../x': {'bytes': 1, 'sha256': ''}}}, "got '../x'"),
                              ({'files': {}}, 'student.safetensors is missing')):
        (robot / MANIFEST).write_text(json.dumps(manifest | changes))
        assert expected in (said := refusal('--check', robot)), said


def test_what_is_no_bundle_is_not_replaced(robot: Path, tmp_path: Path) -> None:
    again = make(tmp_path / 'student.safetensors', '--vocabulary', 'mug')
    assert again == robot and 'orange' not in (robot / 'vocabulary.yaml').read_text()
    other = tmp_path / 'mine'
    other.mkdir()
    for words, out, expected in (('mug', other, 'expected a new folder, or a bundle'),
                                 ('red mug', tmp_path / 'new', "cannot encode label 'red mug'")):
        said = refusal('--checkpoint', tmp_path / 'student.safetensors', '--vocabulary', words,
                       '--out', out)
        assert expected in said
    params = tmp_path / 'params.yaml'
    params.write_text('cameras: [front]')
    assert 'ROS parameters' in refusal('--params', params, '--vocabulary', 'mug', '--checkpoint',
                                       tmp_path / 'student.safetensors', '--out', tmp_path / 'new')
    assert not (tmp_path / 'new').exists()


def test_a_text_tower_in_a_bundle_encodes_other_words(tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    checkpoint.save(student(text_tower=write_tower(tmp_path)), tmp_path / 'student.safetensors')
    robot = make(tmp_path / 'student.safetensors', '--vocabulary', 'mug, cup', '--text-tower')
    shutil.rmtree(tmp_path / 'cache')
    before = Labeller.open(tmp_path / 'student.safetensors', 'cpu', False)
    after = Labeller.open(robot / 'student.safetensors', 'cpu', False, tmp_path / 'empty')
    for words in (['mug', 'cup'], ['blue spoon', 'fork']):
        np.testing.assert_allclose(after.vocabulary(words).prototypes,
                                   before.vocabulary(words).prototypes, atol=1e-3)


def test_labels_that_were_taught_are_in_a_bundle(robot: Path, tmp_path: Path) -> None:
    labeller = Labeller.open(tmp_path / 'student.safetensors', 'cpu')
    file = labeller.teach(['mug'], 'my thing', [IMAGE])
    vocabulary_file.save(file, tmp_path / 'words.yaml', labeller.origin)
    make(tmp_path / 'student.safetensors', '--vocabulary', tmp_path / 'words.yaml')
    main(['--check', str(robot)])
    there = Labeller.open(robot / 'student.safetensors', 'cpu')
    assert there.label(IMAGE, robot / 'vocabulary.yaml').labels[0] == 'my thing'


def test_the_graph_beside_a_student_is_taken_as_it_is(tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torch, which a conversion would need; words that need it are refused in one line."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    source = offline_student.write(tmp_path, graph=True)

    def without_torch(words: str) -> subprocess.CompletedProcess[str]:
        lost = ('import sys; sys.modules |= dict.fromkeys('
                '("huggingface_hub", "open_clip", "timm", "torch"))')
        return subprocess.run(
            [sys.executable, '-c', f'{lost}; from vl2v_ros.command.bundle import main; main()',
             '--checkpoint', source, '--vocabulary', words, '--out', tmp_path / 'robot'],
            capture_output=True, text=True)

    refused = without_torch('mug, a word nobody knows')
    assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1, refused.stderr
    assert 'cannot be loaded' in refused.stderr
    done = without_torch('mug, orange')
    assert done.returncode == 0, done.stderr
    kept = tmp_path / 'empty'
    found = Labeller.open(tmp_path / 'robot/student.safetensors', 'cpu', False, kept).label(
        IMAGE, tmp_path / 'robot/vocabulary.yaml')
    assert not list(kept.rglob('*.graph'))  # nothing was converted
    before = Labeller.open(source, 'cpu', False).label(IMAGE, ['mug', 'orange'])
    assert found.labels == before.labels
