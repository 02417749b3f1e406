"""Students on disk: what is read is what was written, or it is refused."""
from collections.abc import Callable
from dataclasses import replace
import json
from pathlib import Path
import signal
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support import warm
from support.tiny_models import spec, student
import torch
from vl2v_ros import files
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime.choose import create
from vl2v_ros.model.student import Student
from vl2v_ros.words.encoder import TextTower


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a checkpoint."""
    checkpoint.save(student(), tmp_path / 'student.safetensors')
    return tmp_path / 'student.safetensors'


def same_weights(one: Student, other: Student) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize('fields', [
    {},
    {'mean': (0, 0.25, 1 / 3), 'std': (1, 0.5, 1e-3), 'resize_mode': 'squash', 'temperature': 0.01,
     'unknown_threshold': -0.125, 'teacher': 'ViT-B-32/laion2b_s34b_b79k',
     'trained_on': 'Bilder von "Äpfeln" und 苹果\n', 'image_size': 64, 'backbone': 'test_vit',
     'text_tower': TextTower('a.json', 'b.pt', 'sha256:12'),
     'presence': ('there is a {label}', 'there is no {label}')}], ids=['defaults', 'all_fields'])
def test_spec_and_weights_come_back(tmp_path: Path, fields: dict[str, Any]) -> None:
    written = student(**fields)
    checkpoint.save(written, tmp_path / 'new' / 'folder' / 'student.safetensors')
    read = checkpoint.load(tmp_path / 'new' / 'folder' / 'student.safetensors')
    assert read.spec == written.spec == spec(**fields)
    assert same_weights(read, written)
    assert not any(module.training for module in read.modules())
    assert [item.name for item in (tmp_path / 'new' / 'folder').iterdir()] == [
        'student.safetensors']


def test_checkpoint_from_before_presence_has_none(path: Path) -> None:
    old = header(path)
    assert old.pop('presence') == []
    save_file(load_file(path), path, {'vl2v_student': json.dumps(old)})
    assert checkpoint.load(path).spec == spec()


def test_spec_can_be_changed_without_new_weights(path: Path) -> None:
    read = checkpoint.load(path)
    read.spec = replace(read.spec, unknown_threshold=0.5)
    checkpoint.save(read, path)
    assert checkpoint.load(path).spec == spec(unknown_threshold=0.5)


def test_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / 'none.safetensors', tmp_path):
        with pytest.raises(ValueError, match=f'expected a file, found none at {path}; train one'):
            checkpoint.load(path)


def spoil(path: Path, *values: float) -> None:
    """Write values that are no numbers into a checkpoint, each into another tensor."""
    weights = load_file(path)
    for name, value in zip(('projector.weight', 'projector.bias'), values, strict=False):
        weights[name].view(-1)[0] = value
    with safe_open(path, 'pt') as file:
        save_file(weights, path, file.metadata())


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_no_numbers_are_refused(path: Path, value: float) -> None:
    spoil(path, value)
    with pytest.raises(ValueError, match=r'1 of \d+ tensors hold NaN or infinity, such as '
                                         'projector.weight; its training diverged'):
        checkpoint.load(path)


@pytest.mark.long
def test_weights_that_are_no_numbers_are_refused_by_a_conversion(path: Path) -> None:
    spoil(path, float('nan'), float('inf'))
    stored = checkpoint.open_stored(path, path.parent / 'graphs')
    with pytest.raises(ValueError, match=f'2 of {len(load_file(path))} tensors hold NaN or '
                                         'infinity, such as .*; its training diverged'):
        create(stored, 'cpu')


@pytest.mark.parametrize('share', [0, 4, 8, 100, 0.1, 0.5, 0.99, -1])
def test_truncated_file_is_refused(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:share if isinstance(share, int) else int(share * len(content))])
    with pytest.raises(ValueError, match=f'checkpoint {path}: expected a safetensors file'):
        checkpoint.load(path)


class Touch:
    """When unpickled, makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / 'student.safetensors'
    torch.save({'weights': Touch(tmp_path / 'ran')}, path)
    with pytest.raises(ValueError, match=f'checkpoint {path}: expected a safetensors file'):
        checkpoint.load(path)
    assert not (tmp_path / 'ran').exists()
    torch.load(path.rename(tmp_path / 'student.pt'), weights_only=False)  # it would have
    assert (tmp_path / 'ran').exists()


@pytest.mark.parametrize('metadata', [None, {'format': 'pt'}])
def test_safetensors_file_of_others_is_refused(
        path: Path, metadata: dict[str, str] | None) -> None:
    save_file(load_file(path), path, metadata)
    with pytest.raises(ValueError, match="'vl2v_student' in the safetensors header") as raised:
        checkpoint.load(path)
    assert str(sorted(metadata or {})) in str(raised.value)


def header(path: Path) -> dict[str, Any]:
    with safe_open(path, 'pt') as file:
        return json.loads(file.metadata()['vl2v_student'])


