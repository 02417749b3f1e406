"""The files of a text tower: what does not fit is refused by name."""
from collections.abc import Callable
from dataclasses import replace
import json
import logging
from pathlib import Path
import sys

import open_clip
import pytest
from safetensors.torch import load_file, save_file
from support.prompts import PROMPTS
from support.tiny_models import TEXT_CONFIG, WIDTH
import torch
from vl2v_ros.words.cached_text import CachedText, open_text_tower
from vl2v_ros.words.clip_text import ClipText
from vl2v_ros.words.encoder import identify, TextTower


def test_config_of_another_width_is_refused_at_once(
        folder: Path, tower: TextTower, cache_dir: Path) -> None:
    with pytest.raises(ValueError, match='expected width 9.*got 8.*use the text tower'):
        open_text_tower(tower, 9, folder, cache_dir)


def test_tower_of_another_width_is_refused_when_loaded(
        clip_text: ClipText, cache_dir: Path) -> None:
    cached = CachedText('tiny', 9, lambda: clip_text, cache_dir)
    with pytest.raises(ValueError, match='tiny: expected width 9.*got 8'):
        cached.encode(PROMPTS)


@pytest.mark.parametrize('name', ['tiny.json', 'tiny.safetensors'])
def test_tampered_file_is_refused(
        folder: Path, tower: TextTower, cache_dir: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1 if name != 'tiny.json' else 0
    (folder / name).write_bytes(content + b' ' * (name == 'tiny.json'))
    with pytest.raises(ValueError, match='digest differs; restore'):
        open_text_tower(tower, WIDTH, folder, cache_dir).encode(PROMPTS)


@pytest.mark.parametrize('name', ['tiny.json', 'tiny.safetensors'])
def test_missing_file_is_named(folder: Path, cache_dir: Path, name: str) -> None:
    (folder / name).unlink()
    tower = TextTower('tiny.json', 'tiny.safetensors')
    for use in (lambda: identify(tower, folder), lambda: ClipText(tower, folder),
                lambda: open_text_tower(tower, WIDTH, folder, cache_dir)):
        with pytest.raises(ValueError, match=f'{name}, which does not exist'):
            use()


def cut(folder: Path) -> TextTower:
    path = folder / 'tiny.safetensors'
    path.write_bytes(path.read_bytes()[:1000])
    return TextTower('tiny.json', path.name)


def empty_pickle(folder: Path) -> TextTower:
    (folder / 'tiny.pt').touch()
    return TextTower('tiny.json', 'tiny.pt')


def no_pickle(folder: Path) -> TextTower:
    (folder / 'tiny.pt').write_text('version https://git-lfs.github.com/spec/v1')
    return TextTower('tiny.json', 'tiny.pt')


def weight_too_few(folder: Path) -> TextTower:
    state = load_file(folder / 'tiny.safetensors')
    del state['text_projection']
    save_file(state, folder / 'tiny.safetensors')
    return TextTower('tiny.json', 'tiny.safetensors')


def weight_too_many(folder: Path) -> TextTower:
    state = load_file(folder / 'tiny.safetensors')
    save_file({**state, 'extra': torch.zeros(2)}, folder / 'tiny.safetensors')
    return TextTower('tiny.json', 'tiny.safetensors')


def wider_config(folder: Path) -> TextTower:
    wider = {**TEXT_CONFIG, 'text_cfg': {**TEXT_CONFIG['text_cfg'], 'width': 32}}
    (folder / 'wider.json').write_text(json.dumps(wider))
    return TextTower('wider.json', 'tiny.safetensors')


def unknown_setting(folder: Path) -> TextTower:
    (folder / 'unknown.json').write_text(json.dumps({**TEXT_CONFIG, 'text_cfg': {'no_such': 1}}))
    return TextTower('unknown.json', 'tiny.safetensors')


def no_json(folder: Path) -> TextTower:
    (folder / 'tiny.json').write_text('{')
    return TextTower('tiny.json', 'tiny.safetensors')


@pytest.mark.parametrize('damage', [
    cut, empty_pickle, no_pickle, weight_too_few, weight_too_many, wider_config, unknown_setting,
    no_json], ids=lambda damage: damage.__name__)
def test_files_that_do_not_fit_are_named(
        folder: Path, damage: Callable[[Path], TextTower]) -> None:
    tower = damage(folder)
    with pytest.raises(ValueError, match='text tower: .*does not fit') as raised:
        ClipText(tower, folder)
    assert tower.model in str(raised.value) and tower.pretrained in str(raised.value)
    assert logging.getLogger().isEnabledFor(logging.WARNING)  # not left switched off


def test_bad_config_does_not_spoil_the_next_tower(
        folder: Path, tower: TextTower, tmp_path: Path) -> None:
    (tmp_path / 'bad.json').write_text('{')
    with pytest.raises(ValueError, match='does not fit'):
        ClipText(TextTower('bad.json', 'tower/tiny.safetensors'), tmp_path)
    assert ClipText(tower, folder).encode(PROMPTS).rows.shape == (len(PROMPTS), WIDTH)


def test_configs_of_one_name_are_told_apart_by_their_folders(
        folder: Path, tower: TextTower, tmp_path: Path) -> None:
    wider = {**TEXT_CONFIG, 'embed_dim': 16}
    (tmp_path / 'wider').mkdir()
    (tmp_path / 'wider' / 'tiny.json').write_text(json.dumps(wider))
    save_file(open_clip.CLIP(**wider).state_dict(), tmp_path / 'wider' / 'tiny.safetensors')
    widths = [ClipText(replace(tower, identity=''), where).width
              for where in (folder, tmp_path / 'wider', folder)]
    assert widths == [WIDTH, 16, WIDTH]


@pytest.mark.parametrize('text', ['{', '[]', '{}', '{"embed_dim": "8"}'])
def test_bad_config_is_refused_at_once(folder: Path, cache_dir: Path, text: str) -> None:
    (folder / 'tiny.json').write_text(text)
    with pytest.raises(ValueError, match=r'text tower.*expected.*tiny\.json|tiny\.json: expected'):
        open_text_tower(TextTower('tiny.json', 'tiny.safetensors'), WIDTH, folder, cache_dir)


class Touch:
    """When unpickled, makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_code_in_a_weights_file_is_not_run(folder: Path, tmp_path: Path) -> None:
    torch.save({'text_projection': Touch(tmp_path / 'ran')}, folder / 'tiny.pt')
    with pytest.raises(ValueError, match='does not fit'):
        ClipText(TextTower('tiny.json', 'tiny.pt'), folder)
    assert not (tmp_path / 'ran').exists()


@pytest.mark.usefixtures('cache_dir')
def test_tokenizer_that_cannot_be_loaded_is_named(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'transformers', None)  # as where it is not installed
    text = {**TEXT_CONFIG['text_cfg'], 'hf_tokenizer_name': 'nobody/none'}
    (folder / 'other.json').write_text(json.dumps({**TEXT_CONFIG, 'text_cfg': text}))
    with pytest.raises(ValueError, match='other.json: its tokenizer could not be loaded.*install'):
        ClipText(TextTower('other.json', 'tiny.safetensors'), folder)
