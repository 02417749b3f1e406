"""The text tower and the cache of its prompts."""
from collections.abc import Callable, Sequence
from dataclasses import replace
import json
import logging
from pathlib import Path
import shutil
import sqlite3
import subprocess
import sys

import numpy as np
import open_clip
import pytest
from safetensors.torch import load_file, save_file
from support.tiny_models import python, TEXT_CONFIG, WIDTH, write_tower
import torch
from vl2v_ros.words.cached_text import CachedText, default_cache_dir, open_text_tower
from vl2v_ros.words.clip_text import ClipText
from vl2v_ros.words.encoder import identify, TextEmbeddings, TextTower

PROMPTS = ['a photo of a cup.', 'a photo of a dog. It barks.', 'ein Foto von Äpfeln', '一只猫']
FITS = ' '.join(['cat'] * 75)  # with the marks of start and end it fills the 77 places


@pytest.fixture(scope='module')
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('tower')
    write_tower(folder)
    return folder


@pytest.fixture(scope='module')
def clip_text(written: Path) -> ClipText:
    return ClipText(TextTower('tiny.json', 'tiny.safetensors'), written)


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """Return a folder with a tower of this test's own."""
    return Path(shutil.copytree(written, tmp_path / 'tower'))


@pytest.fixture
def tower(folder: Path) -> TextTower:
    tower = TextTower('tiny.json', 'tiny.safetensors')
    return replace(tower, identity=identify(tower, folder))


class Recorded:
    """A real tower that notes what reaches it."""

    def __init__(self, encoder: ClipText) -> None:
        self.encoder, self.width = encoder, encoder.width
        self.prompts: list[str] = []

    def encode(self, prompts: Sequence[str]) -> TextEmbeddings:
        self.prompts += prompts
        return self.encoder.encode(prompts)


def no_tower() -> ClipText:
    raise AssertionError('the tower was needed')


def test_rows_are_unit_vectors_that_differ_by_prompt(clip_text: ClipText) -> None:
    rows = clip_text.encode(PROMPTS).rows
    assert rows.dtype == np.float32 and rows.shape == (len(PROMPTS), clip_text.width)
    assert clip_text.width == WIDTH
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert len(np.unique(rows.round(4), axis=0)) == len(PROMPTS)


def save_text_only(state: dict[str, torch.Tensor], path: Path) -> None:
    save_file({name: weight for name, weight in state.items() if not name.startswith('visual.')},
              path)


@pytest.mark.parametrize(('name', 'write'), [
    ('text_only.safetensors', save_text_only), ('whole.pt', torch.save)])
def test_weights_files_of_each_kind_give_the_embeddings_of_the_whole_model(
        folder: Path, clip_text: ClipText, name: str, write: Callable) -> None:
    write(load_file(folder / 'tiny.safetensors'), folder / name)
    rows = ClipText(TextTower('tiny.json', name), folder).encode(PROMPTS).rows
    np.testing.assert_array_equal(rows, clip_text.encode(PROMPTS).rows)


def test_prompt_is_truncated_only_beyond_the_context(clip_text: ClipText) -> None:
    same = clip_text.encode([FITS, f'{FITS} dog', f'{FITS} dog bird', FITS[:-3] + 'dog', 'cat'])
    assert same.truncated.tolist() == [False, True, True, False, False]
    np.testing.assert_allclose(same.rows[1:3], same.rows[[0, 0]], atol=1e-6)  # the end was cut
    assert abs(same.rows[3] - same.rows[0]).max() > 1e-4  # the last word that fits is read


def test_truncation_is_remembered_by_the_cache(clip_text: ClipText, cache_dir: Path) -> None:
    prompts = [f'{FITS} dog', FITS]
    for load in (lambda: clip_text, no_tower):
        truncated = CachedText('tiny', WIDTH, load, cache_dir).encode(prompts).truncated
        assert truncated.dtype == bool and truncated.tolist() == [True, False]


