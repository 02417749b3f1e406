"""photo_sequence.py: a view that glides over photos, as a video."""
from pathlib import Path
import subprocess
import sys

import cv2
import numpy as np
import pytest
from training import photo_sequence

SCRIPT = Path(photo_sequence.__file__)


def write_photos(folder: Path) -> Path:
    """Write two photos, a wide and a high one, and their list."""
    rng = np.random.default_rng(0)
    for name, size, colour in (('red', (90, 60), (40, 40, 200)),
                               ('blue', (60, 90), (200, 60, 40))):
        noise = cv2.GaussianBlur(rng.normal(size=(size[1], size[0], 3)), (0, 0), 3)
        pixels = np.clip(colour + 40 * noise / noise.std(), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f'{name}.png'), pixels)
    path = folder / 'list.csv'
    path.write_text('stamp,label,photo\n0,rose,red.png\n0.5,sky,blue.png\n')
    return path


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [SCRIPT, '--list', folder / 'list.csv', '--photos', folder, '--out',
               folder / 'out' / 'sequence.mp4', '--size', 96, 72, *arguments]
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)


def test_each_photo_is_shown_from_its_stamp_on(tmp_path: Path) -> None:
    write_photos(tmp_path)
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    video = cv2.VideoCapture(str(tmp_path / 'out' / 'sequence.mp4'))
    assert video.get(cv2.CAP_PROP_FPS) == photo_sequence.RATE
    frames = []
    while (frame := video.read()[1]) is not None:
        frames.append(frame)
    assert {frame.shape for frame in frames} == {(72, 96, 3)}
    red = [bool(frame[..., 2].mean() > frame[..., 0].mean()) for frame in frames]
    assert red == [True] * 15 + [False] * 15


@pytest.mark.parametrize('photo', [(90, 60), (60, 90), (60, 60)])
def test_a_view_moves_and_never_leaves_the_photo(photo: tuple[int, int]) -> None:
    for seed in range(20):
        views = photo_sequence.draw_views(np.random.default_rng(seed), photo, (96, 72))
        assert views[0] != views[1]
        for part in np.linspace(0, 1, 5):
            view = views[0].toward(views[1], part)
            assert view.left >= 0 and view.left + 96 / view.scale <= photo[0] + 1e-9
            assert view.top >= 0 and view.top + 72 / view.scale <= photo[1] + 1e-9


def test_a_view_shows_what_it_says() -> None:
    photo = np.zeros((60, 80, 3), np.uint8)
    photo[:, 40:] = 255
    frames = list(photo_sequence.pan(photo, (160, 120), 9, np.random.default_rng(3)))
    start, end = photo_sequence.draw_views(np.random.default_rng(3), (80, 60), (160, 120))
    for frame, part in zip(frames, np.linspace(0, 1, 9), strict=True):
        view = start.toward(end, part)
        edge = float((frame[60, :, 0] < 128).sum())
        assert edge == pytest.approx((40 - view.left) * view.scale, abs=1)


@pytest.mark.parametrize(('rows', 'reason'), [
    ('0,a,red.png\n', 'expected two photos or more'),
    ('1,a,red.png\n2,b,blue.png\n', 'stamps that rise from 0'),
    ('0,a,red.png\n0,b,blue.png\n', 'stamps that rise from 0'),
    ('0,a,red.png\n1,b,green.png\n', 'green.png: expected an image file'),
])
def test_what_it_cannot_show_is_said(rows: str, reason: str, tmp_path: Path) -> None:
    write_photos(tmp_path).write_text('stamp,label,photo\n' + rows)
    done = run(tmp_path)
    assert done.returncode == 1
    assert reason in done.stderr
    assert 'Traceback' not in done.stderr
