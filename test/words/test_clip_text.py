"""The text tower: what it makes of prompts, and what it says where it is not there."""
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from support import warm
from support.prompts import FITS, no_tower, PROMPTS
from support.tiny_models import python, WIDTH
import torch
from vl2v_ros.words.cached_text import CachedText
from vl2v_ros.words.clip_text import ClipText
from vl2v_ros.words.encoder import TextTower


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


def test_more_prompts_than_a_batch_keep_their_order(clip_text: ClipText, cache_dir: Path) -> None:
    prompts = [f'number {number}' for number in range(150)]
    expected = clip_text.encode(prompts).rows
    for load in (lambda: clip_text, no_tower):
        rows = CachedText('tiny', WIDTH, load, cache_dir).encode(prompts).rows
        np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_no_prompts_give_no_rows(cache_dir: Path) -> None:
    assert CachedText('tiny', WIDTH, no_tower, cache_dir).encode([]).rows.shape == (0, WIDTH)


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
    said = warm.python(OFFLINE, HF_HUB_OFFLINE='1', HF_HOME=str(tmp_path))
    assert said.startswith('the text tower ViT-B-32/laion2b_s34b_b79k is not cached')
    assert 'connect once to the network, or name a local config and weights file' in said


def test_import_is_light() -> None:
    said = python('import sys, vl2v_ros.words.encoder; print(sorted({"torch", "open_clip"} & '
                  'sys.modules.keys()), "vl2v_ros.words.encoder" in sys.modules)')
    assert said == '[] True\n'
