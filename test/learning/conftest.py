"""What several tests of learning share: data of one colour per class, and one thread."""
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import shapes
from support.coloured_data import write_data
from training.rendering import dataset_files


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a dataset of 24 images, of 4 classes in 2 domains, in shards of 4 images."""
    dataset_files.write_shards(tmp_path / 'data', write_data(tmp_path / 'data'), 4)
    return tmp_path / 'data'


@pytest.fixture(scope='module')
def one_thread() -> Iterator[None]:
    """With several, some CPUs' matrix products differ in the last bit from run to run."""
    with shapes.one_thread():
        yield
