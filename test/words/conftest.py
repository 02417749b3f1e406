"""A small text tower, as files and open; a server that answers as a language model."""
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
import shutil

import pytest
from support.chat_server import chat_server, ChatServer, KEY
from support.tiny_models import write_tower
from vl2v_ros.words.clip_text import ClipText
from vl2v_ros.words.encoder import identify, TextTower


@pytest.fixture(scope='module')
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('tower')
    write_tower(folder)
    return folder


@pytest.fixture(scope='module')
def clip_text(written: Path) -> ClipText:
    return ClipText(TextTower('tiny.json', 'tiny.safetensors'), written)


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """Return a folder with a tower of this test's own."""
    return Path(shutil.copytree(written, tmp_path / 'tower'))


@pytest.fixture
def tower(folder: Path) -> TextTower:
    tower = TextTower('tiny.json', 'tiny.safetensors')
    return replace(tower, identity=identify(tower, folder))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setenv('OPENAI_API_KEY', KEY)
    with chat_server() as server:
        yield server
