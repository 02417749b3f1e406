"""Teachers: open_clip models, callables, and services over HTTP."""
from collections.abc import Callable
import json
from pathlib import Path
import shutil

import numpy as np
import open_clip
import pytest
from safetensors.torch import load_file, save_file
from support.tiny_models import TEXT_CONFIG, WIDTH, write_tower
import torch
from torch.nn import functional
from training.teachers.teacher import (
    CallableTeacher,
    load_callable,
    OpenClipTeacher,
    Teacher,
    unit_rows,
)
from vl2v_ros.words.cached_text import open_text_tower
from vl2v_ros.words.clip_text import ClipText
from vl2v_ros.words.encoder import identify, TextEmbeddings, TextTower

TOWER = TextTower('tiny.json', 'tiny.safetensors')
PROMPTS = ['a photo of a cup.', 'a photo of a dog. It barks.', 'ein Foto von Äpfeln']
IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope='module')
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('teacher')
    write_tower(folder)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """Return a folder with a model of this test's own."""
    return Path(shutil.copytree(written, tmp_path / 'teacher'))


def expected_rows(folder: Path, mean: tuple, std: tuple, images: torch.Tensor = IMAGES
                  ) -> np.ndarray:
    """Return what open_clip itself makes of images."""
    model = open_clip.CLIP(**TEXT_CONFIG).eval()
    model.load_state_dict(load_file(folder / 'tiny.safetensors'))
    normalised = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        return functional.normalize(model.encode_image(normalised), dim=1).numpy()


# open_clip

@pytest.mark.parametrize('device, closeness', [
    ('cpu', 1e-5), pytest.param('cuda', 5e-3, marks=pytest.mark.cuda)])
def test_open_clip_teacher_embeds_as_open_clip_does(
        written: Path, device: str, closeness: float) -> None:
    teacher = OpenClipTeacher(TOWER, written, device)
    rows = teacher.embed_images(IMAGES)
    assert isinstance(teacher, Teacher)
    assert (teacher.width, teacher.image_size) == (WIDTH, 32)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(rows, expected_rows(
        written, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD), atol=closeness)
    # Not by chance: other normalisation, such as the student's, would be seen.
    wrong = expected_rows(written, (0.0,) * 3, (1.0,) * 3)
    assert abs(rows - wrong).max() > 1e-2


@pytest.mark.parametrize('device, closeness', [
    ('cpu', 1e-6), pytest.param('cuda', 1e-4, marks=pytest.mark.cuda)])
def test_open_clip_teacher_is_frozen_and_its_texts_are_clip_texts(
        written: Path, device: str, closeness: float) -> None:
    teacher = OpenClipTeacher(TOWER, written, device)
    long = ' '.join(['cat'] * 76)
    found, alone = teacher.encode([*PROMPTS, long]), ClipText(TOWER, written).encode(
        [*PROMPTS, long])
    np.testing.assert_allclose(found.rows, alone.rows, atol=closeness)
    assert found.truncated.tolist() == [False, False, False, True]
    assert not any(weight.requires_grad for weight in teacher.model.parameters())
    assert not teacher.model.training


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.cuda)])
def test_identity_is_the_digest_and_the_precision(folder: Path, device: str) -> None:
    teacher = OpenClipTeacher(TOWER, folder, device)
    assert teacher.identity == identify(TOWER, folder)
    reduced = OpenClipTeacher(TOWER, folder, device, 'bf16')
    assert reduced.identity == f'{teacher.identity} bf16'
    rows, full = reduced.embed_images(IMAGES), teacher.embed_images(IMAGES)
    assert rows.dtype == np.float32
    cosines = (rows * full).sum(1)
    assert (cosines > 0.995).all() and abs(rows - full).max() > 0
    state = load_file(folder / 'tiny.safetensors')
    save_file({**state, 'logit_scale': state['logit_scale'] + 1}, folder / 'tiny.safetensors')
    assert OpenClipTeacher(TOWER, folder).identity != teacher.identity


def test_config_as_from_the_hub_has_its_own_mean_and_std(folder: Path) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    (folder / 'open_clip_config.json').write_text(json.dumps(
        {'model_cfg': TEXT_CONFIG, 'preprocess_cfg': {'mean': mean, 'std': std}}))
    tower = TextTower('open_clip_config.json', 'tiny.safetensors')
    teacher = OpenClipTeacher(tower, folder)
    np.testing.assert_allclose(teacher.embed_images(IMAGES), expected_rows(folder, mean, std),
                               atol=1e-5)
    texts = open_text_tower(tower, WIDTH, folder, folder / 'cache').encode(PROMPTS).rows
    np.testing.assert_allclose(texts, ClipText(TOWER, folder).encode(PROMPTS).rows, atol=1e-6)


def test_weights_without_the_image_tower_are_no_teacher(folder: Path) -> None:
    state = load_file(folder / 'tiny.safetensors')
    save_file({name: weight for name, weight in state.items() if not name.startswith('visual.')},
              folder / 'tiny.safetensors')
    with pytest.raises(ValueError, match=r"teacher: .*tiny\.safetensors does not fit.*'visual\."):
        OpenClipTeacher(TOWER, folder)


@pytest.mark.parametrize(('tower', 'message'), [
    (TextTower('No-Such-Model', 'openai'), r"got 'No-Such-Model'; open_clip.list_models\(\)"),
    (TextTower('ViT-B-32', 'no_such_tag'), "tag of .*'laion2b_s34b_b79k'.*got 'no_such_tag'"),
    (TextTower('none.json', 'none.pt'), r'none\.json, which does not exist')])
