"""Recordings: what is written is read, and what cannot be true is refused."""
from dataclasses import replace
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from vl2v_ros.words.recording import canonical, FORMAT, read, Recording, write

ROWS = np.eye(4, dtype=np.float16)
DIGESTS = np.arange(2 * 32, dtype=np.uint8).reshape(2, 32)
SOME = Recording('me/1', 32, 'CC0, mine', ('a cup', 'a Äpfel tree', 'An  alarm_clock.'),
                 ('cup', '', 'alarm clock'), ROWS[:3], DIGESTS, ROWS[1:3])


def assert_same(found: Recording, expected: Recording) -> None:
    for name, value in vars(expected).items():
        if not name.startswith('_'):
            np.testing.assert_array_equal(getattr(found, name), value)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write(SOME, tmp_path / 'new' / 'it.safetensors')
    found = read(tmp_path / 'new' / 'it.safetensors')
    assert_same(found, SOME)
    assert found.width == 4
    assert found.prompt_rows.dtype == found.image_rows.dtype == np.float16


def test_prompts_alone_and_images_alone_are_recordings(tmp_path: Path) -> None:
    for part in (replace(SOME, image_size=0, image_digests=DIGESTS[:0], image_rows=ROWS[:0]),
                 replace(SOME, prompts=(), names=(), prompt_rows=ROWS[:0])):
        write(part, tmp_path / 'it.safetensors')
        assert_same(read(tmp_path / 'it.safetensors'), part)


def test_prompt_is_found_to_the_letter_first() -> None:
    both = replace(SOME, prompts=('a_cup', 'a cup', 'An  alarm_clock.'))
    assert np.argmax(both.find('a_cup')) == 0
    assert np.argmax(both.find('a cup')) == 1
    assert np.argmax(both.find('A CUP.')) == 1  # the plain form before others
    assert np.argmax(both.find('a alarm clock')) == 2
    assert both.find('a mug') is None


@pytest.mark.parametrize(('prompt', 'plain'), [
    ('A photo of an Apple.', 'a photo of a apple'), ('a tank_top_(clothing)',
                                                     'a tank top (clothing)'),
    ('a banana', 'a banana'), ('  two   words . ', 'two words'), ('STRASSE', 'strasse'),
    ('Straße', 'strasse'), ('', '')])
def test_canonical_form(prompt: str, plain: str) -> None:
    assert canonical(prompt) == plain == canonical(plain)


NAN = ROWS[:3].copy()
NAN[1, 2] = np.nan


@pytest.mark.parametrize(('fields', 'message'), [
    ({'identity': ' '}, 'identity: expected a name'),
    ({'prompts': ('a cup', 'a mug')}, 'prompts: expected 3, one per row, got 2'),
    ({'names': ('cup',)}, 'names: expected 3, one per prompt, got 1'),
    ({'image_rows': np.eye(5, dtype=np.float16)[:2]}, r'rows of width 4.*got \(2, 5\)'),
    ({'image_digests': DIGESTS[:1]}, r'image_digests: expected \(2, 32\), got \(1, 32\)'),
    ({'image_digests': DIGESTS[:, :20]}, r'expected \(2, 32\), got \(2, 20\)'),
    ({'image_digests': DIGESTS.astype(np.int64)}, 'image_digests: expected bytes.*got int64'),
    ({'image_size': 0}, r'image_size: expected at least 1 \[px\], got 0'),
    ({'prompt_rows': NAN}, 'prompt_rows: expected unit rows, got row 1 of length nan'),
    ({'image_rows': 0 * ROWS[:2]}, 'image_rows: expected unit rows, got row 0 of length 0'),
    ({'image_rows': np.full((2, 4), np.inf, np.float16)}, 'image_rows: .*row 0 of length inf'),
    ({'prompt_rows': ROWS[0]}, r'prompt_rows: expected a table of rows, got \(4,\)'),
    ({'prompts': ('a cup', 'a mug', 'a cup')},
     r"prompt 'a cup' has two different embeddings \(rows 0 and 2\); remove the wrong one"),
    ({'image_digests': DIGESTS[[0, 0]]}, "image digest '000102.* has two different embeddings"),
])
def test_what_cannot_be_true_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SOME, **fields)


def test_prompt_that_repeats_with_the_same_embedding_is_no_harm() -> None:
    rows = ROWS[[0, 1, 0]] + np.float16(5e-4) * ROWS[[1, 2, 2]]
    assert np.argmax(replace(SOME, prompts=('a', 'b', 'a'), prompt_rows=rows).find('a')) == 0


def test_file_that_is_cut_off_is_said_wherever_it_ends(tmp_path: Path) -> None:
    path = tmp_path / 'it.safetensors'
    write(SOME, path)
    whole = path.read_bytes()
    for size in (0, 5, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match='recording .*it.safetensors: .*(cut off|damaged)'):
            read(path)


def header(**fields: object) -> dict[str, str]:
    return {FORMAT: json.dumps({
        'version': 1, 'identity': 'me', 'image_size': 32, 'licence': '',
        'prompts': ['a cup'], 'names': ['cup'], **fields})}


TENSORS = {'prompt_rows': ROWS[:1], 'image_digests': DIGESTS, 'image_rows': ROWS[:2]}


@pytest.mark.parametrize(('metadata', 'tensors', 'message'), [
    ({}, TENSORS, "expected a recording .*'vl2v_recording'.*found the entries"),
    ({FORMAT: '{'}, TENSORS, 'recording .*it.safetensors: '),
    ({FORMAT: '[]'}, TENSORS, 'recording .*it.safetensors: '),
    (header(version=2), TENSORS, 'expected format version 1, got 2; update'),
    (header(more=1), TENSORS, "unexpected keyword argument 'more'"),
    (header(identity=None), TENSORS, 'recording .*it.safetensors: '),
    (header(prompts=[3]), TENSORS, 'prompts: expected texts'),
    (header(image_size='big'), TENSORS, 'recording .*it.safetensors: '),
    (header(), {'prompt_rows': ROWS[:1]}, 'recording .*it.safetensors: '),
])
def test_other_content_is_refused(tmp_path: Path, metadata: dict, tensors: dict, message: str
                                  ) -> None:
    save_file(tensors, tmp_path / 'it.safetensors', metadata)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / 'it.safetensors')


def test_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='found none at .*none.safetensors; correct the path'):
        read(tmp_path / 'none.safetensors')
