"""Folders of images: what is found in them, and that looking ends."""
import os
from pathlib import Path

import pytest
from training.data.image_index import read_folders
from vl2v_ros.command.classify import open_input
from vl2v_ros.images.folders import image_files
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
