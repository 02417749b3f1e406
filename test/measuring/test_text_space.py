"""Text space: figures against plain numpy, their limits, the page, and the command."""
from collections.abc import Callable, Sequence
from itertools import combinations, product
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import warm
from support.tiny_data import LABELS, ROOT, write_images, write_split, write_vocabulary
from support.tiny_models import student, write_tower
import torch
from training.data.task import read_task
from training.learning.trainee import Trainee
from training.measuring.pages import charts
from training.measuring.text_space import (
    ALONE,
    DESCRIBED,
    naming,
    on_images,
    prototype_figures,
    run,
    vocabularies,
)
from training.recipe import Data
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.preprocess import preprocess
from vl2v_ros.model import checkpoint
from vl2v_ros.words import vocabulary
from vl2v_ros.words.clip_text import ClipText
from vl2v_ros.words.encoder import TextEmbeddings
from vl2v_ros.words.labels import Entry
import yaml

SAMPLE = ROOT / 'data/ycb_sample/single'


class Dictionary:
    """A text encoder that looks prompts up."""

    def __init__(self, row_of: Callable[[str], Sequence[float]], width: int) -> None:
        self.width, self._row_of = width, row_of

    def encode(self, prompts: Sequence[str]) -> TextEmbeddings:
        rows = np.array([self._row_of(prompt) for prompt in prompts], np.float32)
        return TextEmbeddings(rows, np.zeros(len(prompts), bool))


@pytest.fixture
def tower(tmp_path: Path) -> ClipText:
    return ClipText(write_tower(tmp_path / 'teacher'), tmp_path / 'teacher')


# Prototypes

def by_hand(rows: np.ndarray) -> tuple[float, list[float]]:
    """Return mean cosine and eigenvalues of unit rows, pair by pair and of D x D, in float64."""
    rows = rows.astype(np.float64)
    cosines = [first @ second / np.linalg.norm(first) / np.linalg.norm(second)
               for first, second in combinations(rows, 2)]
    moments = sum(np.outer(row, row) for row in rows) / len(rows)
    return sum(cosines) / len(cosines), np.linalg.eigvalsh(moments)[::-1][:10].tolist()


def test_spread_is_that_of_the_prompts_encoded_by_hand(tower: ClipText, tmp_path: Path) -> None:
    path = write_vocabulary(tmp_path / 'words.yaml')
    (alone, described), left_out = prototype_figures(path, tower)
    assert left_out == []
    assert (alone['prompts'], described['prompts']) == (ALONE, DESCRIBED)
    for row, ending in ((alone, '.'), (described, '. Flat: a {}.')):
        rows = tower.encode([f'a photo of a {label}{ending.format(label)}' for label in LABELS])
        cosine, eigenvalues = by_hand(rows.rows)
        assert row['mean cosine'] == pytest.approx(cosine, abs=1e-6)
        assert row['eigenvalues'] == pytest.approx(eigenvalues[:4], abs=1e-6)
        assert sum(row['eigenvalues']) == pytest.approx(1)
        assert (row['labels'], row['too long']) == (4, 0)
    assert alone['mean cosine'] != described['mean cosine']


def test_labels_alone_have_neither_descriptions_nor_synonyms(
        tower: ClipText, tmp_path: Path) -> None:
    rich, plain = tmp_path / 'rich.yaml', tmp_path / 'plain.yaml'
    rich.write_text(yaml.safe_dump({'labels': {
        'cup': {'descriptions': ['Round.', 'With a handle. ' * 40], 'synonyms': ['mug', 'beaker']},
        'fork': 'Long, with prongs.'}}))
    plain.write_text('labels: [cup, fork]')
    (alone, described), _ = prototype_figures(rich, tower)
    assert alone == prototype_figures(plain, tower)[0][0]
    assert described['mean cosine'] != alone['mean cosine']
    assert (alone['too long'], described['too long']) == (0, 1)


def test_limits_of_the_spread(tmp_path: Path) -> None:
    path = write_vocabulary(tmp_path / 'words.yaml')
    (same, _), _ = prototype_figures(path, Dictionary(lambda prompt: (0.6, 0.8), 2))
    assert same['mean cosine'] == pytest.approx(1)
    assert same['eigenvalues'] == pytest.approx([1, 0], abs=1e-6)
    (unlike, _), _ = prototype_figures(path, Dictionary(
        lambda prompt: np.eye(4)[[label in prompt for label in LABELS].index(True)], 4))
    assert unlike['mean cosine'] == pytest.approx(0)
    assert unlike['eigenvalues'] == pytest.approx([0.25] * 4)


