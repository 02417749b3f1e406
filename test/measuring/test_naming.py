"""Naming: labelled photos by their names, and recorded answers, by a checkpoint as it runs."""
from dataclasses import replace
from hashlib import sha256
import json
from pathlib import Path
from shutil import copytree
import sys

import numpy as np
import pytest
from support.offline_student import IDENTITY, NAMES, ONLY_SHORT, TEMPLATE, write
from support.tiny_data import draw, ROOT, write_png
from support.tiny_models import given
import torch
from training import naming
from training.measuring import rules
from training.measuring.answers import against_teacher
from training.measuring.photo_sets import known_names, PhotoSet, read_photos, read_set, read_sets
from training.measuring.robot import Robot
from vl2v_ros.model import checkpoint
from vl2v_ros.words import recording
from vl2v_ros.words.cached_text import CachedText
from vl2v_ros.words.recording import Recording
import yaml

pytestmark = pytest.mark.usefixtures('warm_cache')


@pytest.fixture(scope='module')
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a student, its recording and its graph."""
    return write(tmp_path_factory.mktemp('written'), graph=True).parent


@pytest.fixture
def student(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkpoint whose text tower is known by a recording alone."""
    monkeypatch.setenv('HF_HOME', str(tmp_path / 'hub'))
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'hub'))
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    return copytree(written, tmp_path / 'student') / 'student.safetensors'


@pytest.fixture
def encoder(student: Path) -> CachedText:
    return Robot(student, 'cpu', ()).encoder


def photos(root: Path, *files: str) -> Path:
    """Write a picture for each name; return the folder."""
    for number, file in enumerate(files):
        write_png(root / file, draw('red_circle', 'day', number))
    return root


