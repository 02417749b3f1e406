"""The words that ship are known without a network, by the student that ships and by CLIP."""
import os
from pathlib import Path

import pytest
from support import offline_student
from support.offline_student import TEMPLATE
from vl2v_ros.model import checkpoint
from vl2v_ros.nodes.demo import OTHER_LABELS
from vl2v_ros.words import recording, vocabulary_file
from vl2v_ros.words.recording import Recording
from vl2v_ros.words.vocabulary import prompt

ROOT = Path(__file__).resolve().parents[2]
LISTS = ('everyday', 'household', 'workshop', 'demo')
TEMPLATES = '{a} {label}', TEMPLATE


def labels(name: str) -> list[str]:
    if name == 'demo':
        return OTHER_LABELS.split(', ')
    return list(vocabulary_file.parse(str(ROOT / f'config/vocabularies/{name}.yaml')).entries)


def unknown(name: str, known: Recording) -> list[str]:
    """Return the labels of a list that no plain prompt is known of."""
    return [label for label in labels(name)
            if all(known.find(prompt(template, label)) is None for template in TEMPLATES)]


@pytest.mark.skipif('VL2V_DATA' not in os.environ, reason='needs the recorded answers of CLIP')
@pytest.mark.parametrize('name', LISTS)
def test_every_label_is_known_by_the_recorded_answers(name: str, tmp_path: Path) -> None:
    path = offline_student.real_recording(tmp_path / 'prompts.safetensors')
    assert unknown(name, recording.read(path)) == []


@pytest.mark.parametrize('name', LISTS)
def test_every_label_is_known_by_the_student_that_ships(name: str, tmp_path: Path) -> None:
    path = ROOT / 'models/student.safetensors'
    file = checkpoint.open_stored(path, tmp_path).spec.text_tower.recording
    if not file:
        pytest.skip('the student that ships has no recording beside it')
    assert unknown(name, recording.read(path.parent / file)) == []


def test_the_everyday_list_has_one_plain_name_per_thing() -> None:
    file = vocabulary_file.parse(str(ROOT / 'config/vocabularies/everyday.yaml'))
    assert 250 < len(file.entries) < 350
    assert not any(entry.descriptions or entry.synonyms for entry in file.entries.values())
    assert not file.templates and not file.background
