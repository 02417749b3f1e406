"""Models that open_clip lists: each tag gets the activation its weights want, and one identity."""
import open_clip
import pytest
import torch
from vl2v_ros.words.clip_text import ClipText
from vl2v_ros.words.encoder import identify, TextTower
from vl2v_ros.words.open_clip_models import create, find, OpenClipModel, QUICK

LISTED = open_clip.list_pretrained()
# Its tag says nothing of it, its architecture does; its text tower is one of Hugging Face.
ROBERTA = 'roberta-ViT-B-32'


def wants_quick_gelu(name: str, tag: str) -> bool:
    return open_clip.get_pretrained_cfg(name, tag).get('quick_gelu', name == ROBERTA)


@pytest.mark.parametrize(('name', 'tag'), LISTED, ids=map('/'.join, LISTED))
def test_every_tag_of_open_clip_gets_its_own_activation(name: str, tag: str) -> None:
    model = find(name, tag)
    assert model.quick_gelu is wants_quick_gelu(name, tag)
    assert model == find(model.name, tag)  # the other name, if there is one
    assert model.identity.removesuffix(f'/{tag}') in open_clip.list_models()
    # What open_clip itself builds under the name of the identity is the same.
    config = open_clip.get_model_config(model.identity.removesuffix(f'/{tag}'))
    assert config.get('quick_gelu', False) is model.quick_gelu
    assert {**open_clip.get_model_config(name), 'quick_gelu': 0} == {**config, 'quick_gelu': 0}
    assert model.width == config['embed_dim'] > 0
    assert len(model.mean) == len(model.std) == 3


def test_one_model_has_one_identity() -> None:
    assert {find(name, 'openai').identity for name in ('ViT-B-32', 'ViT-B-32-quickgelu')} == {
        'ViT-B-32-quickgelu/openai'}
    assert identify(TextTower('ViT-L-14', 'openai'), '.') == 'ViT-L-14-quickgelu/openai'
    # Weights trained without it, under a name with it.
    for name in ('ViT-B-32', 'ViT-B-32-quickgelu'):
        model = find(name, 'laion2b_s34b_b79k')
        assert (model.identity, model.quick_gelu) == ('ViT-B-32/laion2b_s34b_b79k', False)
    assert find(ROBERTA, 'laion2b_s12b_b32k').identity == f'{ROBERTA}/laion2b_s12b_b32k'


def built(model: OpenClipModel) -> torch.nn.Module:
    """Build a model as `create` does, without its weights, and without memory for others."""
    with torch.device('meta'):
        return create(model, pretrained=None, device='meta')


def activations(tower: torch.nn.Module) -> set[str]:
    return {type(module).__name__ for module in tower.modules()
            if type(module).__name__ in {'GELU', 'QuickGELU'}}


QUICK_ONES = sorted({find(name, tag).name for name, tag in LISTED
                     if find(name, tag).quick_gelu} - {ROBERTA})


@pytest.mark.parametrize('name', QUICK_ONES)
def test_both_towers_are_built_with_quick_gelu(name: str) -> None:
    tag = next(tag for tag in open_clip.list_pretrained_tags_by_model(name)
               if find(name, tag).quick_gelu)
    model = built(find(name, tag))
    assert activations(model.transformer) == {'QuickGELU'}
    # The image towers of CLIP's ResNets have ReLU alone.
    assert activations(model.visual) == (set() if name.startswith('RN') else {'QuickGELU'})
    assert model.visual.image_size in (find(name, tag).image_size,
                                       (find(name, tag).image_size,) * 2)


@pytest.mark.parametrize('name', ['ViT-B-32', f'ViT-B-32{QUICK}', 'ViT-L-14'])
def test_weights_without_quick_gelu_are_built_without(name: str) -> None:
    tag = {'ViT-L-14': 'laion2b_s32b_b82k'}.get(name, 'laion2b_s34b_b79k')
    model = built(find(name, tag))
    assert activations(model.transformer) == activations(model.visual) == {'GELU'}


def test_student_of_a_wrongly_built_teacher_is_told() -> None:
    with pytest.raises(ValueError, match='expected ViT-L-14/openai, which the student was trained '
                                         'with, but .* are ViT-L-14-quickgelu/openai; distil'):
        ClipText(TextTower('ViT-L-14', 'openai', 'ViT-L-14/openai'))


@pytest.mark.parametrize(('name', 'tag', 'message'), [
    ('No-Such', 'openai', "got 'No-Such'; open_clip.list_models"),
    ('RN50-quickgelu-quickgelu', 'openai', "got 'RN50-quickgelu-quickgelu'"),
    ('ViT-B-32-quickgelu', 'none', "ViT-B-32-quickgelu: .*'openai'.*got 'none'"),
    ('ViT-B-32', '', "got ''")])
def test_what_open_clip_does_not_list_is_refused(name: str, tag: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find(name, tag)
