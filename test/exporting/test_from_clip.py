"""open_clip models as they are: of every family the same embeddings, in every runtime."""
import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
from PIL import Image
import pytest
from safetensors.torch import save_file
import torch
from torch.nn import functional
from training import export
from training.exporting import licences
from vl2v_ros.images.frame import Frame
from vl2v_ros.model import checkpoint
from vl2v_ros.model.cells import Cells
from vl2v_ros.model.runtime.choose import create
from vl2v_ros.words.clip_text import ClipText

TEXT = {'context_length': 77, 'vocab_size': 49408, 'width': 16, 'heads': 2, 'layers': 1}
VIT = {'image_size': 32, 'layers': 2, 'width': 64, 'patch_size': 16}
CAPTIONS = {'context_length': 76, 'vocab_size': 100, 'width': 16, 'heads': 2, 'layers': 1}


def timm(name: str, size: int, pool: str, projection: str | None) -> dict[str, Any]:
    return {'timm_model_name': name, 'timm_model_pretrained': False, 'timm_pool': pool,
            'timm_proj': projection, 'image_size': size}


# One small model of each family that open_clip lists, with the entries of its family (sigmoid: of
# SigLIP).
FAMILIES: dict[str, dict[str, Any]] = {
    'vit': {'vision_cfg': VIT},
    'quickgelu': {'vision_cfg': VIT, 'quick_gelu': True},
    'clipa': {'vision_cfg': {**VIT, 'no_ln_pre': True, 'pool_type': 'avg',
                             'final_ln_after_pool': True}},
    'resnet': {'vision_cfg': {'image_size': 64, 'layers': [1, 1, 1, 1], 'width': 8,
                              'patch_size': None}},
    'coca': {'vision_cfg': {**VIT, 'attentional_pool': True, 'attn_pooler_heads': 2,
                            'output_tokens': True},
             'text_cfg': {**TEXT, 'context_length': 76, 'embed_cls': True, 'output_tokens': True},
             'multimodal_cfg': CAPTIONS, 'custom_text': True},
    'convnext': {'vision_cfg': timm('test_convnext', 64, '', 'linear')},
    'convnext_d': {'vision_cfg': timm('test_convnext', 64, '', 'mlp')},
    'mobileclip': {'vision_cfg': timm('fastvit_t8', 64, 'avg', None), 'custom_text': True},
    'eva': {'vision_cfg': timm('test_vit', 160, 'token', None), 'custom_text': True},
    'sigmoid': {'vision_cfg': timm('test_vit', 160, 'map', 'none'), 'custom_text': True,
               'init_logit_bias': -10, 'embed_dim': 64}}
ALL_RUNTIMES = 'quickgelu', 'mobileclip'  # the others: OpenVINO alone, in this process


@pytest.fixture(scope='module')
def frames() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 230, 160)[None, :, None] * (1, 0.5, 0)
    return [(one + rng.normal(0, 10, (120, 160, 3))).clip(0, 255).astype(np.uint8)
            for one in (ramp, ramp[:, ::-1, ::-1])]


def write(name: str, folder: Path) -> tuple[Any, Path]:
    """Make a model of a family known to open_clip, and write its random weights."""
    config = {'embed_dim': 8, 'text_cfg': TEXT, **FAMILIES[name]}
    path = folder / f'small_{name}.json'
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.create_model(path.stem, load_weights=False).eval()
        with torch.no_grad():
            model.logit_scale.fill_(4.0)
            for module in model.visual.modules():  # as training would leave them
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.running_var.uniform_(0.5, 2)
                    module.running_mean.normal_(0, 0.1)
    save_file({key: weight.contiguous() for key, weight in model.state_dict().items()},
              folder / 'weights.safetensors')
    return model, folder / 'weights.safetensors'