SECOND_PROCESS = """
import json, sys
from pathlib import Path
from vl2v_ros.words.cached_text import default_cache_dir, open_text_tower
from vl2v_ros.words.encoder import TextTower
tower, folder, prompts = json.loads(sys.argv[1])
encoder = open_text_tower(TextTower(*tower), 8, Path(folder), default_cache_dir())
print(encoder.encode(prompts).rows.tobytes().hex(), 'torch' in sys.modules)
"""


def test_another_process_needs_no_tower_for_cached_prompts(
        folder: Path, tower: TextTower, cache_dir: Path) -> None:
    first = open_text_tower(tower, WIDTH, folder, default_cache_dir()).encode(PROMPTS).rows
    assert (cache_dir / 'prompts.sqlite').is_file()
    shutil.rmtree(folder)
    backwards = PROMPTS[::-1]
    names = [tower.model, tower.pretrained, tower.identity]
    second, imported = python(
        SECOND_PROCESS, json.dumps([names, str(folder), backwards])).split()
    assert bytes.fromhex(second) == first[::-1].tobytes()
    assert imported == 'False'


def test_only_missing_prompts_reach_the_tower(clip_text: ClipText, cache_dir: Path) -> None:
    recorded = Recorded(clip_text)
    cached = CachedText('tiny', WIDTH, lambda: recorded, cache_dir)
    cached.encode(PROMPTS[:2])
    mixed = [PROMPTS[2], PROMPTS[0], PROMPTS[2], PROMPTS[1]]
    rows = cached.encode(mixed).rows
    assert recorded.prompts == [*PROMPTS[:2], PROMPTS[2]]
    np.testing.assert_allclose(rows, clip_text.encode(mixed).rows, atol=1e-6)


def test_more_prompts_than_a_batch_keep_their_order(clip_text: ClipText, cache_dir: Path) -> None:
    prompts = [f'number {number}' for number in range(150)]
    expected = clip_text.encode(prompts).rows
    for load in (lambda: clip_text, no_tower):
        rows = CachedText('tiny', WIDTH, load, cache_dir).encode(prompts).rows
        np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_towers_do_not_share_cached_prompts(clip_text: ClipText, cache_dir: Path) -> None:
    CachedText('one', WIDTH, lambda: clip_text, cache_dir).encode(PROMPTS)
    recorded = Recorded(clip_text)
    CachedText('other', WIDTH, lambda: recorded, cache_dir).encode(PROMPTS)
    assert recorded.prompts == PROMPTS


def test_no_prompts_give_no_rows(cache_dir: Path) -> None:
    assert CachedText('tiny', WIDTH, no_tower, cache_dir).encode([]).rows.shape == (0, WIDTH)


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


@pytest.mark.parametrize(('tower', 'message'), [
    (TextTower('No-Such-Model', 'openai'), r"got 'No-Such-Model'; open_clip.list_models\(\)"),
    (TextTower('ViT-B-32', 'no_such_tag'), "tag of .*'laion2b_s34b_b79k'.*got 'no_such_tag'")])
