"""The vocabulary files that ship."""
from pathlib import Path

import numpy as np
import open_clip
import pytest
from support import photos_sample
from support.tiny_models import write_tower
from vl2v_ros import Labeller
from vl2v_ros.words import vocabulary
from vl2v_ros.words.clip_text import ClipText
from vl2v_ros.words.vocabulary import TEMPLATE
from vl2v_ros.words.vocabulary_file import parse
import yaml

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / 'config' / 'vocabularies'


@pytest.mark.parametrize(('name', 'least'), [('ycb', 51), ('household', 150), ('workshop', 60)])
def test_shipped_vocabularies_say_one_sentence_of_each_label(name: str, least: int) -> None:
    file = parse(str(SHIPPED / f'{name}.yaml'))
    assert len(file.entries) >= least
    sentences = [sentence for entry in file.entries.values() for sentence in entry.descriptions]
    assert len(set(sentences)) == len(sentences) == len(file.entries)
    for label, sentence in zip(file.entries, sentences, strict=True):
        assert label == label.lower() and sentence[0].isupper() and sentence[-1] == '.'
        assert sentence.count('.') == 1 and 3 < len(sentence.split()) < 25
        assert not set(label.lower().split()) >= set(sentence.lower().strip('.').split())
    prompts = [vocabulary.prompt(TEMPLATE, label, entry.descriptions[0])
               for label, entry in file.entries.items()]
    tokens = open_clip.SimpleTokenizer()(prompts, context_length=100)
    assert (tokens != 0).sum(1).max() <= 77
    assert (SHIPPED / f'{name}.yaml').read_text().startswith('# ')


def test_the_ycb_list_builds_what_it_always_built(tmp_path: Path) -> None:
    content = yaml.safe_load((SHIPPED / 'ycb.yaml').read_text())['labels']
    encoder = ClipText(write_tower(tmp_path), tmp_path)
    file = parse(str(SHIPPED / 'ycb.yaml'))
    built = vocabulary.build(file.entries, encoder, 1, background=file.background)
    assert built.labels == tuple(content) and len(content) == 51
    rows = encoder.encode([f'a photo of a {label}. {sentence}'
                           for label, sentence in content.items()]).rows
    np.testing.assert_allclose(built.prototypes, rows, atol=1e-6)


@pytest.mark.long
def test_labels_of_any_language_are_found_by_a_known_synonym(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    path = SHIPPED / 'languages.yaml'
    labeller = Labeller.open(device='cpu', cache_dir=tmp_path)
    words = labeller.vocabulary(path)
    entries = parse(str(path)).entries
    assert words.labels == tuple(entries) and len({*words.labels}) >= 8
    english = [entry.synonyms[0] for entry in entries.values()]
    for number, prompt in zip(words.prompt_labels, words.prompts, strict=True):
        assert prompt.endswith(f' {english[number]}'), prompt  # the others need a tower
    number = next(number for number, shown in enumerate(photos_sample.read_list())
                  if 'banana' in shown.labels)
    photo = photos_sample.read_frames()[photos_sample.RATE * number + photos_sample.RATE // 2]
    assert labeller.label(photo, words).labels[0] == 'Banane'
