"""vl2v_classify on a machine without a network, in processes of its own."""
from collections.abc import Sequence
from pathlib import Path
import subprocess

import pytest
from support import offline_student, warm
from support.classify_command import PROGRAM
from support.offline_student import IDENTITY, NAMES, no_hub, ONLY_SHORT
from support.tiny_models import python, student, write_tower
from vl2v_ros.model import checkpoint

BANANA = Path(__file__).resolve().parents[2] / (
    'data/ycb_sample/single/studio/011_banana/00000.jpg')

pytestmark = pytest.mark.usefixtures('cache_dir')


@pytest.fixture(autouse=True)
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in no_hub(tmp_path / 'hub').items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope='module')
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return offline_student.write(tmp_path_factory.mktemp('offline'), graph=True)


def run(path: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return warm.run(PROGRAM, '--checkpoint', path, '--device', 'cpu', *arguments)


def refused(path: Path, *arguments: object) -> str:
    """Return the one line with which the command ends with 1."""
    done = run(path, *arguments)
    assert (done.returncode, done.stdout) == (1, ''), done.stderr
    line, = done.stderr.splitlines()
    return line


def test_known_lists_all_names(path: Path) -> None:
    done = run(path, '--known')
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.splitlines() == sorted({*NAMES, *ONLY_SHORT})


@pytest.mark.parametrize(('word', 'found'), [
    ('mugs', ['mug', 'coffee mug']), ('ALARM', ['alarm clock']), ('bookshelf', ['shelf'])])
def test_known_searches_names(path: Path, word: str, found: Sequence[str]) -> None:
    assert run(path, '--known', word).stdout.splitlines()[:len(found)] == found


def test_a_search_without_a_result_is_a_failure(path: Path) -> None:
    assert refused(path, '--known', 'xyzzy') == (
        "vl2v_classify: --known: none of the 12 known names is near 'xyzzy'; --known alone lists "
        'them all')


def test_known_takes_one_word(path: Path) -> None:
    said = run(path, '--known', 'oat', 'milk')
    assert said.returncode == 2
    assert '--known: expected no input beside it, got milk; put several words in quotes' in (
        said.stderr)


def test_known_of_a_student_without_a_recording_says_so(tmp_path: Path) -> None:
    path = tmp_path / 'student.safetensors'
    checkpoint.save(student(text_tower=write_tower(tmp_path)), path)
    assert 'expected a checkpoint with recorded prompts' in refused(path, '--known')


def test_an_input_is_expected_for_everything_else(path: Path) -> None:
    done = run(path, '--labels', 'mug')
    assert done.returncode == 2
    assert 'expected an image, a folder of images, a video or a bag as input' in done.stderr


def test_known_words_need_no_network(path: Path) -> None:
    done = run(path, BANANA, '--labels', 'mug, alarm clock')
    assert (done.returncode, done.stderr) == (0, '')
    assert 'a photo of an alarm clock' in done.stdout


def test_words_that_are_not_known_are_named_with_the_reason(path: Path) -> None:
    said = refused(path, BANANA, '--labels', 'mug, red mug, xyzzy')
    assert said.startswith(
        "vl2v_classify: cannot encode label 'red mug' (known: mug, coffee mug), label 'xyzzy'; "
        f'the text tower {IDENTITY} is not cached, and there is no network (127.0.0.1:')


def test_descriptions_without_effect_are_said_in_one_line(path: Path, tmp_path: Path) -> None:
    (tmp_path / 'words.yaml').write_text('labels: {mug: It has a handle., orange: It is round.}')
    done = run(path, BANANA, '--vocabulary', tmp_path / 'words.yaml')
    assert done.returncode == 0
    line, = done.stderr.splitlines()
    assert line.startswith('vl2v_classify: 2 of 2 labels lack a part of their prompts')
    assert line.endswith("are used: 'a photo of a mug', 'a photo of an orange'")
    assert 'a photo of a mug\n' in done.stdout and 'handle' not in done.stdout


@pytest.mark.parametrize(('arguments', 'message'), [
    (('--labels', 'mug, Mug'), 'repeats'), (('--labels', ' , '), 'at least one label, got none'),
    (('--vocabulary', 'nowhere.yaml'), 'expected a file, found none at nowhere.yaml')])
def test_words_of_no_use_are_one_line(path: Path, arguments: Sequence[str], message: str) -> None:
    assert message in refused(path, BANANA, *arguments)


REFUSED_EARLY = """
import sys
from vl2v_ros.command.classify import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    print(end, 'torch' in sys.modules, 'open_clip' in sys.modules)
"""


def test_a_refusal_waits_for_no_import(path: Path) -> None:
    said = python(REFUSED_EARLY, BANANA, '--checkpoint', path, '--labels', 'xyzzy')
    assert "cannot encode label 'xyzzy'" in said
    assert said.endswith('False False\n')