def test_vocabulary_of_one_label_is_refused(tower: ClipText, tmp_path: Path) -> None:
    path = write_vocabulary(tmp_path / 'words.yaml', LABELS[:1])
    with pytest.raises(ValueError, match='words.yaml: expected at least two prototypes, got 1'):
        prototype_figures(path, tower)


def test_shipped_vocabularies_are_measured_and_the_recipes_own(tmp_path: Path) -> None:
    shipped = vocabularies(Data())
    assert shipped.keys() == {path.stem for path in (ROOT / 'config/vocabularies').glob('*.yaml')}
    assert 'ycb' in shipped
    own = tmp_path / 'ycb.yaml'
    assert vocabularies(Data(vocabulary=own)) == {**shipped, str(own): own}


# Images

@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(images=write_images(tmp_path / 'images', count=4),
                vocabulary=write_vocabulary(tmp_path / 'words.yaml'),
                split=write_split(tmp_path / 'split.yaml'), hold_out=0.5)


def pairwise_auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    return float(np.mean([(a > b) + (a == b) / 2 for a, b in product(known, unknown)]))


def test_images_are_named_with_both_sorts_of_words(data: Data, tower: ClipText) -> None:
    trainee, task = Trainee(student()), read_task(data)
    table, left_out = on_images(trainee, data, tower)
    assert left_out == [] and [row['prompts'] for row in table] == [ALONE, DESCRIBED]
    with torch.inference_mode():
        rows = np.array([trainee.student(preprocess([Frame(pixels)], 32, 'shortest'))[0].tolist()
                         for pixels in map(task.test.read, range(len(task.test)))])
    known = task.test.labels < 2
    for row, ending in zip(table, ('.', '. Flat: a {}.'), strict=True):
        cosines = rows @ tower.encode(
            [f'a photo of a {label}{ending.format(label)}' for label in LABELS]).rows.T
        best, chosen = cosines[:, :2].max(1), cosines.argmax(1)
        passed = np.sort(best[known])[::-1][int(np.ceil(0.95 * known.sum())) - 1]
        assert row['images of objects trained on'] == known.sum() == 8
        assert row['of others'] == 16
        assert row['X_id over all'] == np.mean(chosen == task.test.labels, where=known)
        assert row['Y_ood over all'] == np.mean(chosen == task.test.labels, where=~known)
        assert row['Y_ood on X_ood'] == np.mean(
            cosines[:, 2:].argmax(1) + 2 == task.test.labels, where=~known)
        assert row['AUROC'] == pytest.approx(pairwise_auroc(best[known], best[~known]), abs=1e-6)
        assert row['FPR95'] == np.mean(best[~known] >= passed)


def test_limits_of_naming(data: Data) -> None:
    task = read_task(data)
    rows = torch.eye(4)[torch.tensor(task.test.labels)]
    words = vocabulary.build(dict.fromkeys(LABELS, Entry()), Dictionary(
        lambda prompt: np.eye(4)[[label in prompt for label in LABELS].index(True)], 4), 1)
    assert naming(rows, task, words) == {
        'X_id': 1.0, 'X_id over all': 1.0, 'Y_ood on X_ood': 1.0, 'Y_ood over all': 1.0,
        'AUROC': 1.0, 'FPR95': 0.0}
    same = naming(torch.eye(4)[torch.zeros(len(rows), dtype=int)], task, words)
    assert (same['AUROC'], same['FPR95'], same['X_id']) == (0.5, 1.0, 0.5)


def test_what_cannot_be_measured_is_named(data: Data, tower: ClipText, tmp_path: Path) -> None:
    def measured(**fields: object) -> tuple[list[dict], list[str]]:
        return on_images(Trainee(student()), Data(**{**vars(data), **fields}), tower)
    table, left_out = measured(images=tmp_path / 'none')
    assert table == [] and left_out == [f'naming: expected images in {tmp_path / "none"}, found '
                                        'no such folder; name one as --data.images']
    table, left_out = measured(split=None)
    assert [row.keys() & {'X_id', 'Y_ood on X_ood', 'AUROC'} for row in table] == [{'X_id'}] * 2
    assert left_out[0].startswith('unknown detection: expected test images of objects trained on')
    table, left_out = measured(enrich=False)
    assert [row['prompts'] for row in table] == [ALONE] and left_out == []
    write_vocabulary(data.vocabulary, LABELS[1:])
    with pytest.raises(ValueError, match='lacks blue square; add a description for each'):
        measured()


# Page and plot

