"""Folders of images: what is found in them, and that looking ends."""
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from training.data.image_index import read_folders
from training.data.task import report_corrupt
from vl2v_ros.command.classify import open_input
from vl2v_ros.images.folders import image_files, IMAGES
from vl2v_ros.images.sources import open_folder, read_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ('b/1.png', 'b/c/2.JPG', 'b/c/notes.txt', 'a.webp', 'x/3.TiFf', '.hid/4.png',
                 'b/.5.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b'')
    return tmp_path


def test_images_are_found_at_any_depth_or_not(folder: Path) -> None:
    assert [*map(str, image_files(folder))] == ['a.webp', 'b/1.png', 'b/c/2.JPG', 'x/3.TiFf']
    assert [*map(str, image_files(folder, recursive=False))] == ['a.webp']
    assert list(image_files(folder / 'nowhere')) == []


def test_links_are_followed_but_not_in_a_circle(folder: Path) -> None:
    (folder / 'x' / 'up').symlink_to(folder)
    (folder / 'b' / 'self').symlink_to('.')
    (folder / 'x' / 'b').symlink_to(folder / 'b')
    (folder / 'b' / 'c' / 'x').symlink_to(folder / 'x')
    assert [*map(str, image_files(folder))] == [
        'a.webp', 'b/1.png', 'b/c/2.JPG', 'b/c/x/3.TiFf', 'x/3.TiFf', 'x/b/1.png', 'x/b/c/2.JPG']


def test_a_folder_is_read_at_one_level_or_all_and_says_so(folder: Path) -> None:
    for file in image_files(folder):
        (folder / file).write_bytes(cv2.imencode('.png', np.zeros((4, 4, 3), np.uint8))[1])
    for name in ('IMG_1.HEIC', 'b/IMG_2.heic', 'b/x.gif', 'b/.hid.gif'):
        (folder / name).write_bytes(b'')
    skipped: list[str] = []
    [picture] = open_folder(folder, skipped.append).pictures
    assert picture.file == folder / 'a.webp'
    assert skipped == [
        f'{folder}: images of kinds that are not read (1 .heic); convert them to JPEG or PNG',
        f'{folder}: images in folders below, such as b/1.png; --recursive reads them']
    skipped.clear()
    pictures = list(open_folder(folder, skipped.append, recursive=True).pictures)
    assert [picture.file for picture in pictures] == [
        folder / name for name in ('a.webp', 'b/1.png', 'b/c/2.JPG', 'x/3.TiFf')]
    assert skipped == [f'{folder}: images of kinds that are not read (1 .gif, 2 .heic); convert '
                       'them to JPEG or PNG']


def test_of_a_folder_without_images_it_is_said_what_there_is(tmp_path: Path) -> None:
    (tmp_path / 'mug').mkdir()
    (tmp_path / 'mug' / '1.HEIC').write_bytes(b'')
    for read in (lambda: read_folders(tmp_path), lambda: open_folder(tmp_path, print, True)):
        with pytest.raises(ValueError, match=r'found none; passed over images .*\(1 .heic\)'):
            read()
    (tmp_path / 'mug' / '2.jpg').write_bytes(b'')
    with pytest.raises(ValueError, match='such as mug/2.jpg; --recursive reads them'):
        open_folder(tmp_path, print)


def test_training_reads_what_the_robot_reads(folder: Path,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    for ending in (*IMAGES, *map(str.upper, IMAGES)):
        data = cv2.imencode(ending.lower(), np.zeros((4, 4, 3), np.uint8))[1]
        (folder / 'all' / 'x').mkdir(parents=True, exist_ok=True)
        (folder / 'all' / 'x' / f'0{ending}').write_bytes(data)
    (folder / 'all' / 'x' / '1.gif').write_bytes(b'')
    index = read_folders(folder / 'all')
    report_corrupt(index)
    assert capsys.readouterr().out == f'{folder}/all: passed over images of kinds that are not ' \
        'read (1 .gif); convert them to JPEG or PNG\n'
    assert len(index) == 2 * len(IMAGES) == len(list(open_folder(
        folder / 'all', print, True).pictures))


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / 'x').mkdir()
    os.mkfifo(tmp_path / 'x' / 'pipe.png')
    assert list(image_files(tmp_path)) == []
    for read in (lambda: read_folders(tmp_path), lambda: open_folder(tmp_path / 'x', print)):
        with pytest.raises(ValueError, match='found none'):
            read()
    for read in (read_image, lambda path: open_input(path, (), print)):
        with pytest.raises(ValueError, match='got a pipe or a device'):
            read(tmp_path / 'x' / 'pipe.png')
