"""Training over two nodes, one of which is lost: the same command resumes it."""
from dataclasses import replace
from pathlib import Path
import signal

import pytest
from safetensors.torch import load_file
from support.trainings import RECIPE, run, state, STEPS, weights, write_images
import torch
from training.recipe import Recipe

TWO = replace(RECIPE, average=0.0, save_every=2)

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run over two nodes that nothing stopped."""
    out = tmp_path_factory.mktemp('whole')
    assert run(2, 2, data=data, out=out, recipe=TWO) == [0, 0]
    return out


@pytest.mark.parametrize('lost', [0, 1])
@pytest.mark.long
def test_lost_node_is_said_and_the_same_command_resumes(
        data: Path, tmp_path: Path, whole: Path, lost: int) -> None:
    codes = run(2, 2, {lost: {'at': 7}}, data=data, out=tmp_path, recipe=TWO)
    assert codes[lost] == -signal.SIGKILL and codes[1 - lost] == 1
    assert 'stage 2, step 4: another process of this run ended, or its node is out of reach: ' in (
        said := (tmp_path / f'said{1 - lost}').read_text()), said
    assert said.endswith('; the same command on all nodes resumes from the last saved state in '
                         f'{tmp_path}/state.pt') and '\n' not in said
    saved = state(tmp_path)['progress']
    assert (saved['stage'], saved['step']) == (1, 2)
    assert run(2, 2, data=data, out=tmp_path, recipe=TWO) == [0, 0]
    assert weights(tmp_path, 0) == weights(tmp_path, 1) == weights(whole)


@pytest.mark.long
def test_node_that_stays_away_changes_the_rounding_alone(
        data: Path, tmp_path: Path, whole: Path) -> None:
    recipe: Recipe = replace(TWO, optimizer='sgd')
    assert run(2, 2, data=data, out=tmp_path / 'two', recipe=recipe, dropout=False) == [0, 0]
    codes = run(2, 2, {1: {'at': 7}}, data=data, out=tmp_path / 'one', recipe=recipe,
                dropout=False)
    assert codes == [1, -signal.SIGKILL]
    assert run(data=data, out=tmp_path / 'one', recipe=recipe, dropout=False) == [0]
    one, two = (load_file(tmp_path / name / 'weights0.safetensors') for name in ('one', 'two'))
    assert len(one['curve of loss']) == STEPS
    for name, value in one.items():
        assert torch.allclose(value.double(), two[name].double(), rtol=1e-4, atol=1e-4), name


@pytest.mark.long
def test_nodes_that_share_no_disk_are_told_so(data: Path, tmp_path: Path) -> None:
    assert run(2, 2, {1: {'at': 7}}, data=data, out=tmp_path / 'here', recipe=TWO)[0] == 1
    assert run(2, 2, {1: {'out': tmp_path / 'there'}}, data=data, out=tmp_path / 'here',
               recipe=TWO) == [1, 1]
    for rank, name in enumerate(('here', 'there')):
        assert (tmp_path / name / f'said{rank}').read_text() == (
            f'{tmp_path}/{name}/state.pt: expected that all 2 processes find the same there, '
            'found [[1, 2], [0, 0]]; name a folder as --out that all nodes share')