@pytest.mark.long
def test_page_is_renewed_between_its_marks_only(data: Data, cache_dir: Path, tmp_path: Path
                                                ) -> None:
    path, out = tmp_path / 'teacher/student.safetensors', tmp_path / 'out'
    checkpoint.save(student(text_tower=write_tower(path.parent)), path)

    def measured(**fields: object) -> str:
        return run(path, out, Data(**{**vars(data), **fields}), torch.device('cpu'))
    tables = measured()
    page = out / 'text_space.md'
    assert page.read_text() == ('# Text space\n\n<!-- text_space -->\n'
                                f'{tables}\n<!-- end of text_space -->\n')
    page.write_text(page.read_text().replace('# Text space', '# Mine') + '\nAnd this.\n')
    assert measured(images=tmp_path / 'none') != tables
    assert page.read_text().startswith('# Mine\n\n<!-- text_space -->\nText tower: sha256:')
    assert page.read_text().endswith('<!-- end of text_space -->\n\nAnd this.\n')
    assert 'Left out: naming' in page.read_text() and 'AUROC' not in page.read_text()
    page.write_text('No marks.')
    with pytest.raises(ValueError, match='text_space.md: expected the lines <!-- text_space -->'):
        measured()
    assert page.read_text() == 'No marks.'


def test_plot_has_a_panel_per_vocabulary_and_a_line_per_sort_of_prompts() -> None:
    spectra = {'ycb': {ALONE: [0.7, 0.2, 0.1], DESCRIBED: [0.5, 0.3, 0.2]},
               'two': {ALONE: [1.0, 1e-17], DESCRIBED: [0.9, 0.1]}}
    with charts.drawing():
        figure = charts.draw_eigenvalues(spectra)
    assert [axes.get_title() for axes in figure.axes] == ['ycb', 'two']
    for axes, lines in zip(figure.axes, spectra.values(), strict=True):
        assert {line.get_label(): line.get_ydata().tolist() for line in axes.lines} == lines
        assert axes.get_ylim()[0] == pytest.approx(1e-4)


# The command

@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Return a folder of two of the sample's pictures of each object."""
    for folder in (SAMPLE / 'studio').glob('0*'):
        target = tmp_path / 'few/studio' / folder.name
        target.mkdir(parents=True)
        for picture in sorted(folder.iterdir())[:2]:
            (target / picture.name).symlink_to(picture)
    return tmp_path / 'few'


@pytest.mark.long
def test_command_measures_the_shipped_student(few: Path, cache_dir: Path, tmp_path: Path) -> None:
    done = warm.run('training/evaluate.py', '--text', '--checkpoint',
                    'data/mini/student.safetensors', '--out', tmp_path / 'out', '--data.images',
                    few, '--data.hold-out', 0.5, '--device', 'cpu')
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path / 'out/results/text_space.json').read_text())
    for name in vocabularies(Data()):
        alone, described = numbers['vocabularies'][name]
        assert alone['labels'] == described['labels'] >= 5
        assert len(alone['eigenvalues']) == len(described['eigenvalues']) == min(
            10, alone['labels'])
        assert f'| {name} | {ALONE} |' in done.stdout
        assert f'| {name} | {DESCRIBED} |' in done.stdout
    alone, described = numbers['images']
    assert (alone['images of objects trained on'], alone['of others']) == (14, 24)
    assert min(described['X_id'], described['Y_ood on X_ood'], described['AUROC']) > 0.6
    assert described['X_id'] >= described['X_id over all']
    assert numbers['left_out'] == [] and 'Left out' not in done.stdout
    assert done.stdout.strip() in (tmp_path / 'out/text_space.md').read_text()
    picture = cv2.imread(str(tmp_path / 'out/images/text_space.png'))
    assert picture.shape[1] > 300 * len(numbers['vocabularies']) and picture.std() > 5


def test_command_says_what_is_wrong(tmp_path: Path) -> None:
    done = warm.run('training/evaluate.py', '--text', '--checkpoint',
                    tmp_path / 'none.safetensors', '--out', tmp_path / 'out', '--device', 'cpu')
    assert done.returncode != 0 and not (tmp_path / 'out').exists()
    assert 'evaluate: checkpoint: expected a file, found none at' in done.stderr


def test_what_cannot_be_encoded_offline_is_left_out(
        cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    data = Data(images=tmp_path / 'none', vocabulary=ROOT / 'config/vocabularies/everyday.yaml')
    said = run(ROOT / 'models/student.safetensors', tmp_path, data, torch.device('cpu'))
    numbers = json.loads((tmp_path / 'results/text_space.json').read_text())
    household, = numbers['vocabularies']['household']
    assert household['prompts'] == ALONE and 0 < household['mean cosine'] < 1
    assert 'ycb' not in numbers['vocabularies']
    assert any(reason.startswith("ycb: cannot encode label 'master chef can'")
               for reason in numbers['left_out'])
    assert f'Left out: household, {DESCRIBED}: 181 of 181 labels lack a part' in said