def test_unknown_model_is_answered_with_the_known_ones(
        tmp_path: Path, tower: TextTower, message: str) -> None:
    with pytest.raises(ValueError, match=f'teacher: .*{message}'):
        OpenClipTeacher(tower, tmp_path)


def test_model_for_oblong_images_is_refused(folder: Path) -> None:
    oblong = {**TEXT_CONFIG, 'vision_cfg': {**TEXT_CONFIG['vision_cfg'], 'image_size': [32, 64]}}
    (folder / 'oblong.json').write_text(json.dumps(oblong))
    save_file(open_clip.CLIP(**oblong).state_dict(), folder / 'oblong.safetensors')
    with pytest.raises(ValueError, match='square images, got one for 32 x 64 px'):
        OpenClipTeacher(TextTower('oblong.json', 'oblong.safetensors'), folder)


def test_unknown_precision_is_refused(written: Path) -> None:
    with pytest.raises(ValueError, match="expected a precision of fp32, bf16, fp16, got 'int8'"):
        OpenClipTeacher(TOWER, written, precision='int8')


# Black boxes

def corners(pixels: np.ndarray) -> np.ndarray:
    """Embed by the colour of the first pixel and the mean of the last column."""
    assert pixels.dtype == np.uint8 and pixels.shape[1:] == (4, 4, 3)
    return np.concatenate([pixels[:, 0, 0].astype(int) + 1, pixels[:, :, 3].mean(1)], axis=1)


def lengths(prompts: list[str]) -> list[list[int]]:
    return [[len(prompt), 1, 0, 0, 0, 0] for prompt in prompts]


def black_box(images: Callable = corners, texts: Callable = lengths, **fields: object
              ) -> CallableTeacher:
    return CallableTeacher(images, texts, **{
        'identity': 'corners 1', 'width': 6, 'image_size': 4, **fields})


@pytest.mark.usefixtures('cache_dir')
def test_callable_is_given_pixels_and_its_rows_are_normalised() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    rows = black_box().embed_images(images)
    plain = corners(pixels).astype(float)
    np.testing.assert_allclose(rows, plain / np.linalg.norm(plain, axis=1, keepdims=True),
                               atol=1e-6)
    assert rows.dtype == np.float32


@pytest.mark.usefixtures('cache_dir')
def test_prompts_of_a_black_box_are_paid_for_once() -> None:
    first = black_box()
    rows = first.encode(['a', 'bb', 'a']).rows
    assert first.queries == 2
    np.testing.assert_allclose(rows[1, :2], np.array([2, 1]) / 5 ** 0.5, atol=1e-6)
    again = black_box()
    np.testing.assert_array_equal(again.encode(['bb', 'a', 'ccc']).rows[:2], rows[[1, 0]])
    assert again.queries == 1
    other = black_box(identity='corners 2')
    other.encode(['a'])
    assert other.queries == 1


@pytest.mark.usefixtures('cache_dir')
def test_truncation_told_by_a_black_box_is_kept() -> None:
    def texts(prompts: list[str]) -> TextEmbeddings:
        return TextEmbeddings(np.array(lengths(prompts)),
                              np.array([len(prompt) > 2 for prompt in prompts]))

    for _ in range(2):
        assert black_box(texts=texts).encode(['a', 'bbb']).truncated.tolist() == [False, True]
    with pytest.raises(ValueError, match='expected 1 times whether a prompt was cut'):
        black_box(texts=lambda prompts: TextEmbeddings(
            np.array(lengths(prompts)), np.zeros(7))).encode(['new'])


@pytest.mark.parametrize(('answer', 'message'), [
    ([[1.0, 2.0]], r'expected \(2, 3\) numbers.*got \(1, 2\)'),
    ([[1.0, 2.0], [3.0, 4.0]], r'got \(2, 2\)'),
    ([[1.0, 2.0], [3.0]], 'got something else'),
    ({'rows': 1}, 'got something else'),
    ([[1, 2, 3], [0, 0, 0]], 'not zero, got row 1 of length 0'),
    ([[1, None, 3], [1, 2, 3]], 'got row 0 of length nan'),
    (torch.tensor([[1, 2, 3], [1, float('inf'), 3]]), 'got row 1 of length inf')])
def test_answers_that_are_no_embeddings_are_refused(answer: object, message: str) -> None:
    with pytest.raises(ValueError, match=f'it: .*{message}.*correct the teacher'):
        unit_rows(answer, 2, 3, 'it')


@pytest.mark.parametrize('field', [{'identity': ' '}, {'width': 0}, {'width': True},
                                   {'image_size': 2.5}, {'image_size': None}])
def test_black_box_of_no_use_is_refused(field: dict) -> None:
    with pytest.raises(ValueError, match=rf'teacher\.{next(iter(field))}: expected .*, got'):
        black_box(**field)


MODULE = """
from training.teachers.teacher import CallableTeacher

def make():
    return CallableTeacher(lambda images: images[:, 0, 0], len, 'made', 3, 8)

def other():
    return 5
"""


@pytest.mark.usefixtures('cache_dir')
def test_teacher_is_made_by_an_import_path(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'my_teachers').mkdir()
    (tmp_path / 'my_teachers' / 'first.py').write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    teacher = load_callable('my_teachers.first:make')
    assert teacher.embed_images(torch.ones(1, 3, 8, 8)).shape == (1, 3)
    for path, message in (('my_teachers.first', "expected 'package.module:name'"),
                          ('my_teachers.first:none', "no attribute 'none'"),
                          ('my_teachers.second:make', "No module named 'my_teachers.second'"),
                          ('my_teachers.first:other', 'got one that returns int')):
        with pytest.raises(ValueError, match=message):
            load_callable(path)