@pytest.mark.parametrize(('change', 'message'), [
    ({'version': 2}, 'expected format version 1, got 2; update'),
    ({'no_such_field': 1}, r"unknown fields \['no_such_field'\]"),
    ({'text_tower': {'model': 'a', 'no_such_field': 1}}, 'no_such_field'),
    ({'text_tower': 'ViT-B-32'}, 'must be a mapping'),
    ({'text_tower': {'model': '/etc/a.json', 'pretrained': 'b.pt'}}, "got '/etc/a.json'"),
    ({'text_tower': {'model': 'a.json', 'pretrained': '../b.pt'}}, r"got '\.\./b.pt'"),
    ({'text_tower': {'model': 'a', 'pretrained': 'b', 'recording': 'c/../../d'}}, "got 'c/../.."),
    ({'width': 0}, 'width: expected at least 1, got 0'),
    ({'width': '8'}, "width: expected an integer, got '8'"),
    ({'width': 8.5}, 'width: expected an integer, got 8.5'),
    ({'std': [1, 0, 1]}, 'std: expected positive'),
    ({'presence': ['there is a {label}']}, 'presence: expected no text, or two with the place'),
    ({'presence': ['yes', 'no']}, 'presence: expected no text, or two with the place {label}'),
    ({'resize_mode': 'stretch'}, 'resize_mode: expected one of'),
    ({'backbone': 'test_resnett'}, "got 'test_resnett'; near it: .*test_resnet"),
    ({'backbone': 'mobilenetv2_10'}, 'near it: .*mobilenetv2_100')])
def test_bad_spec_is_refused(path: Path, change: dict[str, Any], message: str) -> None:
    save_file(load_file(path), path, {'vl2v_student': json.dumps({**header(path), **change})})
    with pytest.raises(ValueError, match=f'{path}: bad spec in its header: .*{message}'):
        checkpoint.load(path)


@pytest.mark.parametrize('field', [
    'version', 'backbone', 'width', 'image_size', 'text_tower'])
def test_missing_field_is_named(path: Path, field: str) -> None:
    spec = header(path)
    del spec[field]
    save_file(load_file(path), path, {'vl2v_student': json.dumps(spec)})
    with pytest.raises(ValueError, match=f"checkpoint {path}: bad spec .*'{field}'"):
        checkpoint.load(path)


@pytest.mark.parametrize('text', ['', '{', 'student', '[]', '3', 'null'])
def test_header_that_is_no_mapping_is_refused(path: Path, text: str) -> None:
    save_file(load_file(path), path, {'vl2v_student': text})
    with pytest.raises(ValueError, match=f'checkpoint {path}: bad spec in its header'):
        checkpoint.load(path)


def lacking(weights: dict[str, torch.Tensor]) -> None:
    del weights['projector.bias']


def unexpected(weights: dict[str, torch.Tensor]) -> None:
    weights['projector.scale'] = torch.ones(3)


def of_another_shape(weights: dict[str, torch.Tensor]) -> None:
    weights['projector.bias'] = torch.ones(9)


@pytest.mark.parametrize(('change', 'name'), [
    (lacking, 'projector.bias'), (unexpected, 'projector.scale'),
    (of_another_shape, 'projector.bias')])
def test_weights_that_do_not_fit_are_named(
        path: Path, change: Callable[[dict[str, torch.Tensor]], None], name: str) -> None:
    weights, spec = load_file(path), header(path)
    change(weights)
    save_file(weights, path, {'vl2v_student': json.dumps(spec)})
    with pytest.raises(ValueError, match=f'{path}: its weights do not fit(.|\n)*{name}'):
        checkpoint.load(path)


def test_half_precision_weights_are_read_as_float32(tmp_path: Path) -> None:
    path, written = tmp_path / 'half.safetensors', student().half()
    checkpoint.save(written, path)
    assert {weight.dtype for weight in load_file(path).values()} >= {torch.float16}
    read = checkpoint.load(path)
    assert {weight.dtype for weight in read.parameters()} == {torch.float32}
    assert same_weights(read, written.float())


SAVER = """
import sys
from pathlib import Path
from support.tiny_models import student
from vl2v_ros.model import checkpoint
new = student(seed=1, width=100_000)
while True:
    checkpoint.save(new, Path(sys.argv[1]))
"""


def size(folder: Path) -> int:
    """Return how much is written of the new file, -1 while nothing is."""
    try:
        return max((path.stat().st_size for path in folder.glob('.*/*')), default=-1)
    except FileNotFoundError:
        return -1


@pytest.mark.parametrize('written', [0, 1, 10_000_000, 30_000_000])  # of 40 MB
def test_process_killed_while_saving_leaves_a_whole_file(tmp_path: Path, written: int) -> None:
    path, old, new = tmp_path / 'new/student.safetensors', student(), student(1, width=100_000)
    (tmp_path / 'saver.py').write_text(SAVER)
    for _ in range(20):  # until it was killed before the next file took its place
        checkpoint.save(old, path)
        saver = warm.Program([tmp_path / 'saver.py', path], tmp_path / 'log')
        while size(path.parent) < written:
            assert saver.poll() is None, (tmp_path / 'log').read_text()
        saver.kill()
        assert saver.wait(60) == -signal.SIGKILL
        found = checkpoint.load(path)
        assert same_weights(found, old) or same_weights(found, new)
        if left := list(path.parent.glob('.student.safetensors.*')):
            assert len(left) == 1
            return
    pytest.fail('never killed half way')


def test_replacing_takes_the_place_only_if_the_block_succeeds(tmp_path: Path) -> None:
    path = tmp_path / 'new' / 'file'
    with files.replacing(path) as temporary:
        temporary.write_text('one')
        assert not path.exists()
    with pytest.raises(RuntimeError, match='half way'):
        with files.replacing(path) as temporary:
            temporary.write_text('two')
            raise RuntimeError('half way')
    assert path.read_text() == 'one'
    assert list(path.parent.iterdir()) == [path]
