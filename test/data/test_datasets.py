"""Datasets from folders of files: what is read, and what is left out."""
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.image_folders import write_coco, write_folders, write_image
from torch.utils.data import DataLoader
from training.data import image_index, images, task
from training.recipe import Augmentation
from vl2v_ros.images.encodings import decode
from vl2v_ros.images.frame import to_rgb

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
            'text.png': '19 bytes of another format', 'cut.png': 'expected a whole png',
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
