"""Shards at an address: they hold what a folder's do, and what goes wrong is said."""
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
import json
import os
from pathlib import Path
import subprocess
import sys

import pytest
from support.coloured_data import RECIPE, write_data
from support.image_folders import read_all, same
from support.storage_server import serving, StorageServer
from training import distill
from training.data import shards, storage
from training.data.image_index import read_folders
from training.data.images import Augmentation
from training.learning import batches
from training.recipe import address_of, Data, Loss, Recipe, TeacherSource
from training.recipe_file import plain, read
from training.rendering import dataset_files

ROOT = Path(__file__).parents[2]
SECOND = 'shards/single-000001.tar'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a dataset of 24 images in six shards, which dataset.json names."""
    root = tmp_path / 'data'
    card = root / 'dataset.json'
    names = dataset_files.write_shards(root, write_data(root), 4)
    card.write_text(json.dumps({**json.loads(card.read_text()), 'shards': names}))
    return root


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith('_proxy')]:
        monkeypatch.delenv(name)


@pytest.fixture
def server(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageServer]:
    monkeypatch.setattr(storage, 'PAUSES', (0.01, 0.01))
    with serving(data) as server:
        yield server


def images(root: Path, log: Path, **fields: object) -> shards.ShardImages:
    return shards.ShardImages(shards.find_shards(root), 16, log, Augmentation(), seed=1, **fields)


@pytest.mark.parametrize('workers', [0, 2])
def test_shards_at_an_address_hold_what_those_of_a_folder_do(
        server: StorageServer, data: Path, tmp_path: Path, workers: int) -> None:
    there = read_all(images(Path(server.url), tmp_path / 'log', shuffle=8), workers)
    here = read_all(images(data, tmp_path / 'log', shuffle=8), workers)
    assert list(there) == list(here) and len(here) == 24
    assert same(there, here)
    assert not (tmp_path / 'log').exists()
    assert [path.name for path in tmp_path.iterdir()] == ['data']  # nothing is kept on disk


def test_connection_that_breaks_is_made_again(server: StorageServer, tmp_path: Path) -> None:
    server.faults = {SECOND: ['cut', '503'], 'dataset.json': ['429', 'cut']}
    dataset = images(Path(server.url), tmp_path / 'log')
    assert len(read_all(dataset, 0)) == 24
    assert dataset.corrupt() == ()
    assert server.faults == {SECOND: [], 'dataset.json': []}


@pytest.mark.parametrize(('fault', 'said'), [
    ('cut', 'payload'), ('500', '500'), ('403', 'expected to be allowed to read it, was refused'),
    ('gone', 'expected a file, found none')])
def test_shard_that_does_not_come_is_named_and_left_out(
        server: StorageServer, data: Path, tmp_path: Path, fault: str, said: str) -> None:
    if fault == 'gone':
        (data / SECOND).unlink()
    else:
        server.always[SECOND] = fault
    dataset = images(Path(server.url), tmp_path / 'log')
    assert len(read_all(dataset, 0)) == 20
    named, = dataset.corrupt()
    assert named.startswith(f'{server.url}/{SECOND}: ') and said in named.lower(), named
    assert server.requests.count(f'GET {SECOND}') <= 1 + len(storage.PAUSES)
    server.always.clear()
    assert len(read_all(dataset, 0)) == (20 if fault == 'gone' else 24)  # the next turn


def test_shard_of_a_folder_that_is_missing_is_named(data: Path, tmp_path: Path) -> None:
    (data / SECOND).unlink()
    dataset = images(data, tmp_path / 'log')
    assert len(read_all(dataset, 0)) == 20
    assert dataset.corrupt() == (f'{data / SECOND}: No such file or directory',)


def test_storage_that_went_away_ends_the_training_with_the_reason(
        server: StorageServer, data: Path, tmp_path: Path) -> None:
    found = shards.find_shards(Path(server.url))
    for file in (data / 'shards').iterdir():
        file.unlink()
    source = batches.Endless(lambda epoch: shards.ShardImages(found, 16, tmp_path / 'log'),
                             {0: 0}, frozenset([0, 1]), 0)
    with pytest.raises(ValueError, match='found none in 10 turns.*; left out: http.*single-000000'
                                         '.tar: expected a file, found none'):
        next(iter(source))


# Addresses

@pytest.mark.parametrize(('status', 'said'), [
    ('404', 'expected a file, found none .*; correct the address'),
    ('401', 'expected to be allowed to read it, was refused .*; give the credentials that docs/'),
    ('500', '500')])
def test_address_that_leads_nowhere_is_said(server: StorageServer, status: str, said: str
                                            ) -> None:
    server.always['dataset.json'] = status
    with pytest.raises(ValueError, match=f'^{server.url}/dataset.json: {said}[^\n]*$'):
        shards.find_shards(Path(server.url))


def test_storage_out_of_reach_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, 'PAUSES', (0.01,))
    with pytest.raises(ValueError, match='^http://127.0.0.1:9/x/dataset.json: [^\n]*'
                                         r'\(ClientConnectorError\)$'):
        shards.find_shards(Path('http://127.0.0.1:9/x'))


@pytest.mark.parametrize(('address', 'package'), [('s3://none/x', 's3fs'), ('gs://none', 'gcsfs')])
def test_library_that_is_missing_is_named(address: str, package: str) -> None:
    if find_spec(package):
        pytest.skip(f'{package} is there')
    with pytest.raises(ValueError, match=f'^{address}/dataset.json: expected the Python package '
                                         f'{package}, which reads .*, found none .*; .venv/bin/pip'
                                         f' install {package}==[0-9.]+$'):
        shards.find_shards(Path(address))


@pytest.mark.parametrize('address', [
    'pipe:touch done', 'pipe:/usr/bin/touch done', 'file:///etc', 'ssh://host/x', 's3://',
    'simplecache::s3://a/b', 'github://a/b'])
def test_nothing_else_is_opened_and_no_command_is_run(
        address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match='expected'):
        shards.find_shards(Path(address))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('name', ['pipe:touch done', '../x.tar', 's3://a/x.tar', 3])
def test_names_of_shards_are_those_of_files(data: Path, name: object) -> None:
    card = json.loads((data / 'dataset.json').read_text())
    (data / 'dataset.json').write_text(json.dumps({**card, 'shards': [name]}))
    with pytest.raises(ValueError, match='dataset.json: expected a list of names such as single-'):
        shards.find_shards(data)


def test_password_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match='expected an address without user') as caught:
        shards.find_shards(Path('https://me:secret@host/x'))
    assert 'secret' not in str(caught.value)


def test_address_stays_one_in_a_recipe(tmp_path: Path) -> None:
    (tmp_path / 'recipe.yaml').write_text(
        'data: {images: "s3://bucket/a/b", shards: true, test: data/ycb_sample/single}')
    recipe = read(tmp_path / 'recipe.yaml')
    assert address_of(recipe.data.images) == 's3://bucket/a/b'
    assert plain(recipe)['data']['images'] == 's3://bucket/a/b'
    assert distill.parse(['--config', str(tmp_path / 'recipe.yaml'), '--data.images',
                          'gs://other/c']).data.images == Path('gs://other/c')
    assert address_of(recipe.data.test) == '' and address_of(Path('/a:/b')) == ''
    for fields, said in (({'shards': False}, 'expected data.shards beside the address s3://bucket/a/b'),
                         ({'test': Path('https://a/b')}, 'expected a folder on disk, got the')):
        with pytest.raises(ValueError, match=said):
            replace(recipe, data=replace(recipe.data, **fields))


@pytest.mark.long
def test_student_is_distilled_from_an_address(
        server: StorageServer, data: Path, tmp_path: Path, cache_dir: Path) -> None:
    def train(images: Path, name: str) -> bytes:
        recipe: Recipe = replace(
            RECIPE, name=name, out=tmp_path / 'runs', loss=Loss(cls=1, im_cst=1),
            teacher=TeacherSource('support.coloured_data:make_teacher', ''),
            data=Data(images=images, shards=True, test=data / 'single', enrich=False))
        result = distill.distill(recipe, distill.make_fabric(recipe))
        assert result['table'][0]['count'] == 24
        return (tmp_path / f'runs/{name}_seed0/student.safetensors').read_bytes()

    there, here = train(Path(server.url), 'one'), train(data, 'two')
    assert len(there) == len(here)
    assert there.replace(b'recipe one', b'recipe two') == here


def test_photos_are_packed_by_the_example(data: Path, tmp_path: Path) -> None:
    out = tmp_path / 'packed'
    (data / 'single/day/red/broken.jpg').write_bytes(b'no image')
    done = subprocess.run([sys.executable, ROOT / 'examples/photos_as_shards.py', data / 'single',
                           out, '5'], capture_output=True, text=True, timeout=120)
    assert done.stdout == '24 images in 5 shards, 1 left out\n', done.stderr
    found = shards.find_shards(out)
    assert len(found.urls) == 5
    assert found.counts == {'single/day': 12, 'single/night': 12}
    packed = {sample.name: sample for sample in shards.ShardImages(found, 16, tmp_path / 'log')}
    index = read_folders(data / 'single')
    assert packed.keys() == {*index.files}
    assert (found.class_names, found.domain_names) == (index.class_names, index.domain_names)
    for row, file in enumerate(index.files):
        assert packed[file].label == index.labels[row]
        assert packed[file].domain == index.domains[row]
