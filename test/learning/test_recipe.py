"""Recipes: the shipped ones, what is refused and how, and the command line."""
from dataclasses import fields, is_dataclass
import json
from pathlib import Path
import re
import typing

import pytest
from training import distill
from training.recipe import Recipe, Stage
from training.recipe_file import plain, read
import yaml

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / 'config' / 'distill').glob('*.yaml'))


def write(folder: Path, text: str) -> Path:
    path = folder / 'recipe.yaml'
    path.write_text(text)
    return path


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_load(path: Path) -> None:
    recipe = read(path)
    assert recipe.name == path.stem
    assert recipe.data.images.is_absolute()
    for file in (recipe.data.vocabulary, recipe.data.split):
        assert file is None or (file.is_absolute() and file.exists())
    for key, value in yaml.safe_load(path.read_text()).items():
        if not isinstance(value, (dict, list)):
            assert getattr(recipe, key) == value
    assert f'--config config/distill/{path.name}' in path.read_text()


def test_the_papers_recipes_are_shipped() -> None:
    assert {'erm', 'kd', 'ood', 'vl2v_adip', 'vl2v_sd'} <= {path.stem for path in SHIPPED}


@pytest.mark.parametrize('text, message', [
    ('colour: red', 'colour: no such key; known are name, data, teacher, .*, save_every'),
    ('loss: {cls: 1, mze: 1}', r'loss\.mze: no such key; known are cls, mse, im_cst'),
    ('stages: [{train: all, rates: 1}]', r'stages\.rates: no such key; known are train, epochs'),
    ('augmentation: {size: 1}', r'augmentation\.size: no such key; known are scale, flip'),
    ('data: {1: 2}', r'data\.1: no such key'),
    ('batch: many', "batch: expected int, got 'many'"),
    ('batch: 3.5', 'batch: expected int, got 3.5'),
    ('batch: true', 'batch: expected int, got True'),
    ('temperature: warm', "temperature: expected float, got 'warm'"),
    ('temperature: yes', 'temperature: expected float, got True'),
    ('name: 5', 'name: expected str, got 5'),
    ('data: {enrich: 1}', r'data\.enrich: expected bool, got 1'),
    ('data: {images: [a]}', r"data\.images: expected Path, got \['a'\]"),
    ('data: {domains: dim}', r"data\.domains: expected a list, got 'dim'"),
    ('data: folder', "data: expected a mapping, got 'folder'"),
    ('augmentation: {scale: [1]}', r'augmentation\.scale: expected 2 values, got \[1\]'),
    ('augmentation: {rand_augment: [2, a]}', r"rand_augment: expected int, got 'a'"),
    ('- a', 'its content: expected a mapping'), ('', 'its content: expected a mapping'),
    ('a: [', 'expected a YAML file')])
def test_what_is_no_recipe_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize('text, message', [
    ('stages: []', 'stages: expected at least one, each training one of all, backbone, projector'),
    ('stages: [{train: head}]', 'stages: .*head'), ('stages: [{epochs: 0}]', 'stages: expected'),
    ('stages: [{rate: .inf}]', 'stages: expected'), ('stages: [{rate: .nan}]', 'stages: expected'),
    ('temperature: 0', 'temperature: expected a positive number, got 0.0'),
    ('temperature: .nan', 'temperature: expected'), ('k: 0', 'k: expected at least 1'),
    ('views: -1', 'views: expected'), ('average: 1.5', 'average: expected a fraction'),
    ('batch: 1', 'batch: expected at least 2'), ('workers: -1', 'workers: expected'),
    ('save_every: 0', 'save_every: expected'), ('seed: -1', 'seed: expected'),
    ('weight_decay: -1', 'weight_decay: expected'), ('name: a/b', 'name: expected'),
    ('precision: 8-bit', "precision: expected one of 32-true, bf16-mixed.*got '8-bit'"),
    ('student: {projector: cubic}', r'student\.projector: expected one of linear, mlp, got'),
    ('data: {hold_out: 1}', r'data\.hold_out: expected'),
    ('augmentation: {hue: 2}', r'augmentation\.hue: expected a fraction of the colour circle'),
    ('loss: {cls: -1}', r'loss\.cls: expected a weight of 0 or more, got -1\.0'),
    ('loss: {cls: 0}', r'loss\.weights: expected a weight above 0 for at least one term')])
