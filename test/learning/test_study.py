"""Studies: recipes side by side, on tiny data."""
import json
from pathlib import Path
import sys
from typing import Any

import cv2
import pytest
from support import warm  # so that the runs, too, find the libraries loaded
from support.tiny_data import ROOT, write_images, write_recipe, write_split
from training.study import (
    main,
    mean_and_deviation,
    merged,
    read_study,
    StudyOptions,
    write_recipes,
)
import yaml

pytestmark = pytest.mark.usefixtures('cache_dir')
PAGE = '# Results\n\nBefore.\n\n<!-- tiny -->\nold\n<!-- end of tiny -->\n\nAfter.\n'
ARMS = {'cls': {'loss': {'cls': 1}}, 'cls + mse': {'loss': {'cls': 1, 'mse': 1}}}
COLUMNS = {'X_id': ['table', 'domains trained on', 'X_id'],
           'angle': ['figures', 'angle [deg]'], 'none': ['figures', 'no such figure']}


def write_study(folder: Path, **fields: Any) -> Path:
    """Write a study of a tiny recipe, and a page for its table; return its path."""
    base = write_recipe(folder, {'split': str(write_split(folder / 'split.yaml'))})
    content = {'base': str(base), 'arms': ARMS, 'columns': COLUMNS, 'seeds': [0, 1], **fields}
    path = folder / 'tiny.yaml'
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value}))
    (folder / 'docs').mkdir(exist_ok=True)
    (folder / 'docs/results.md').write_text(PAGE)
    return path


def words(path: Path, *more: str) -> list[str]:
    """Return the command line of a study, two runs at a time."""
    return [str(ROOT / 'training/study.py'), str(path), '--jobs', '2', '--out',
            str(path.parent / 'studies'), '--results', str(path.parent / 'docs/results.md'),
            '--device', 'cpu', *more]