@pytest.mark.parametrize('name', FAMILIES)
@pytest.mark.long
def test_a_model_embeds_as_open_clip_does(name: str, frames: list[np.ndarray], tmp_path: Path,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    model, weights = write(name, tmp_path)
    path = tmp_path / 'out/taken.safetensors'
    export.main(['--from-clip', f'small_{name}', '--pretrained', str(weights), '--out', str(path)])
    said = capsys.readouterr().out
    assert 'largest difference from open_clip' in said and 'not known of a file' in said
    assert ('sigmoid' in said) == (name == 'sigmoid')
    about = open_clip.get_model_preprocess_cfg(model)
    prepare = open_clip.image_transform(about['size'], False, about['mean'], about['std'],
                                        about['resize_mode'], about['interpolation'])
    with torch.inference_mode():
        wanted = functional.normalize(model.encode_image(torch.stack(
            [prepare(Image.fromarray(frame)) for frame in frames])), dim=-1).numpy()
        text = functional.normalize(model.encode_text(
            open_clip.get_tokenizer(f'small_{name}')(['a mug', 'two red mugs'])), dim=-1).numpy()
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-4  # else nothing is compared
    student: Any = checkpoint.load(path)
    runtimes = [create(student, 'cpu', half=False)]
    if name in ALL_RUNTIMES:
        export.main(['--checkpoint', str(path), '--out', str(path.with_suffix('.onnx'))])
        export.main(['--checkpoint', str(path), '--graph'])
        student = checkpoint.open_stored(path, tmp_path / 'graphs')
        runtimes += [create(student, device, half=False) for device in ('cpu', 'onnx:cpu')]
        assert not (tmp_path / 'graphs').exists()  # as the graph beside it was used
    for runtime, kind in zip(runtimes, ('OpenVINO', 'OpenVINO', 'ONNX'), strict=False):
        assert kind in runtime.description
        np.testing.assert_allclose(runtime.embed([Frame(frame) for frame in frames]), wanted,
                                   atol=1e-4)
    spec = student.spec
    assert spec.temperature == pytest.approx(np.exp(-4.0)) and spec.backbone == f'small_{name}'
    found = ClipText(spec.text_tower, path.parent).encode(['a mug', 'two red mugs'])
    np.testing.assert_allclose(found.rows, text, atol=1e-5)


@pytest.mark.long
def test_maps_of_a_model_with_a_convolutional_trunk(tmp_path: Path) -> None:
    _, weights = write('mobileclip', tmp_path)
    path = tmp_path / 'taken.safetensors'
    export.main(['--from-clip', 'small_mobileclip', '--pretrained', str(weights), '--out',
                 str(path)])
    student = checkpoint.load(path)
    image = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        cells, whole = Cells(student)(image), student(image)
        assert cells.shape == (2, 2, 3, 8)
        assert torch.cosine_similarity(cells.mean((1, 2)), whole).min() > 0.9
    frame = Frame(np.zeros((64, 96, 3), np.uint8))
    rows = create(student, 'cpu', half=False).open_cells(student)(frame, 64)
    assert rows.shape == (2, 3, 8)


@pytest.mark.parametrize(('arguments', 'expected'), [
    (['--from-clip', 'ViT-B-33', '--pretrained', __file__], 'near it: ViT-B-32'),
    (['--from-clip', 'ViT-B-32', '--pretrained', 'none'], "got 'none'; or name a file"),
    (['--from-clip', 'ViT-H-14', '--pretrained', __file__], 'name the one that yours are like'),
    (['--from-clip', 'ViT-B-32', '--pretrained', __file__, '--like', 'mine'],
     'expected a pretrained tag of ViT-B-32'),
    (['--from-clip', 'ViT-B-32', '--pretrained', __file__, '--like', 'openai'],
     'could not be loaded as its weights')])
def test_what_cannot_be_taken_is_one_line(arguments: list[str], expected: str, tmp_path: Path
                                          ) -> None:
    with pytest.raises(SystemExit) as caught:
        export.main([*arguments, '--out', str(tmp_path / 'out.safetensors')])
    said = str(caught.value)
    assert said.startswith('export: ') and expected in said and '\n' not in said
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_with_a_tower_that_cannot_be_built_is_refused(tmp_path: Path) -> None:
    _, weights = write('vit', tmp_path)
    path = tmp_path / 'taken.safetensors'
    export.main(['--from-clip', 'small_vit', '--pretrained', str(weights), '--out', str(path)])
    spec = checkpoint.open_stored(path, tmp_path).spec
    for vision in ({}, {'layers': 'two'}, {'layers': 10**9}, {'nonsense': 1},
                   {'timm_model_name': 'no_such'}, {'timm_model_name': 'hf-hub:a/b'},
                   {'timm_model_name': 3}):
        object.__setattr__(spec, 'image_tower', {'vision_cfg': vision})
        checkpoint.write_spec(path, spec, tmp_path / 'bad.safetensors')
        with pytest.raises(ValueError, match='^checkpoint [^\n]*$'):
            checkpoint.load(tmp_path / 'bad.safetensors')


def test_every_weight_that_open_clip_lists_has_a_licence_or_none_is_known() -> None:
    about = [open_clip.get_pretrained_cfg(*pair) for pair in open_clip.list_pretrained()]
    found = {entry['hf_hub']: licences.find(entry['hf_hub']) for entry in about}
    assert found['timm/MobileCLIP2-S0-OpenCLIP/'].robots is False
    assert found['timm/vit_base_patch32_clip_224.metaclip_400m/'].name == 'cc-by-nc-4.0'
    assert found['laion/CLIP-ViT-B-32-laion2B-s34B-b79K/'].robots is True
    assert sum(licence.name == 'unknown' for licence in found.values()) < 0.3 * len(found)
