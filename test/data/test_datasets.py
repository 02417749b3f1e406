"""Datasets from files and from shards: what is read, split, augmented, and what is left out."""
from collections.abc import Sequence
import json
import os
from pathlib import Path
import shutil

import cv2
import numpy as np
from PIL import Image
import pytest
import torch
from torch.utils.data import DataLoader
from training.data import coco, image_index, images, shards, splits, task
from training.recipe import Augmentation
from training.rendering import dataset_files
from vl2v_ros.images.encodings import decode
from vl2v_ros.images.frame import Frame, to_rgb
from vl2v_ros.images.preprocess import preprocess
import yaml

ROOT = Path(__file__).parents[2]
SPLIT = ROOT / 'config' / 'splits' / 'ycb_robot.yaml'
# papers.md's lists, counted by their numbers in the YCB set.
ID = (2, 6, 11, 13, 15, 24, 30, 32, 35, 37, 48, 56, 58, 62)
OOD = (3, 12, 14, 16, 17, 21, 26, 31, 36, 43, 53, 77)


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (40, 30)) -> np.ndarray:
    """Write noise, width x height; return it as (H, W, 3) RGB, exact for PNG."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    pixels = cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, pixels[..., ::-1])[1].tobytes())
    return pixels


def write_folders(root: Path, domains: Sequence[str], classes: Sequence[str], count: int = 2
                  ) -> Path:
    for number, domain in enumerate(domains):
        for label, name in enumerate(classes):
            for image in range(count):
                write_image(root / domain / name / f'pic_{image:03d}.jpg',
                            100 * number + 10 * label + image)
    return root


def write_coco(folder: Path, pictures: dict[str, list[tuple[str, list[float], dict]]],
               names: Sequence[str], size: tuple[int, int] = (40, 30)) -> None:
    """Write PNG images and annotations.json; pictures: file -> (class, box, more fields)."""
    content = {'images': [], 'annotations': [],
               'categories': [{'id': 7 * at, 'name': name} for at, name in enumerate(names)]}
    for number, (file, objects) in enumerate(pictures.items()):
        write_image(folder / file, number, size)
        content['images'].append({'id': number, 'file_name': file, 'width': size[0],
                                  'height': size[1]})
        for name, box, more in objects:
            content['annotations'].append({
                'id': len(content['annotations']), 'image_id': number, 'bbox': box,
                'category_id': 7 * list(names).index(name), **more})
    (folder / 'annotations.json').write_text(json.dumps(content), encoding='utf-8')


# Folders

def test_pacs_layout_is_read_unchanged(tmp_path: Path) -> None:
    domains, classes = ('art_painting', 'cartoon', 'photo', 'sketch'), ('dog', 'elephant')
    index = image_index.read_folders(write_folders(tmp_path, domains, classes))
    assert index.domain_names == domains
    assert index.class_names == classes
    assert len(index) == 16
    assert index.corrupt == ()
    for row, file in enumerate(index.files):
        domain, name, _ = file.split('/')
        assert index.domain_names[index.domains[row]] == domain
        assert index.class_names[index.labels[row]] == name


def test_folder_of_classes_is_one_domain(tmp_path: Path) -> None:
    write_folders(tmp_path, ['my photos'], ['cup', 'mug'])
    index = image_index.read_folders(tmp_path / 'my photos')
    assert index.domain_names == ('my photos',)
    assert index.class_names == ('cup', 'mug')
    assert index.files[0] == 'cup/pic_000.jpg'


def test_names_with_spaces_and_unicode(tmp_path: Path) -> None:
    names = ('Ölkanne', 'ice cream', '茶碗', "baker's #1 @home")
    index = image_index.read_folders(write_folders(tmp_path, ['büro', 'b 2'], names))
    assert index.class_names == tuple(sorted(names))
    assert index.read(0).shape == (30, 40, 3)
    assert len({index.name(row) for row in range(len(index))}) == len(index)


def test_both_forms_of_an_accent_are_one_class(tmp_path: Path) -> None:
    write_image(tmp_path / 'a' / 'caf\u00e9' / '0.jpg')
    write_image(tmp_path / 'b' / 'cafe\u0301' / '0.jpg')
    assert image_index.read_folders(tmp_path).class_names == ('caf\u00e9',)


def test_other_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    write_folders(tmp_path, ['a'], ['x', 'y'], 1)
    write_image(tmp_path / 'a' / 'x' / '._pic.jpg')
    write_image(tmp_path / '.parts' / 'x' / 'pic.jpg')
    (tmp_path / 'a' / 'annotations.json').write_text('{}')
    (tmp_path / 'a' / 'x' / 'readme.txt').write_text('no image')
    write_image(tmp_path / 'a' / 'y' / 'UPPER.png').tobytes()
    (tmp_path / 'a' / 'y' / 'UPPER.png').rename(tmp_path / 'a' / 'y' / 'UPPER.PNG')
    index = image_index.read_folders(tmp_path)
    assert index.files == ('a/x/pic_000.jpg', 'a/y/UPPER.PNG', 'a/y/pic_000.jpg')


@pytest.mark.parametrize('files, message', [
    ([], r'expected images .* found none$'),
    (['1.jpg'], 'found 1.jpg'),
    (['a/1.jpg', 'a/b/2.jpg'], r'found a/1\.jpg and a/b/2\.jpg'),
    (['single/a/b/1.jpg'], r'name the folder of the domains'),
])
def test_images_elsewhere_are_refused(tmp_path: Path, files: list[str], message: str) -> None:
    for file in files:
        write_image(tmp_path / file)
    with pytest.raises(ValueError, match=message):
        image_index.read_folders(tmp_path)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='there is no such folder'):
        image_index.read_folders(tmp_path / 'nowhere')


def test_annotated_scenes_are_not_taken_for_classes(tmp_path: Path) -> None:
    write_coco(tmp_path / 'dim', {'0.png': []}, ['cup'])
    with pytest.raises(ValueError, match='coco.py has read_crops, read_scenes'):
        image_index.read_folders(tmp_path)


@pytest.mark.parametrize('name, label', [
    ('011_banana', 'banana'), ('002_master_chef_can', 'master chef can'),
    ('063-a_marbles', 'marbles'), ('alarm_clock', 'alarm clock'), ('Ölkanne', 'Ölkanne'),
    ('ice cream', 'ice cream'), ('7_up', '7 up'), ('011_', '011 '), ('1011_x', '1011 x')])
def test_label_of(name: str, label: str) -> None:
    assert image_index.label_of(name) == label


# Corrupt images

def spoil(folder: Path) -> dict[str, str]:
    """Break images of a class folder; return their names and a part of the reason."""
    whole = (folder / 'pic_000.jpg').read_bytes()
    (folder / 'cut.jpg').write_bytes(whole[:len(whole) // 2])
    (folder / 'empty.jpg').write_bytes(b'')
    (folder / 'text.png').write_text('not an image at all')
    png = cv2.imencode('.png', np.arange(1200, dtype=np.uint8).reshape(20, 20, 3))[1].tobytes()
    (folder / 'cut.png').write_bytes(png[:len(png) // 2])
    (folder / 'gone.jpg').symlink_to(folder / 'nowhere.jpg')
    return {'cut.jpg': 'expected a whole jpeg', 'empty.jpg': '0 bytes',
            'text.png': '19 bytes of another format', 'cut.png': 'expected a png',
            'gone.jpg': 'no such file'}


def test_corrupt_files_are_left_out_and_named(tmp_path: Path) -> None:
    root = write_folders(tmp_path, ['a', 'b'], ['x', 'y'])
    broken = spoil(root / 'b' / 'x')
    index = image_index.read_folders(root)
    assert len(index) == 8
    assert len(index.corrupt) == len(broken)
    for line in index.corrupt:
        file, _, reason = line.partition(': ')
        assert broken.pop(file.removeprefix('b/x/')) in reason.lower()
        assert file not in index.files
    loader = DataLoader(images.Images(index, 16), batch_size=3, num_workers=2)
    assert sorted(name for batch in loader for name in batch.name) == sorted(index.files)


def test_names_that_are_no_utf8_can_be_trained_on(
        tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for name in (b'caf\xe9.jpg', b'cup.jpg'):
        write_image(tmp_path / 'a' / 'x' / 'new.jpg').tobytes()
        (tmp_path / 'a/x/new.jpg').rename(tmp_path / 'a/x' / os.fsdecode(name))
    (tmp_path / 'a/x' / os.fsdecode(b'b\xe4d.jpg')).write_bytes(b'')
    index = image_index.read_folders(tmp_path)
    task.report_corrupt(index)
    assert br'left out: a/x/b\xe4d.jpg: expected' in capfdbinary.readouterr().out
    loader = DataLoader(images.Images(index, 16, Augmentation()), batch_size=2, num_workers=1)
    assert [name for batch in loader for name in batch.name] == list(index.files)


def test_folder_of_corrupt_files_only(tmp_path: Path) -> None:
    (tmp_path / 'x').mkdir()
    (tmp_path / 'x' / '0.jpg').write_bytes(b'')
    with pytest.raises(ValueError, match='none of its 1 images can be read.*got 0 bytes'):
        image_index.read_folders(tmp_path)


def test_file_that_breaks_later_is_named(tmp_path: Path) -> None:
    index = image_index.read_folders(write_folders(tmp_path, ['a'], ['x']))
    (tmp_path / 'a' / 'x' / 'pic_001.jpg').write_bytes(b'')
    with pytest.raises(ValueError, match=r'pic_001\.jpg: expected a .* got 0 bytes'):
        images.Images(index, 16)[1]


@pytest.mark.parametrize('pixels', [
    np.full((8, 9), 100, np.uint8), np.full((8, 9), 100 * 256 + 7, np.uint16),
    np.full((8, 9, 4), 100, np.uint8), np.full((8, 9, 3), 100, np.uint8)])
def test_rgb_is_read_of_any_kind(tmp_path: Path, pixels: np.ndarray) -> None:
    (tmp_path / 'x').mkdir()
    cv2.imwrite(str(tmp_path / 'x' / '0.png'), pixels)
    decoded = image_index.read_folders(tmp_path).read(0)
    assert decoded.dtype == np.uint8
    assert decoded.shape == (8, 9, 3)
    assert (decoded == 100).all()


def test_training_sees_what_the_robot_sees(tmp_path: Path) -> None:
    write_image(tmp_path / 'x' / '0.jpg', size=(64, 48))
    data = (tmp_path / 'x' / '0.jpg').read_bytes()
    (tmp_path / 'x' / '1.jpg').write_bytes(data + bytes(5000))  # as cameras pad their buffers
    (tmp_path / 'x' / '2.jpg').write_bytes(data[:-300] + bytes(5000))
    index = image_index.read_folders(tmp_path)
    assert index.files == ('x/0.jpg', 'x/1.jpg')
    for row in range(2):
        assert np.array_equal(index.read(row), to_rgb(decode(data)))


# COCO

BOXES = {'0.png': [('cup', [4, 5, 20, 10], {'visible': 0.9}),
                   ('tea pot', [10.5, 2.2, 12.0, 9.9], {})],
         '1.png': [('cup', [30, 20, 20, 20], {'visible': 0.05}),
                   ('cup', [0, 0, 40, 30], {'iscrowd': 1}),
                   ('tea pot', [0, 0, 40, 7], {}), ('cup', [25, 15, 30, 30], {'visible': 0.3})],
         '2.png': []}
NAMES = ('tea pot', 'cup', 'unused')


def test_crops_are_exact(tmp_path: Path) -> None:
    write_coco(tmp_path / 'dim', BOXES, NAMES)
    index = coco.read_crops(tmp_path, margin=0)
    assert index.class_names == ('cup', 'tea pot', 'unused')
    assert index.domain_names == ('dim',)
    assert index.files == ('dim/0.png', 'dim/0.png', 'dim/1.png')
    assert [index.class_names[label] for label in index.labels] == ['cup', 'tea pot', 'cup']
    assert index.boxes.tolist() == [[4, 5, 20, 10], [10, 2, 13, 11], [25, 15, 15, 15]]
    first, second = write_image(tmp_path / 'a.png', 0), write_image(tmp_path / 'b.png', 1)
    assert (index.read(0) == first[5:15, 4:24]).all()
    assert (index.read(1) == first[2:13, 10:23]).all()
    assert (index.read(2) == second[15:30, 25:40]).all()
    assert index.name(0) == 'dim/0.png@4,5,20,10'


def test_margin_grows_boxes_within_the_picture(tmp_path: Path) -> None:
    write_coco(tmp_path, {'0.png': [('cup', [10, 5, 20, 10], {}), ('cup', [0, 20, 20, 10], {})]},
               ['cup'])
    index = coco.read_crops(tmp_path, margin=0.1)
    assert index.boxes.tolist() == [[8, 4, 24, 12], [0, 19, 22, 11]]
    assert index.read(1).shape == (11, 22, 3)


@pytest.mark.parametrize('turn', range(1, 9))
@pytest.mark.parametrize('counted', ['stored', 'seen'])
def test_boxes_show_the_same_whichever_way_a_photo_lies(tmp_path: Path, turn: int, counted: str
                                                        ) -> None:
    stored = np.zeros((30, 40, 3), np.uint8)
    stored[5:15, 4:24] = 200  # the object
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(stored).save(tmp_path / '0.png', exif=exif)
    seen = to_rgb(decode((tmp_path / '0.png').read_bytes()))
    rows, columns = np.nonzero((seen if counted == 'seen' else stored)[..., 0])
    box = [int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
    size = (seen if counted == 'seen' else stored).shape[1::-1]
    if counted == 'seen' and size == (40, 30) and turn > 1:
        pytest.skip('which is meant cannot be told: it counts as stored')
    (tmp_path / 'annotations.json').write_text(json.dumps({
        'images': [{'id': 0, 'file_name': '0.png', 'width': size[0], 'height': size[1]}],
        'categories': [{'id': 0, 'name': 'cup'}],
        'annotations': [{'image_id': 0, 'category_id': 0, 'bbox': box}]}))
    index = coco.read_crops(tmp_path, margin=0)
    assert index.read(0).shape[:2] == ((10, 20) if turn < 5 else (20, 10))
    assert (index.read(0) == 200).all()


def test_no_object_left_is_said(tmp_path: Path) -> None:
    write_coco(tmp_path, {'0.png': [('cup', [1, 1, 9, 9], {'visible': 0.2})]}, ['cup'])
    with pytest.raises(ValueError, match='none of its 1 objects is 8 px large and 30% visible'):
        coco.read_crops(tmp_path)


def test_corrupt_picture_takes_all_its_crops_along(tmp_path: Path) -> None:
    write_coco(tmp_path, BOXES, NAMES)
    (tmp_path / '0.png').write_bytes(b'')
    index = coco.read_crops(tmp_path)
    assert index.files == ('1.png',)
    [corrupt] = index.corrupt
    assert corrupt.startswith('0.png: expected a BMP, JPEG, PNG, TIFF or WebP image, got 0 bytes')


def test_scenes_tell_what_is_present(tmp_path: Path) -> None:
    write_coco(tmp_path / 'a', BOXES, NAMES)
    write_coco(tmp_path / 'b', {'9.png': [('fork', [1, 1, 9, 9], {})]}, ['fork'])
    index = coco.read_scenes(tmp_path, least_visible=0.1)
    assert index.class_names == ('cup', 'fork', 'tea pot', 'unused')
    assert index.labels.tolist() == [[True, False, True, False], [True, False, True, False],
                                     [False] * 4, [False, True, False, False]]
    assert images.Images(index, 16)[3].label.tolist() == [False, True, False, False]
    seen_well = coco.read_scenes(tmp_path / 'a', least_visible=0.5)
    assert seen_well.labels[1].tolist() == [False, True, False]  # both cups are mostly covered


@pytest.mark.parametrize('content', ['', '[]', '{"images": []}',
                                     '{"images": [{}], "categories": [], "annotations": []}'])
def test_other_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / 'annotations.json').write_text(content)
    with pytest.raises(ValueError, match="expected COCO's images, annotations and categories"):
        coco.read_crops(tmp_path)


# Augmentation

@pytest.mark.parametrize('augmentation', [
    images.Augmentation(), images.Augmentation(rand_augment=(2, 9)),
    images.Augmentation(scale=(0.05, 0.1), jitter=1, hue=0.5, grey=0.5)])
def test_augmented_images_stay_in_range(tmp_path: Path, augmentation: images.Augmentation) -> None:
    index = image_index.read_folders(write_folders(tmp_path, ['a'], ['x', 'y'], 5))
    for sample in images.Images(index, 24, augmentation):
        assert sample.image.shape == (3, 24, 24)
        assert sample.image.dtype == torch.float32
        assert 0 <= sample.image.min() < sample.image.max() <= 1


def read_all(dataset: torch.utils.data.Dataset, workers: int) -> dict[str, torch.Tensor]:
    loader = DataLoader(dataset, batch_size=2, num_workers=workers)
    return {name: image for batch in loader
            for name, image in zip(batch.name, batch.image, strict=True)}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


def test_augmentation_follows_the_seed_and_the_epoch_alone(tmp_path: Path) -> None:
    index = image_index.read_folders(write_folders(tmp_path, ['a'], ['x', 'y'], 4))
    dataset = images.Images(index, 24, images.Augmentation(rand_augment=(1, 9)), seed=3)
    state = torch.get_rng_state()
    here = read_all(dataset, 0)
    assert torch.equal(images.Images(index, 24, images.Augmentation(rand_augment=(1, 9)),
                                     seed=3)[5].image, here[index.name(5)])
    assert not torch.equal(dataset[0].image, dataset[1].image)
    torch.manual_seed(77)
    assert same(here, read_all(dataset, 2))
    assert not same(here, read_all(images.Images(index, 24, images.Augmentation(), seed=4), 0))
    dataset.set_epoch(1)
    assert not same(here, read_all(dataset, 0))
    torch.set_rng_state(state)
    dataset[0]
    assert torch.equal(torch.get_rng_state(), state)  # it takes nothing from other draws


def test_lasting_workers_see_the_epoch_change(tmp_path: Path) -> None:
    index = image_index.read_folders(write_folders(tmp_path, ['a'], ['x', 'y']))
    dataset = images.Images(index, 16, images.Augmentation())
    loader = DataLoader(dataset, batch_size=4, num_workers=1, persistent_workers=True)
    first = next(iter(loader)).image
    dataset.set_epoch(1)
    second = next(iter(loader)).image
    assert not torch.equal(first, second)
    assert torch.equal(second[2], dataset[2].image)


@pytest.mark.parametrize('mode', ['shortest', 'squash'])
def test_evaluation_is_the_robots_resize(tmp_path: Path, mode: str) -> None:
    index = image_index.read_folders(write_folders(tmp_path, ['a'], ['x']))
    sample = images.Images(index, 16, resize_mode=mode)[0]
    assert torch.equal(sample.image, preprocess([Frame(index.read(0))], 16, mode)[0])


@pytest.mark.parametrize('field', [{'scale': (0.0, 1.0)}, {'scale': (0.9, 0.5)}, {'flip': 1.5},
                                   {'jitter': -1.0}, {'hue': 0.6}, {'rand_augment': (2, 31)}])
def test_augmentation_out_of_range_is_refused(field: dict) -> None:
    with pytest.raises(ValueError, match=f'{next(iter(field))}: expected'):
        images.Augmentation(**field)


# Splits

def test_leave_one_domain_out_is_disjoint_and_complete(tmp_path: Path) -> None:
    index = image_index.read_folders(write_folders(tmp_path, ['a', 'b', 'c'], ['x', 'y']))
    parts = splits.leave_one_domain_out(index)
    assert list(parts) == ['a', 'b', 'c']
    for name, (source, target) in parts.items():
        assert sorted([*source, *target]) == list(range(len(index)))
        assert {index.files[row][0] for row in target} == {name}
        assert name not in {index.files[row][0] for row in source}


@pytest.mark.parametrize('domains, classes, message', [
    (['a'], ['x', 'y'], 'at least 2 domains.*has only a;'),
    (['a', 'b'], ['x'], 'at least 2 classes.*has only x;')])
def test_one_domain_or_one_class_cannot_be_split(
        tmp_path: Path, domains: list[str], classes: list[str], message: str) -> None:
    index = image_index.read_folders(write_folders(tmp_path, domains, classes))
    with pytest.raises(ValueError, match=message):
        splits.leave_one_domain_out(index)


def test_hold_out_takes_of_every_group(tmp_path: Path) -> None:
    index = image_index.read_folders(write_folders(tmp_path, ['a', 'b'], ['x', 'y'], 5))
    stay, held = splits.hold_out(index, 0.4, seed=1)
    assert sorted([*stay, *held]) == list(range(20))
    groups = [index.files[row].rsplit('/', 1)[0] for row in held]
    assert {group: groups.count(group) for group in groups} == {
        'a/x': 2, 'a/y': 2, 'b/x': 2, 'b/y': 2}
    assert held.tolist() == splits.hold_out(index, 0.4, seed=1)[1].tolist()
    assert held.tolist() != splits.hold_out(index, 0.4, seed=2)[1].tolist()


def test_the_shipped_split_is_the_papers() -> None:
    split = splits.read_object_split(SPLIT)
    assert [int(name[:3]) for name in split.id] == list(ID)
    assert [int(name[:3]) for name in split.ood] == list(OOD)
    assert len({*split.id, *split.ood}) == 26
    labels = {image_index.label_of(name) for name in (*split.id, *split.ood)}
    assert len(labels) == 26
    assert {'banana', 'phillips screwdriver', 'rubiks cube'} <= labels


@pytest.mark.parametrize('content, message', [
    ('', 'expected two lists'), ('id: [a]', 'expected two lists'),
    ('id: []\nood: [a]', 'expected two lists'), ('id: [a, b]\nood: [b]', 'got b twice')])
def test_broken_split_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / 'split.yaml').write_text(content)
    with pytest.raises(ValueError, match=message):
        splits.read_object_split(tmp_path / 'split.yaml')


SMALL = splits.ObjectSplit(('a', 'c'), ('b', 'd'))


def scenes(tmp_path: Path) -> image_index.Index:
    box = [1, 1, 9, 9]
    shown = ['a', 'ac', 'ab', 'bd', 'ae', 'be', '', 'c']  # e is in neither list
    write_coco(tmp_path, {f'{number}.png': [(name, box, {}) for name in names]
                          for number, names in enumerate(shown)}, 'abcde')
    return coco.read_scenes(tmp_path)


def test_scenes_are_split_by_their_objects(tmp_path: Path) -> None:
    index = scenes(tmp_path)
    sets = splits.split_objects(index, SMALL)
    assert sets.x_id.tolist() == [0, 1, 7]
    assert sets.x_ood.tolist() == [2, 3]
    assert sets.y_id.tolist() == [0, 2]
    assert sets.y_ood.tolist() == [1, 3]
    assert sets.left_out == 3
    assert index.labels[np.ix_(sets.x_ood, sets.y_id)].tolist() == [[True, False], [False, False]]
    with_others = splits.select_classes(index, SMALL.id + SMALL.ood)
    assert with_others.class_names == ('a', 'c', 'b', 'd')
    sets = splits.split_objects(with_others, SMALL)
    assert sets.x_id.tolist() == [0, 1, 4, 7]
    assert sets.x_ood.tolist() == [2, 3, 5]


def test_single_objects_are_split_by_their_class(tmp_path: Path) -> None:
    split = splits.read_object_split(SPLIT)
    names = [*split.id, *split.ood, '025_mug']
    index = image_index.read_folders(write_folders(tmp_path, ['a'], names, 1))
    sets = splits.split_objects(index, split)
    assert not set(sets.x_id) & set(sets.x_ood)
    assert len(sets.x_id) == 14
    assert len(sets.x_ood) == 12
    assert sets.left_out == 1
    assert {index.class_names[label] for label in index.labels[sets.x_id]} == set(split.id)
    assert sorted(index.labels[sets.x_ood]) == sorted(sets.y_ood)
    seen = splits.select_classes(index, split.id)
    assert [seen.class_names[label] for label in seen.labels] == [
        file.split('/')[1] for file in seen.files]
    assert set(seen.labels) == set(range(14))


def test_split_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    index = scenes(tmp_path)
    with pytest.raises(ValueError, match='has no class zebra; it has a, b'):
        splits.split_objects(index, splits.ObjectSplit(('a',), ('zebra',)))
    with pytest.raises(ValueError, match='shows ood objects.*--objects a c b d'):
        splits.split_objects(index.take([0, 1]), SMALL)


# Shards

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


def test_split_file_is_plain_yaml() -> None:
    assert set(yaml.safe_load(SPLIT.read_text())) == {'id', 'ood'}