def names(path: Path, content: object) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def command(*arguments: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', ['naming.py', *map(str, arguments)])
        naming.main()


# Photo sets

def test_photos_go_by_their_folders_names(encoder: CachedText, tmp_path: Path) -> None:
    root = photos(tmp_path / 'mine', 'day/1_cup/0.png', 'night/2_cup/0.png', 'day/saw/0.png')
    called = names(tmp_path / 'names.yaml', {'1_cup': 'mug', '2_cup': 'mug', 'key': 'orange'})
    shown = read_set(PhotoSet(root, called), encoder, [TEMPLATE])
    assert shown.words.labels == ('mug', 'orange')  # one that no photo shows is in the list, too
    assert shown.labels.tolist() == [0, 0]
    assert shown.index.domain_names == ('day', 'night')
    assert shown.left_out == ('1 of 3 photos, of 1 of 3 classes, which have no name that is '
                              'known: saw')


def test_without_names_folders_say_them_as_far_as_they_are_known(
        encoder: CachedText, tmp_path: Path) -> None:
    root = photos(tmp_path / 'mine', 'Alarm-Clock/0.png', 'light_bulb/0.png', 'Leek/0.png')
    shown = read_set(PhotoSet(root), encoder, [TEMPLATE])
    assert (shown.words.labels, shown.labels.tolist()) == (('alarm clock', 'light bulb'), [0, 1])
    (tmp_path / 'said').mkdir()
    (tmp_path / 'said/Alarm-Clock.txt').write_text('It rings.\nLoudly.\n')
    shown = read_set(PhotoSet(root, descriptions=tmp_path / 'said'), encoder, [TEMPLATE])
    assert shown.words.descriptions == (('It rings. Loudly.',), ())
    with pytest.raises(ValueError, match='expected some of a class with a name'):
        read_set(PhotoSet(photos(tmp_path / 'others', 'Leek/0.png')), encoder, [TEMPLATE])


def test_list_of_names_is_that_of_imagenet(encoder: CachedText, tmp_path: Path) -> None:
    root = photos(tmp_path / 'mine', 'n01440764_tench.png', 'n15075141_toilet_tissue.png')
    called = names(tmp_path / 'names.yaml', ['orange', *['mug'] * 998, 'orange'])
    shown = read_set(PhotoSet(root, called), encoder, [TEMPLATE])
    assert (shown.words.labels, shown.labels.tolist()) == (('orange', 'mug'), [0, 0])
    with pytest.raises(ValueError, match='list of 1000, got a list of 1'):
        read_set(PhotoSet(root, names(tmp_path / 'few.yaml', ['mug'])), encoder, [TEMPLATE])


def test_known_names_have_those_of_the_list_among_them(encoder: CachedText) -> None:
    words = given({'Alarm_clock': [1, 0], 'mug': [0, 1]})
    known, places = known_names(encoder, words, [TEMPLATE])
    assert set(known.labels) == {*NAMES, *ONLY_SHORT}
    assert [known.labels[place] for place in places] == ['alarm clock', 'mug']


def test_the_project_s_sets_can_be_read(tmp_path: Path) -> None:
    sets = read_sets(ROOT / 'config/photo_sets.yaml', Path('/data'))
    assert sets['ImageNet'] == PhotoSet(Path('/data/photos/imagenet_sample'),
                                        ROOT / 'config/names/imagenet.yaml')
    bad = names(tmp_path / 'bad.yaml', {'mine': {'images': 'x', 'name': 'y'}})
    with pytest.raises(ValueError, match='images, names, descriptions'):
        read_sets(bad, Path())
    with pytest.raises(ValueError, match='found none; correct the path'):
        read_photos(tmp_path / 'nothing')


# The command

def test_accuracy_is_the_mean_of_domains(tmp_path: Path) -> None:
    index = read_photos(photos(tmp_path, 'a/x/0.png', 'a/x/1.png', 'b/x/0.png'))
    found = naming.accuracies(torch.eye(3)[[0, 1, 0]], torch.zeros(3, dtype=torch.int64), index)
    assert found == {'top-1': 75.0, 'top-5': 100.0}


def test_photos_are_named(student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
                          ) -> None:
    root = photos(tmp_path / 'mine', 'mug/0.png', 'orange/0.png', 'nothing/0.png')
    command('photos', '--checkpoint', student, '--out', tmp_path / 'out', '--photos', root)
    result = json.loads((tmp_path / 'out/result.json').read_text())
    (row,) = result['table']
    assert (row['photos'], row['count'], row['names'], row['all names']) == ('mine', 2, 2, 12)
    assert row['top-5 [%]'] == 100 and 0 <= row['top-1 of all [%]'] <= row['top-1 [%]']
    assert result['templates'] == [TEMPLATE]
    said = capsys.readouterr().out
    assert '| mine | 2 | 2 |' in said and 'left out are 1 of 3 photos' in said
    with pytest.raises(SystemExit, match='naming: --names: expected --photos too'):
        command('photos', '--checkpoint', student, '--out', tmp_path, '--names', 'x.yaml')


def answers(root: Path, rows: np.ndarray, path: Path, identity: str = IDENTITY) -> Path:
    """Write a recording of answers to the images of a folder, and one to another image."""
    digests = [sha256(file.read_bytes()).digest() for file in sorted(root.rglob('*.png'))]
    recording.write(Recording(
        identity, 32, '', (), (), np.zeros((0, rows.shape[1]), np.float16),
        np.frombuffer(b''.join([*digests, bytes(32)]), np.uint8).reshape(-1, 32),
        rows.astype(np.float16)), path)
    return path


def test_precisions_of_a_cpu_are_compared(student: Path, tmp_path: Path) -> None:
    pytest.importorskip('openvino')
    root = photos(tmp_path / 'mine', 'mug/0.png', 'orange/0.png')
    command('precisions', '--checkpoint', student, '--out', tmp_path / 'out', '--photos', root,
            '--rounds', '2', '--frames', '2')
    result = json.loads((tmp_path / 'out/result.json').read_text())
    plain, *others = result['table']
    assert plain['precision'] == 'float32' and plain['pictures: cosine'] == '1.0000, 1.0000'
    assert plain['mine: other labels [%]'] == 0
    assert all(other.keys() == plain.keys() for other in others)
    assert all(len(times) == 2 and min(times) > 0 for times in result['milliseconds'].values())


def test_recorded_answers_are_compared(student: Path, tmp_path: Path) -> None:
    root = photos(tmp_path / 'mine', '0.png', '1.png')
    rows = Robot(student, 'cpu', ()).embed(read_photos(root)).numpy()
    file = answers(root, np.concatenate([rows, np.eye(1, 8)]), tmp_path / 'answers.safetensors')
    write_png(root / '2.png', draw('green_star', 'day', 8))  # which has no answer
    in_turn = student.parent.rename(tmp_path / 'mine_left_out') / student.name
    for path in (in_turn, Path(str(in_turn).replace('mine', '{}'))):
        command('teacher', '--checkpoint', path, '--out', tmp_path / 'out', '--recording', file,
                '--images', root)
        result = json.loads((tmp_path / 'out/result.json').read_text())
        (row,) = result['table']
        assert (row['images'], row['count']) == ('mine', 2)
        assert (row['cosine'], row['centred']) == pytest.approx((1, 1), abs=1e-3)
        assert row["first among the teacher's five [%]"] == 100
        assert result['notes'] == ['mine: 1 images without an answer are left out']


def test_answers_that_do_not_fit_are_refused(student: Path, tmp_path: Path) -> None:
    root, other = photos(tmp_path / 'mine', '0.png'), tmp_path / 'other'
    write_png(other / '0.png', draw('green_star', 'day', 8))
    for identity, images, said in (
            ('ViT-L-14/openai', root, 'expected answers of ViT-B-32-quickgelu/openai, width 8'),
            (IDENTITY, other, 'answers are found by the content of the files')):
        file = answers(root, np.eye(2, 8), tmp_path / 'answers.safetensors', identity)
        with pytest.raises(SystemExit, match=said):
            command('teacher', '--checkpoint', student, '--out', tmp_path / 'out', '--recording',
                    file, '--images', images)
    with pytest.raises(SystemExit, match='expected at least one folder of images, got none'):
        command('teacher', '--checkpoint', student, '--out', tmp_path / 'out', '--recording', file,
                '--images')


def test_mean_is_taken_off_both() -> None:
    student, guide = torch.eye(4)[[0, 1]], torch.eye(4)[[0, 2]]
    words = torch.eye(4)[[0, 1, 2, 3, 0]]
    found = against_teacher(student, guide, words, torch.tensor([0.0, 0, 0, 1]))
    assert found['cosine'] == 0.5
    assert found['centred'] == pytest.approx(0.75)
    assert found['mse'] == pytest.approx(1)


# Unknown

def known(count: int = 400, names: int = 30, clear: float = 0.5) -> rules.Known:
    """Return photos of which each is nearest to its name."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % names
    similarities = 0.2 * torch.rand(count, names, generator=generator)
    similarities[torch.arange(count), labels] += clear
    return rules.Known(similarities, labels, torch.eye(names, dtype=torch.bool))


def test_lists_have_the_name_of_known_photos_alone() -> None:
    photos = known()
    photos.near[0, 1] = True  # photos of name 0 are not to be told from name 1
    for drawn in rules.draw(photos, 10, 2, seed=1):
        assert drawn.similarities.shape == (400, 10)
        own = drawn.similarities[torch.arange(400), drawn.own]
        mine = photos.similarities[torch.arange(400), photos.labels]
        assert torch.equal(own[drawn.known], mine[drawn.known])
        assert drawn.similarities[~drawn.known].amax() < 0.2
        assert 100 < drawn.known.sum() < 300
    for drawn in rules.draw(photos, 30, 1, seed=1):
        lacking = drawn.similarities.isinf().sum(1)
        assert set(lacking[~drawn.known & (photos.labels == 0)].tolist()) == {2}
        assert set(lacking[~drawn.known & (photos.labels == 1)].tolist()) == {1}
        assert not lacking[drawn.known].any()


def test_rules_tell_clear_photos_and_hold_what_is_asked_for() -> None:
    found = rules.gather(known(), [5, 30], 4, 0, temperature=0.05)
    chosen = rules.thresholds(found, 0.9, 30)
    rows = {row['rule']: row for row in rules.by_rule(found, chosen, 30)}
    assert rows[rules.BEST]['AUROC'] == pytest.approx([1, 1])
    assert rows[rules.BEST]['FPR95'] == [0, 0]
    assert rows[rules.BEST]['kept'][1] == pytest.approx(90, abs=1)
    assert rows[rules.BEST]['caught'] == [100, 100]
    assert set(rows) == {rules.BEST, rules.BY_LENGTH, rules.SCORE, rules.LISTED, rules.ALL,
                         rules.TEN, rules.UNHEARD}
    # An offset that all similarities of a photo share is taken off by the rules that compare.
    shifted = known()._replace(similarities=known().similarities + torch.arange(400)[:, None])
    found = rules.gather(shifted, [30], 1, 0, temperature=0.05)
    rows = {row['rule']: row for row in rules.by_rule(found, rules.thresholds(found, 0.9, 30), 30)}
    assert rows[rules.BEST]['AUROC'][0] < 0.7
    assert rows[rules.ALL]['AUROC'] + rows[rules.LISTED]['AUROC'] == pytest.approx([1, 1])


def test_threshold_by_log_of_the_length_follows_it() -> None:
    of = {length: rules.Both(torch.full((9,), 0.1 * length), torch.zeros(9)) for length in (1, 3)}
    found = {rules.BEST: of, rules.BY_LENGTH: of}
    chosen = rules.thresholds(found, 0.9, 1)
    assert chosen[rules.BEST] == (pytest.approx(0.1), 0)
    assert chosen[rules.BY_LENGTH] == pytest.approx((0.1, 0.2 / np.log(3)))
    assert rules.by_rule(found, chosen, 1)[1]['kept'][0] == 100


def test_threshold_and_temperature_come_into_the_checkpoint(
        student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos(tmp_path / 'mine', *(f'{name}/{n}.png' for name in NAMES[:4] for n in range(4)))
    arguments = ('unknown', '--checkpoint', student, '--out', tmp_path / 'out', '--photos', root,
                 '--lengths', 4, 8, '--at')
    before = checkpoint.load(student)
    with pytest.raises(SystemExit, match=r'expected --at among the lengths \[4, 8, 12\]'):
        command(*arguments, 300)
    command(*arguments, 8)
    assert checkpoint.load(student).spec == before.spec
    command(*arguments, 8, '--calibrate')
    after, result = checkpoint.load(student), json.loads(
        (tmp_path / 'out/result.json').read_text())
    assert after.spec.unknown_threshold == result['table'][0]['threshold'] != 0
    assert after.spec.temperature == result['temperatures']['8']
    assert replace(after.spec, unknown_threshold=0.0, temperature=0.07) == before.spec
    assert '| mine | 8 | best cosine |' in capsys.readouterr().out
