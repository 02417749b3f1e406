"""Images for teachers, and a teacher of which only answers are there."""
from pathlib import Path

import pytest
from support.recorded_answers import CLIP, made_up
from support.teacher_images import COUNT, write_image
from support.tiny_data import write_images
from training.data import image_index
from training.teachers import opening, recorded
from training.teachers.teacher import OpenClipTeacher


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub's client, here and in processes that are started, find and fetch nothing."""
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'hub'))
    monkeypatch.setenv('HF_HOME', str(tmp_path / 'hub'))


@pytest.fixture
def index(tmp_path: Path) -> image_index.Index:
    for number in range(COUNT):
        write_image(tmp_path / 'data' / 'a' / f'class {number % 2}' / f'{number}.png', number)
    return image_index.read_folders(tmp_path / 'data')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / 'embeddings'


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_images(tmp_path / 'images')


@pytest.fixture
def teacher(photos: Path, cache_dir: Path) -> OpenClipTeacher:
    """Return CLIP as far as it is recorded."""
    found = made_up(photos)
    recorded.keep(found, cache_dir)
    return opening.open_teacher(CLIP)