def test_unknown_name_is_answered_with_the_known_ones(tower: TextTower, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipText(tower)


OFFLINE = """
from vl2v_ros.words.clip_text import ClipText
from vl2v_ros.words.encoder import TextTower
try:
    ClipText(TextTower('ViT-B-32', 'laion2b_s34b_b79k'))
except ValueError as error:
    print(error)
"""


def test_unreachable_hub_is_answered_with_what_to_do(tmp_path: Path) -> None:
    said = python(OFFLINE, HF_HUB_OFFLINE='1', HF_HOME=str(tmp_path))
    assert said.startswith('the text tower ViT-B-32/laion2b_s34b_b79k is not cached')
    assert 'connect once to the network, or name a local config and weights file' in said


@pytest.mark.usefixtures('cache_dir')
def test_tokenizer_that_cannot_be_loaded_is_named(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'transformers', None)  # as where it is not installed
    text = {**TEXT_CONFIG['text_cfg'], 'hf_tokenizer_name': 'nobody/none'}
    (folder / 'other.json').write_text(json.dumps({**TEXT_CONFIG, 'text_cfg': text}))
    with pytest.raises(ValueError, match='other.json: its tokenizer could not be loaded.*install'):
        ClipText(TextTower('other.json', 'tiny.safetensors'), folder)


def damaged(path: Path) -> None:
    path.write_bytes(b'no database' * 1000)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def of_another_kind(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute('CREATE TABLE prompts (word TEXT)')
    connection.close()


def is_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def lies_below_a_file(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.touch()


@pytest.mark.parametrize(
    'damage', [damaged, half, of_another_kind, is_a_folder, lies_below_a_file],
    ids=lambda damage: damage.__name__)
def test_unusable_cache_is_warned_of_and_done_without(
        clip_text: ClipText, cache_dir: Path, caplog: pytest.LogCaptureFixture,
        damage: Callable[[Path], None]) -> None:
    cached = CachedText('tiny', WIDTH, lambda: clip_text, cache_dir)
    expected = cached.encode(PROMPTS)
    assert not caplog.records
    damage(cache_dir / 'prompts.sqlite')
    for _ in range(2):
        caplog.clear()
        np.testing.assert_array_equal(cached.encode(PROMPTS).rows, expected.rows)
        warnings = [record.getMessage() for record in caplog.records
                    if record.levelno == logging.WARNING]
        assert len(warnings) == 2
        assert f'{cache_dir / "prompts.sqlite"} cannot be read' in warnings[0]
        assert 'cannot be written' in warnings[1]


# The encoder is a stand-in so that the two processes meet in the cache, not in the tower.
WRITER = """
from pathlib import Path
import sys
import numpy as np
from vl2v_ros.words.cached_text import CachedText
from vl2v_ros.words.encoder import TextEmbeddings

class Encoder:
    width = 8
    def encode(self, prompts):
        rows = np.array([np.full(8, int(prompt)) for prompt in prompts], np.float32)
        return TextEmbeddings(rows, np.zeros(len(prompts), bool))

cached = CachedText('tiny', 8, Encoder, Path(sys.argv[1]))
print('ready', flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2]), 200, 2):
    cached.encode([str(number), str(1000 + int(sys.argv[2]))])
"""


def test_two_processes_writing_at_once_lose_nothing(cache_dir: Path) -> None:
    writers = [subprocess.Popen([sys.executable, '-c', WRITER, cache_dir, str(start)], text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE) for start in (0, 1)]
    assert [writer.stdout.readline() for writer in writers] == ['ready\n'] * 2
    for writer in writers:
        writer.stdin.write('go\n')
        writer.stdin.flush()
    assert [writer.communicate(timeout=120)[1] for writer in writers] == ['', '']  # no warnings
    numbers = [*range(200), 1000, 1001]
    rows = CachedText('tiny', 8, no_tower, cache_dir).encode([str(n) for n in numbers]).rows
    assert rows[:, 0].tolist() == numbers


@pytest.mark.parametrize(('xdg', 'expected'), [('/a/cache', '/a/cache'), ('', '/a/home/.cache'),
                                               (None, '/a/home/.cache')])
def test_cache_follows_xdg_cache_home(
        monkeypatch: pytest.MonkeyPatch, xdg: str | None, expected: str) -> None:
    monkeypatch.setenv('HOME', '/a/home')
    if xdg is None:
        monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    else:
        monkeypatch.setenv('XDG_CACHE_HOME', xdg)
    assert default_cache_dir() == Path(expected) / 'vl2v_ros'


def test_import_is_light() -> None:
    said = python('import sys, vl2v_ros.words.encoder; print(sorted({"torch", "open_clip"} & '
                  'sys.modules.keys()), "vl2v_ros.words.encoder" in sys.modules)')
    assert said == '[] True\n'
