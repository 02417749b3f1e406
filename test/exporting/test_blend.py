"""A student that is blended with the one that it was trained from."""
from pathlib import Path

import pytest
from support.tiny_models import student
import torch
from training import export
from vl2v_ros.model import checkpoint


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Return the checkpoints of a student, and of the same one with other weights."""
    start = student(trained_on='photos')
    checkpoint.save(start, tmp_path / 'start.safetensors')
    with torch.no_grad():
        for parameter in start.parameters():
            parameter.add_(torch.randn_like(parameter))
    checkpoint.save(start, tmp_path / 'trained.safetensors')
    return tmp_path / 'trained.safetensors', tmp_path / 'start.safetensors'


def said(trained: Path, *arguments: object) -> str:
    with pytest.raises(SystemExit) as refused:
        export.main(['--checkpoint', str(trained), *map(str, arguments)])
    return str(refused.value.code)


@pytest.mark.parametrize('share', [0.2, 0.5])
def test_weights_lie_between_those_of_both(pair: tuple[Path, Path], share: float,
                                           capsys: pytest.CaptureFixture) -> None:
    trained, start = pair
    out = trained.parent / 'new' / 'blend.safetensors'
    export.main(['--checkpoint', str(trained), '--blend', str(start), str(share),
                 '--out', str(out)])
    assert capsys.readouterr().out == (
        f'{out}: {1 - share:g} of {trained}, {share:g} of {start}\n')
    one, other, blended = (checkpoint.load(path) for path in (trained, start, out))
    for name, weight in blended.state_dict().items():
        wanted = (1 - share) * one.state_dict()[name] + share * other.state_dict()[name]
        torch.testing.assert_close(weight, wanted.to(weight.dtype), atol=2e-3, rtol=1e-3)
    assert blended.spec.trained_on == f'photos, blended with {share:g} of its start'


@pytest.mark.parametrize('share', ['0', '1', '-0.5', '1.5', 'nan', 'half'])
def test_share_is_between_none_and_all(pair: tuple[Path, Path], share: str) -> None:
    trained, start = pair
    out = trained.with_name('blend.safetensors')
    line = said(trained, '--blend', start, share, '--out', out)
    assert line.startswith('export: --blend: expected ') and line.count('\n') == 0
    assert not out.exists()


def test_start_is_a_student_of_the_same_kind(pair: tuple[Path, Path]) -> None:
    trained, start = pair
    out = trained.with_name('blend.safetensors')
    checkpoint.save(student(backbone='test_vit', image_size=64), start)
    assert "its backbone is 'test_vit'" in said(trained, '--blend', start, 0.5, '--out', out)
    start.unlink()
    assert f'found none at {start}' in said(trained, '--blend', start, 0.5, '--out', out)
    assert not out.exists()


@pytest.mark.parametrize('arguments', [
    [], ['--out', 'blend.onnx'], ['--out', 'blend.safetensors', '--graph'],
    ['--out', 'trained.safetensors'], ['--out', 'start.safetensors']])
def test_blend_is_a_file_of_its_own(
        pair: tuple[Path, Path], arguments: list[str], capsys: pytest.CaptureFixture,
        monkeypatch: pytest.MonkeyPatch) -> None:
    trained, start = pair
    monkeypatch.chdir(trained.parent)
    assert said(trained, '--blend', start, 0.5, *arguments) == '2'
    assert '--blend: expected ' in capsys.readouterr().err
    assert {path.name for path in trained.parent.iterdir()} == {trained.name, start.name}
