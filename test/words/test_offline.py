"""Words on a machine without a network: which are known, and what is said of the others."""
from collections.abc import Sequence
import os
from pathlib import Path

from huggingface_hub import constants
import numpy as np
import pytest
from support import offline_student
from support.offline_student import IDENTITY, NAMES, no_hub, ONLY_SHORT, TEMPLATE
from support.tiny_models import WIDTH, write_tower
from vl2v_ros.words import recording
from vl2v_ros.words.cached_text import CachedText, NoTower, open_text_tower
from vl2v_ros.words.clip_text import ClipText
from vl2v_ros.words.encoder import TextTower
from vl2v_ros.words.labels import check_labels, Entry
from vl2v_ros.words.offline import nearest
from vl2v_ros.words.vocabulary import build, Vocabulary

REASON = f'the text tower {IDENTITY} is not cached, and there is no network (127.0.0.1:'
TOWER = TextTower(*IDENTITY.split('/'), IDENTITY, 'prompts.safetensors')


@pytest.fixture
def encoder(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> CachedText:
    """Return what knows NAMES and ONLY_SHORT, on a machine without a network."""
    settings = no_hub(tmp_path / 'hub')
    monkeypatch.setattr(constants, 'ENDPOINT', settings['HF_ENDPOINT'])
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', settings['HF_HOME'])
    monkeypatch.setenv('no_proxy', settings['no_proxy'])
    offline_student.record_names(tmp_path / 'prompts.safetensors')
    return open_text_tower(TOWER, WIDTH, tmp_path, cache_dir)


def words(encoder: CachedText, labels: Sequence[str], templates: Sequence[str] = (TEMPLATE,),
          descriptions: Sequence[str] = (), background: Sequence[str] = ()) -> Vocabulary:
    return build(check_labels(labels, descriptions), encoder, 1, templates, background)


def row(encoder: CachedText, prompt: str) -> np.ndarray:
    """Return what was recorded for a prompt, to the letter, as a unit row."""
    known = recording.read(encoder._recording_path)
    found = known.prompt_rows[known.prompts.index(prompt)].astype(np.float32)
    return found / np.linalg.norm(found)


@pytest.mark.parametrize('templates', [
    ('{a} {label}[. {description}]',), (TEMPLATE,), ('{a} {label}[. {description}]', TEMPLATE),
    ('a photo of a {label}. {description}',), ('a picture of {a} {label} on a table',)])
def test_every_known_name_can_be_used_with_any_templates(
        encoder: CachedText, templates: Sequence[str]) -> None:
    built = words(encoder, [*NAMES, *ONLY_SHORT], templates)
    assert built.prototypes.shape == (len(NAMES) + len(ONLY_SHORT), WIDTH)
    np.testing.assert_allclose(np.linalg.norm(built.prototypes, axis=1), 1, atol=1e-6)
    exact = '{a} {label}[. {description}]' in templates  # recorded of all names
    assert bool(built.note) != exact and (exact or 'are used: ' in built.note)


def test_rows_are_those_that_were_recorded(encoder: CachedText) -> None:
    built = words(encoder, ['mug', 'Alarm  Clock', 'orange'])
    assert built.prompts == ('a photo of a mug', 'a photo of an Alarm Clock',
                             'a photo of an orange')
    expected = [row(encoder, f'a photo of {name}') for name in ('a mug', 'an alarm_clock',
                                                                'an orange')]
    np.testing.assert_allclose(built.prototypes, expected, atol=1e-6)
    assert built.note == '' and built.truncated == ()


def test_of_several_templates_those_recorded_count_and_need_no_tower(encoder: CachedText) -> None:
    built = words(encoder, ['mug', 'calculator'], ['a {label}', TEMPLATE])
    mean = row(encoder, 'a mug') + row(encoder, 'a photo of a mug')
    np.testing.assert_allclose(built.prototypes[0], mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_allclose(built.prototypes[1], row(encoder, 'a calculator'), atol=1e-6)
    assert built.note == '', 'nothing had to be done without'


def test_descriptions_fall_back_to_the_plain_prompt(encoder: CachedText) -> None:
    built = build({'mug': Entry(('It has a handle.', 'It is round.')), 'orange': Entry()},
                  encoder, 1, [TEMPLATE])
    assert built.prompts == ('a photo of a mug', 'a photo of an orange')
    assert built.descriptions == (('It has a handle.', 'It is round.'), ())
    np.testing.assert_allclose(built.prototypes[0], row(encoder, 'a photo of a mug'), atol=1e-6)
    assert built.note.startswith('1 of 2 labels lack a part')
    assert built.note.endswith("are used: 'a photo of a mug'")


def test_a_known_synonym_is_enough(encoder: CachedText) -> None:
    built = build({'torch': Entry(synonyms=('light bulb',)), 'mug': Entry(synonyms=('beaker',))},
                  encoder, 1, [TEMPLATE])
    assert built.labels == ('torch', 'mug')
    assert built.prompts == ('a photo of a light bulb', 'a photo of a mug')
    assert "are used: 'a photo of a light bulb', 'a photo of a mug'" in built.note


def test_all_that_is_missing_is_named_with_the_nearest_names(encoder: CachedText) -> None:
    with pytest.raises(ValueError) as raised:
        words(encoder, ['mug', 'red mug', 'xyzzy', 'orange', 'bookshelf'],
              background=['an empty table', 'a shelf'])
    said = str(raised.value)
    assert '\n' not in said and not isinstance(raised.value, NoTower)
    assert said.startswith(
        "cannot encode label 'red mug' (known: mug, coffee mug), label 'xyzzy', label 'bookshelf' "
        f"(known: shelf), background prompt 'an empty table'; {REASON}")
    assert said.endswith('; connect once to the network, or name a local config and weights file, '
                         'or use names that `vl2v_classify --known` lists')


def test_background_prompts_may_be_known_ones(encoder: CachedText) -> None:
    built = words(encoder, ['mug'], background=['a shelf'])
    np.testing.assert_allclose(built.background_rows, [row(encoder, 'a shelf')], atol=1e-6)


def test_what_was_encoded_once_is_known_too(encoder: CachedText, cache_dir: Path) -> None:
    def load() -> ClipText:
        return ClipText(write_tower(cache_dir / 'tower'), cache_dir / 'tower')
    CachedText(IDENTITY, WIDTH, load, cache_dir).encode(['a photo of a torch. It is bright.'])
    built = words(encoder, ['torch', 'mug'], descriptions=['It is bright.', ''])
    assert built.prompts == ('a photo of a torch. It is bright.', 'a photo of a mug')
    assert built.note == ''


def test_with_the_tower_at_hand_only_what_is_new_reaches_it(tmp_path: Path, cache_dir: Path
                                                            ) -> None:
    tower = write_tower(tmp_path)
    offline_student.record_names(tmp_path / 'prompts.safetensors', tower.identity)
    encoder = open_text_tower(TextTower(tower.model, tower.pretrained, tower.identity,
                                        'prompts.safetensors'), WIDTH, tmp_path, cache_dir)
    built = words(encoder, ['mug', 'torch', 'orange'], descriptions=['', '', 'It is round.'])
    real = ClipText(tower, tmp_path).encode(built.prompts).rows
    assert built.prompts[2] == 'a photo of an orange. It is round.' and built.note == ''
    np.testing.assert_allclose(built.prototypes[0], row(encoder, 'a photo of a mug'), atol=1e-6)
    np.testing.assert_allclose(built.prototypes[1:], real[1:], atol=1e-6)


def other_tower(path: Path) -> None:
    offline_student.record_names(path, 'ViT-L-14/openai')


def other_width(path: Path) -> None:
    offline_student.record(['a mug'], ['mug'], np.eye(1, 4), path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:900])


@pytest.mark.parametrize(('damage', 'message'), [
    (Path.unlink, 'found none at'), (cut, 'damaged, cut off'),
    (other_tower, 'found those of ViT-L-14/openai, width 8'),
    (other_width, f'found those of {IDENTITY}, width 4')])
def test_a_recording_of_no_use_is_warned_of_and_done_without(
        encoder: CachedText, tmp_path: Path, caplog: pytest.LogCaptureFixture,
        damage: object, message: str) -> None:
    damage(tmp_path / 'prompts.safetensors')
    for _ in range(2):
        with pytest.raises(ValueError, match="cannot encode label 'mug'; the text tower"):
            words(encoder, ['mug'])
    warning, = (record.getMessage() for record in caplog.records)  # once
    assert message in warning and warning.endswith('the recording is not used')
    assert encoder.names == ()


def test_names_are_sorted_and_each_is_there_once(encoder: CachedText) -> None:
    assert encoder.names == tuple(sorted({*NAMES, *ONLY_SHORT}))


@pytest.mark.parametrize(('word', 'expected'), [
    ('mug', ['mug', 'coffee mug']), ('Mugs', ['mug', 'coffee mug']),
    ('phillips screwdriver', ['screwdriver']), ('lightbulbs', ['light bulb']),
    ('bookshelf', ['shelf']), ('shelves', ['shelf']), ('strawbery', ['strawberry']),
    ('strawberries', ['strawberry']), ('fish', ['fish (food)']), ('clock', ['alarm clock']),
    ('SCISSOR', ['scissors']), ('xyzzy', []), ('', []), ('!', []), ('杯子', [])])
def test_near_are_names_that_share_words_or_letters(word: str, expected: list[str]) -> None:
    assert nearest(word, NAMES)[:2] == expected


@pytest.mark.skipif('VL2V_DATA' not in os.environ, reason='needs the recorded answers of CLIP')
def test_every_recorded_name_of_clip_can_be_used(tmp_path: Path, encoder: CachedText,
                                                 cache_dir: Path) -> None:
    offline_student.real_recording(tmp_path / 'prompts.safetensors')
    real = open_text_tower(TOWER, 512, tmp_path, cache_dir)
    assert len(real.names) == 2325
    labels = list({name.casefold(): name for name in real.names}.values())
    for templates in (['{a} {label}[. {description}]'], [TEMPLATE]):
        assert len(words(real, labels, templates).labels) == len(labels)
    assert nearest('mug', real.names)[:2] == ['mug', 'coffee mug']
    assert nearest('cordless drill', real.names)[0] == 'drill'


def test_presence_needs_its_own_prompts(encoder: CachedText) -> None:
    """In other words, what is present and what is absent would be the same."""
    pair = 'you can find a {label}.', 'you cannot find a {label}.'
    built = build(check_labels(NAMES), encoder, 1, (TEMPLATE,), presence=pair)
    assert built.presence is None and 'presence, which is told by the maps' in built.note
    known = build(check_labels(NAMES[:2]), encoder, 1, presence=(
        '{a} {label}[. {description}]', 'a photo of {a} {label}'))
    assert known.presence is None or known.presence.shape == (2, 2, WIDTH)
