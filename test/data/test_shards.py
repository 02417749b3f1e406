"""Shards: tar files that hold what the folders hold."""
import json
from pathlib import Path
import shutil

import pytest
from support.image_folders import read_all, same, write_image
import torch
from training.data import image_index, images, shards
from training.rendering import dataset_files


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """Return a dataset as render.py writes it, of noise: 12 single images, 2 scenes; sharded."""
    out, records = tmp_path / 'out #1 {a,b} ö', []
    for domain in ('dim', 'toon'):
        for name in ('ice cream', 'Ölkanne 1.5'):
            for number in range(3):
                file = f'single/{domain}/{name}/{number:05d}.jpg'
                write_image(out / file, len(records))
                records.append({'file': file, 'kind': 'single', 'domain': domain,
                                'objects': [{'class': name, 'box': [0, 0, 9, 9], 'visible': 1.0}]})
        file = f'clutter/{domain}/00000_base.jpg'
        write_image(out / file, len(records))
        records.append({'file': file, 'kind': 'clutter', 'domain': domain,
                        'objects': [{'class': 'ice cream', 'box': [0, 0, 9, 9], 'visible': 0.5},
                                    {'class': 'Ölkanne 1.5', 'box': [0, 0, 9, 9],
                                     'visible': 0.01}]})
    (out / 'dataset.json').write_text(json.dumps({
        'classes': ['ice cream', 'Ölkanne 1.5'], 'domains': {'dim': '', 'toon': ''}}))
    dataset_files.write_shards(out, records, 4)
    return out


@pytest.mark.parametrize('augmentation', [None, images.Augmentation()])
def test_shards_hold_what_the_folders_hold(
        rendered: Path, augmentation: images.Augmentation | None) -> None:
    found = shards.find_shards(rendered)
    assert len(found.urls) == 3
    log = rendered / 'corrupt.txt'
    dataset = shards.ShardImages(found, 16, log, augmentation)
    # Read from above `single`, so that names agree.
    index = image_index.read_folders(rendered / 'single')
    assert found.class_names == index.class_names
    assert found.domain_names == index.domain_names
    by_file = {f'single/{file}': row for row, file in enumerate(index.files)}
    prepare = images.Preparation(16, augmentation, 'shortest', 0)
    samples = list(dataset)
    assert sorted(sample.name for sample in samples) == sorted(by_file)
    for sample in samples:
        row = by_file[sample.name]
        assert sample.label == index.labels[row]
        assert sample.domain == index.domains[row]
        assert torch.equal(sample.image, prepare(index.read(row), sample.name))
    assert dataset.corrupt() == ()


def test_scenes_of_shards_have_the_classes_present(rendered: Path) -> None:
    dataset = shards.ShardImages(shards.find_shards(rendered, 'clutter'), 16, rendered / 'log')
    assert [sample.label.tolist() for sample in dataset] == [[True, False]] * 2


def test_shards_are_dealt_to_workers_and_shuffled_by_seed(rendered: Path) -> None:
    found, log = shards.find_shards(rendered), rendered / 'log'
    dataset = shards.ShardImages(found, 16, log, images.Augmentation(), seed=1, shuffle=8)
    here = read_all(dataset, 0)
    assert len(here) == 12
    assert list(here) == list(read_all(dataset, 0))
    assert same(here, read_all(dataset, 2))
    other = shards.ShardImages(found, 16, log, images.Augmentation(), seed=2, shuffle=8)
    assert list(here) != list(read_all(other, 0))
    dataset.set_epoch(1)
    later = read_all(dataset, 0)
    assert list(here) != list(later)
    assert not same(here, later)


def test_corrupt_samples_of_shards_are_named_once(rendered: Path) -> None:
    records = [{'file': f'single/dim/ice cream/{number:05d}.jpg', 'kind': 'single',
                'domain': 'dim', 'objects': [{'class': 'ice cream'}]} for number in range(3)]
    whole = (rendered / records[2]['file']).read_bytes()
    (rendered / records[1]['file']).write_bytes(b'')
    (rendered / records[2]['file']).write_bytes(whole[:len(whole) // 2])
    shutil.rmtree(rendered / 'shards')
    dataset_files.write_shards(rendered, records, 1)
    dataset = shards.ShardImages(shards.find_shards(rendered), 16, rendered / 'log')
    for _ in range(2):
        assert list(read_all(dataset, 2)) == [records[0]['file']]
    named = dataset.corrupt()
    assert [line.partition(': ')[0] for line in named] == [
        record['file'].removesuffix('.jpg') for record in records[1:]]
    assert 'got 0 bytes' in named[0]
    assert 'expected a whole JPEG' in named[1]


def test_shard_that_is_cut_off_is_named(rendered: Path) -> None:
    found = shards.find_shards(rendered)
    first = Path(found.urls[0])
    first.write_bytes(first.read_bytes()[:700])
    dataset = shards.ShardImages(found, 16, rendered / 'log')
    assert len(list(dataset)) == 8
    assert len(dataset.corrupt()) == 1
    assert first.name in dataset.corrupt()[0]


def test_shards_of_other_classes_are_refused(rendered: Path) -> None:
    found = shards.find_shards(rendered)
    dataset = shards.ShardImages(shards.Shards(found.urls, ('cup',), found.domain_names), 16,
                                 rendered / 'log')
    with pytest.raises(ValueError, match='expected one of cup, got .* do not belong together'):
        list(dataset)


def test_missing_shards_are_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'render\.py --shards N writes them'):
        shards.find_shards(tmp_path)
