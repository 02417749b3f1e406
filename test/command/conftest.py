"""Pictures and options for vl2v_classify, which may run in the process of the tests."""
from pathlib import Path

import cv2
import pytest
from support.classify_command import draw, LABELS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a picture of each label, and damaged files among them."""
    path = tmp_path / 'pictures'
    path.mkdir()
    for number, label in enumerate(LABELS):
        cv2.imwrite(str(path / f'{number}.png'), draw(label, number)[..., ::-1])
    (path / '1_cut.png').write_bytes((path / '1.png').read_bytes()[:3000])
    (path / '2_text.jpg').write_text('no image')
    return path


@pytest.fixture
def options(shapes_student: Path) -> list[str]:
    """Return the options for a student that knows coloured shapes."""
    return ['--checkpoint', str(shapes_student), '--device', 'cpu', '--labels', ', '.join(LABELS)]