def run(path: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    """Run a study in this process; its runs are processes of their own all the same."""
    monkeypatch.setenv('OMP_NUM_THREADS', '1')  # which the study sets
    monkeypatch.setattr(sys, 'argv', words(path, *more))
    main()


def refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run in this process what must fail, and return what is said."""
    monkeypatch.setattr(sys, 'argv', words(path))
    with pytest.raises(SystemExit) as end:
        main()
    assert isinstance(end.value.code, str)
    return end.value.code


@pytest.mark.long
def test_table_of_all_arms_and_seeds_and_what_is_done_stays(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_study(tmp_path)
    run(path, monkeypatch)
    page = (tmp_path / 'docs/results.md').read_text()
    assert page.startswith('# Results\n\nBefore.\n') and page.endswith('\nAfter.\n')
    assert 'old' not in page and f'python training/study.py {path}' in page
    results = json.loads((tmp_path / 'docs/results/tiny.json').read_text())['values']
    assert list(results) == ['the teacher', *ARMS]
    runs = [json.loads((tmp_path / f'studies/tiny/cls_mse_seed{seed}/result.json').read_text())
            for seed in (0, 1)]
    angles = [run['figures']['angle [deg]'] for run in runs]
    assert results['cls + mse']['angle'] == angles and angles[0] != angles[1]
    assert f'| cls + mse | {mean_and_deviation(results["cls + mse"]["X_id"], 100, 1)} |' in page
    assert mean_and_deviation(angles, 1, 2) in page and ' ± ' in mean_and_deviation(angles, 1, 2)
    for seed, result in enumerate(runs):
        assert result['recipe']['loss']['mse'] == 1 and result['recipe']['seed'] == seed
    # One run is missing: it alone is done again, to the same page.
    kept = tmp_path / 'studies/tiny/cls_seed1/result.json'
    before = kept.stat().st_mtime_ns
    (tmp_path / 'studies/tiny/cls_seed0/result.json').unlink()
    run(path, monkeypatch)
    assert kept.stat().st_mtime_ns == before
    again = json.loads((tmp_path / 'docs/results/tiny.json').read_text())['values']
    assert again['cls'] == results['cls']


@pytest.mark.long
def test_each_domain_is_left_out_and_arms_of_numbers_are_drawn(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_study(
        tmp_path, leave_out=['day', 'night'], columns=None, seeds=[0],
        plot={'mse': {'0.5': 0.5}}, arms={'0.5': {'loss': {'cls': 1, 'mse': 0.5}}})
    run(path, monkeypatch)
    values = json.loads((tmp_path / 'docs/results/tiny.json').read_text())['values']['0.5']
    assert list(values) == ['day', 'night', 'mean']
    for domain, other in (('day', 'night'), ('night', 'day')):
        result = json.loads(
            (tmp_path / f'studies/tiny/0_5_{domain}_seed0/result.json').read_text())
        assert result['recipe']['data']['domains'] == [other]
        assert values[domain] == [next(
            row['X_id'] for row in result['table'] if row['images'] == 'unseen domains')]
    assert values['mean'] == [(values['day'][0] + values['night'][0]) / 2]
    assert '![mse](images/tiny_mse.png)' in (tmp_path / 'docs/results.md').read_text()
    assert cv2.imread(str(tmp_path / 'docs/images/tiny_mse.png')) is not None


def test_domains_can_be_left_out_together_and_others_never(tmp_path: Path) -> None:
    path = write_study(tmp_path, leave_out=['a+b', 'c'], always=['d'], columns=None, seeds=[0])
    runs = write_recipes(read_study(path), StudyOptions(path, out=tmp_path))
    domains = {run.without: yaml.safe_load((run.folder / 'recipe.yaml').read_text())['data'][
        'domains'] for run in runs}
    assert domains == {'a+b': ['d', 'c'], 'c': ['d', 'a', 'b']}


@pytest.mark.long
def test_students_name_sets_of_photos_too(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / 'photos/mine')
    (tmp_path / 'sets.yaml').write_text(yaml.safe_dump({'mine': {'images': 'photos/mine'}}))
    path = write_study(
        tmp_path, photos=['mine'], columns={'mine': ['photos', 'mine', 'top-1 [%]']}, seeds=[0],
        tables={'Names of photos': ['mine']},
        arms={'cls': {'data': {'split': None}}})
    run(path, monkeypatch, '--sets', str(tmp_path / 'sets.yaml'), '--data', str(tmp_path))
    named = json.loads((tmp_path / 'studies/tiny/cls_seed0/photos/result.json').read_text())
    row, = named['table']
    values = json.loads((tmp_path / 'docs/results/tiny.json').read_text())['values']
    assert values == {'the teacher': {}, 'cls': {'mine': [row['top-1 [%]']]}}
    page = (tmp_path / 'docs/results.md').read_text()
    assert 'Names of photos:\n\n| tiny | mine |\n' in page
    assert f"| cls | {row['top-1 [%]']:.1f} |" in page


@pytest.mark.parametrize(('changes', 'said'), [
    ({'arms': {'a': {'loss': {'nope': 1}}}}, 'loss.nope: no such key'),
    ({'arms': {'a': {'student': {'weights': 'missing.safetensors'}}}, 'seeds': [0]},
     'missing.safetensors'),
    ({'plot': {'mse': {'b': 1}}}, "a plot of these arms, got ['cls', 'cls + mse']"),
    *(({'tables': wrong}, 'tables: expected titles of columns')
      for wrong in ({'a': ['b']}, {'a': None}, ['X_id'])),
    ({'columns': {'a': ['nowhere', 'b']}}, 'columns: a: expected a place that begins with table'),
    ({'nope': 1}, "unexpected keyword argument 'nope'"),
    ({'arms': None}, "missing 1 required positional argument: 'arms'")])
def test_what_is_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                               changes: dict[str, Any], said: str) -> None:
    assert said in refused(write_study(tmp_path, **changes), monkeypatch)
    assert (tmp_path / 'docs/results.md').read_text() == PAGE


def test_changes_are_merged_level_by_level_but_the_loss_is_exchanged() -> None:
    base = {'data': {'images': 'a', 'enrich': True}, 'loss': {'cls': 1}, 'batch': 8}
    assert merged(base, {'data': {'enrich': False}}, {'loss': {'mse': 1}}) == {
        'data': {'images': 'a', 'enrich': False}, 'loss': {'mse': 1}, 'batch': 8}
    assert base['loss'] == {'cls': 1} and base['data']['enrich'] is True


def test_mean_and_deviation() -> None:
    assert mean_and_deviation([0.5, 0.7], 100, 1) == '60.0 ± 14.1'
    assert mean_and_deviation([2.0], 1, 2) == '2.00'
    assert mean_and_deviation([float('nan'), 1.0], 100, 1) == ''


def test_page_without_marks_is_refused_before_the_work(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_study(tmp_path)
    (tmp_path / 'docs/results.md').write_text('# Results\n')
    assert '<!-- tiny -->' in refused(path, monkeypatch)
    done = warm.run(*words(path))  # as a program, too
    assert done.returncode == 1 and '<!-- tiny -->' in done.stderr
    assert not (tmp_path / 'studies').exists()


@pytest.mark.parametrize('path', sorted((ROOT / 'config/studies').glob('*.yaml')),
                         ids=lambda path: path.stem)
def test_shipped_studies_have_their_place_in_the_results(path: Path) -> None:
    page = (ROOT / 'docs/results.md').read_text()
    assert f'<!-- {path.stem} -->' in page and f'<!-- end of {path.stem} -->' in page
