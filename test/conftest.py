"""Fixtures that several test modules share."""
from pathlib import Path

import pytest
from vl2v_ros import shapes


@pytest.fixture(scope='session')
def shapes_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the checkpoint of a toy student, trained once per session; its text tower is there too."""
    return shapes.train(tmp_path_factory.mktemp('shapes'))


@pytest.fixture
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder that is the prompt cache of this test and the processes it starts."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'vl2v_ros'