def test_values_out_of_range_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path, text))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='none.yaml: expected a YAML file'):
        read(tmp_path / 'none.yaml')


def test_values_become_what_the_fields_are(tmp_path: Path) -> None:
    recipe = read(write(tmp_path, """
        data: {images: pictures, test: /elsewhere, split: null, templates: [a, b]}
        stages: [{rate: 1e-3, epochs: 2}, {train: backbone}]
        augmentation: {scale: [0.5, 1], rand_augment: [2, 9]}
        weight_decay: 0"""))
    assert recipe.data.images == ROOT / 'pictures'
    assert recipe.data.test == Path('/elsewhere')
    assert recipe.data.split is None
    assert recipe.data.templates == ('a', 'b')
    assert recipe.stages == (Stage('all', 2, 1e-3), Stage('backbone'))
    assert recipe.augmentation.scale == (0.5, 1.0)
    assert recipe.augmentation.rand_augment == (2, 9)
    assert isinstance(recipe.weight_decay, float)


def test_recipes_can_be_written_down(tmp_path: Path) -> None:
    for path in SHIPPED:
        recipe = read(path)
        text = json.dumps(plain(recipe))  # which is YAML, too
        assert read(write(tmp_path, text)) == recipe


# The command line

def command_line(*arguments: str) -> Recipe:
    return distill.parse(list(arguments))


def test_any_field_can_be_changed() -> None:
    recipe = command_line(
        '--config', str(ROOT / 'config/distill/vl2v_adip.yaml'), '--name', 'mine', '--seed', '3',
        '--stages.1.epochs', '7', '--loss.mse', '0.25', '--data.domains', 'dim', 'toon',
        '--augmentation.scale', '0.2', '0.9', '--data.no-enrich', '--data.test', 'pictures',
        '--student.backbone', 'test_vit', '--teacher.model', 'http://localhost:1')
    shipped = read(ROOT / 'config/distill/vl2v_adip.yaml')
    assert (recipe.name, recipe.seed, recipe.loss.mse) == ('mine', 3, 0.25)
    assert [stage.epochs for stage in recipe.stages] == [shipped.stages[0].epochs, 7]
    assert recipe.loss.img_cos == shipped.loss.img_cos
    assert recipe.data.domains == ('dim', 'toon')
    assert recipe.augmentation.scale == (0.2, 0.9)
    assert not recipe.data.enrich
    assert recipe.data.test == Path('pictures')
    assert recipe.student.backbone == 'test_vit'
    assert recipe.teacher.model == 'http://localhost:1'
    assert recipe.optimizer == shipped.optimizer


def options(kind: type, where: str = '') -> list[str]:
    """Return the option of every field; those of stages and sources are numbered."""
    found = []
    for entry in fields(kind):
        value, name = typing.get_type_hints(kind)[entry.name], where + entry.name.replace('_', '-')
        if is_dataclass(value):
            found += options(value, f'{name}.')
        elif is_dataclass(one := (*typing.get_args(value), None)[0]):
            found += options(one, f'{name}.0.')
        else:
            found.append(name)
    return found


def test_help_has_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command_line('--config', str(ROOT / 'config/distill/clip.yaml'), '--help')
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert len(options(Recipe)) > 50
    assert [name for name in options(Recipe) if not re.search(rf'--{name}[ ,]', text)] == []


@pytest.mark.parametrize('arguments, said', [
    (['--los.cls', '1'], '--los.cls'), (['--seed', 'x'], 'seed'),
    (['--temperature', '-1'], 'temperature: expected a positive number, got -1.0'),
    (['--augmentation.hue', '2'], 'hue: expected'), (['--loss.cls', '-2'], 'got -2.0'),
    (['--stages.0.train', 'head'], 'stages: expected')])
def test_wrong_options_are_named(arguments: list[str], said: str,
                                 capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command_line(*arguments)
    assert stop.value.code == 2
    shown = ' '.join(capsys.readouterr().err.replace('│', ' ').split())
    assert said in shown
