"""Pictures out of files: what is read, in which order, and what is said of what cannot be."""
from collections.abc import Sequence
import os
from pathlib import Path
import re

import cv2
import numpy as np
import pytest
from support import uneven_video
from vl2v_ros.images.frame import to_rgb
from vl2v_ros.images.sources import open_folder, open_image, open_video

HEIGHT, WIDTH = 48, 64


def grey(level: int) -> np.ndarray:
    """Return (H, W, 3) uint8 of one brightness."""
    return np.full((HEIGHT, WIDTH, 3), level, np.uint8)


def levels(source_pictures: object) -> list[int]:
    return [round(float(picture.frame.pixels.mean())) for picture in source_pictures]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images and files that are none, or not whole."""
    for name, level in (('2.png', 20), ('1.bmp', 10), ('10.TIFF', 100)):
        data = cv2.imencode(Path(name).suffix.lower(), grey(level))[1].tobytes()
        (tmp_path / name).write_bytes(data)
    jpeg = cv2.imencode('.jpg', grey(50))[1].tobytes()
    (tmp_path / 'cut.jpg').write_bytes(jpeg[:-10])
    (tmp_path / 'text.png').write_text('no image')
    (tmp_path / 'notes.txt').write_text('no image, and not named as one')
    (tmp_path / '._2.png').write_text('what other systems leave beside')
    (tmp_path / 'below.png').mkdir()
    return tmp_path


def write_video(path: Path, frames: int = 15, rate: float = 12.5, noise: int = 1) -> Path:
    rng = np.random.default_rng(0)
    codec = {'.avi': 'MJPG', '.mp4': 'mp4v', '.webm': 'VP80'}[path.suffix]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, (WIDTH, HEIGHT))
    for number in range(frames):
        writer.write(grey(16 * number) + rng.integers(0, noise, (HEIGHT, WIDTH, 3), np.uint8))
    writer.release()
    return path


def test_the_colours_of_an_image_are_right(tmp_path: Path) -> None:
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rgb[:, :32, 0], rgb[:, 32:, 2] = 200, 90
    cv2.imwrite(str(tmp_path / 'x.png'), rgb[..., ::-1])
    source = open_image(tmp_path / 'x.png')
    [picture] = source.pictures
    assert np.array_equal(to_rgb(picture.frame), rgb)
    assert (picture.file, picture.stamp, picture.topic) == (tmp_path / 'x.png', None, '')
    assert (source.count, source.still) == (1, True)


@pytest.mark.parametrize(('name', 'reason'), [
    ('text.png', 'BMP, JPEG, PNG, TIFF or WebP image, got 8 bytes'),
    ('cut.jpg', 'whole JPEG image'), ('below.png', 'cannot be read: Is a directory')])
def test_an_image_that_is_none_is_refused_by_name(folder: Path, name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f'{name}: expected .*{reason}'):
        list(open_image(folder / name).pictures)


def test_a_folder_gives_its_images_by_name_and_tells_of_the_damaged(folder: Path) -> None:
    skipped: list[str] = []
    source = open_folder(folder, skipped.append)
    assert (source.count, source.still) == (5, True)
    pictures = list(source.pictures)
    assert [picture.file.name for picture in pictures] == ['1.bmp', '10.TIFF', '2.png']
    assert levels(pictures) == [10, 100, 20]
    assert [Path(line.split(':')[0]).name for line in skipped] == [
        'cut.jpg', 'text.png']


def test_a_folder_without_images_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / 'notes.txt').write_text('none')
    with pytest.raises(ValueError, match=r'expected images \(.bmp, .jpeg, .*found none'):
        open_folder(tmp_path, print)
    (tmp_path / 'Kitchen.MP4').write_bytes(b'')
    with pytest.raises(ValueError, match='found none; passed over videos, such as Kitchen.MP4'):
        open_folder(tmp_path, print)


def test_a_folder_of_damaged_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'a.png').write_bytes(b'')
    with pytest.raises(ValueError, match='found 1 of which none can be read'):
        list(open_folder(tmp_path, lambda line: None).pictures)


@pytest.mark.parametrize('ending', ['.avi', '.mp4', '.webm'])
def test_the_frames_of_a_video_come_in_order_with_their_times(tmp_path: Path, ending: str) -> None:
    source = open_video(write_video(tmp_path / f'x{ending}'), pytest.fail)
    assert (source.count, source.still) == (15, False)
    assert source.rate == pytest.approx(12.5)
    pictures = list(source.pictures)
    assert levels(pictures) == pytest.approx([16 * number for number in range(15)], abs=6)
    assert [picture.stamp for picture in pictures] == [
        pytest.approx(number * 80_000_000, abs=1_000_000) for number in range(15)]
    assert all(picture.recorded == picture.stamp for picture in pictures)


def test_the_frames_of_a_video_do_not_share_their_pixels(tmp_path: Path) -> None:
    pictures = list(open_video(write_video(tmp_path / 'x.avi', 3), pytest.fail).pictures)
    assert levels(pictures) == pytest.approx([0, 16, 32], abs=3)


@pytest.mark.parametrize('content', [b'', b'no video', b'\x00' * 5000])
@pytest.mark.parametrize('ending', ['.avi', '.mp4', '.mkv'])
def test_a_file_that_is_no_video_is_refused(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f'x{ending}'
    path.write_bytes(content)
    with pytest.raises(ValueError, match='x.*: expected a video'):
        list(open_video(path, print).pictures)


def test_a_video_that_opencv_cannot_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b'caf\xe9.avi')
    write_video(tmp_path / 'x.avi').rename(path)
    with pytest.raises(ValueError, match=r'caf\\xe9.avi: expected a video whose name is UTF-8'):
        open_video(path, print)


def test_the_end_of_a_cut_video_is_told(tmp_path: Path) -> None:
    path, skipped = write_video(tmp_path / 'x.avi', noise=30), []
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    shown = len(list(open_video(path, skipped.append).pictures))
    assert 2 < shown < 13
    left = 1.2 - (shown - 1) * 0.08  # [s]
    assert skipped == [f'{path}: its end, {left:.1f} of 1.2 s, which cannot be read']


def spoil(path: Path, numbers: Sequence[int]) -> None:
    """Overwrite some frames of an AVI file."""
    data = path.read_bytes()
    starts = [found.end() for found in re.finditer(b'00dc(?=....\xff\xd8)', data, re.DOTALL)]
    changed = bytearray(data)
    for number in numbers:
        start = starts[number] + 4
        size = int.from_bytes(data[starts[number]:start], 'little')
        changed[start:start + size] = bytes(size)
    path.write_bytes(changed)


@pytest.mark.parametrize('numbers', [[4], [3, 4, 5, 6, 7, 8], [0], [2, 5, 11]])
def test_frames_that_cannot_be_read_do_not_end_a_video(tmp_path: Path, numbers: list[int]
                                                       ) -> None:
    path, skipped = write_video(tmp_path / 'x.avi'), []
    spoil(path, numbers)
    pictures = list(open_video(path, skipped.append).pictures)
    left = [number for number in range(15) if number not in numbers]
    assert [round(picture.stamp / 80e6) for picture in pictures] == left
    assert levels(pictures) == pytest.approx([16 * number for number in left], abs=6)
    assert skipped == [f'{path}: {len(numbers)} frames in it, which cannot be read']


@pytest.mark.parametrize(('ending', 'codec'), [('.mpg', 'MPG1'), ('.mpg', 'MPG2'), ('.ts', 'MPG2'),
                                               ('.avi', 'XVID'), ('.mp4', 'mp4v')])
def test_times_rise_also_where_the_order_of_frames_is_another(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, codec: str) -> None:
    monkeypatch.setenv('OPENCV_FFMPEG_WRITER_OPTIONS', 'bf;2')
    path = tmp_path / f'x{ending}'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 25, (WIDTH, HEIGHT))
    for number in range(15):
        writer.write(grey(16 * number))
    writer.release()
    pictures = list(open_video(path, pytest.fail).pictures)
    assert levels(pictures) == pytest.approx([16 * number for number in range(15)], abs=6)
    assert [picture.stamp - pictures[0].stamp for picture in pictures] == [
        pytest.approx(number * 40_000_000, abs=1_000_000) for number in range(15)]


def test_a_video_of_variable_rate_is_whole(tmp_path: Path) -> None:
    path = uneven_video.write(tmp_path / 'x.mkv')
    source = open_video(path, pytest.fail)
    assert source.rate == pytest.approx(10)
    assert [picture.stamp / 1e8 for picture in source.pictures] == pytest.approx(
        uneven_video.TIMES)
