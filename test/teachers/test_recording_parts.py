"""A recording that many workers make: in parts, which become the one of a single worker."""
from pathlib import Path
import shutil

import pytest
from support import warm
from support.recorded_answers import command
from support.tiny_models import write_tower
from training.teachers.parts import parse, Part
from vl2v_ros.words import recording

pytestmark = pytest.mark.usefixtures('cache_dir', 'no_network')
PARTS = 3
PROMPTS = 'a photo of a cup.\tcup\na photo of a mug.\n'


def arguments(folder: Path, photos: Path, out: Path) -> list[object]:
    return ['record', '--images', photos, '--prompts', folder / 'prompts.txt', '--licence', 'CC0',
            '--teacher.model', folder / 'teacher/tiny.json', '--teacher.pretrained',
            folder / 'teacher/tiny.safetensors', '--device', 'cpu', '--workers', 0, '--batch', 4,
            '--out', out]


@pytest.fixture
def out(tmp_path: Path, photos: Path) -> Path:
    """Return what three processes at once were told to write; parts lie beside it."""
    write_tower(tmp_path / 'teacher')
    (tmp_path / 'prompts.txt').write_text(PROMPTS)
    out = tmp_path / 'it.safetensors'
    workers = [warm.Program(
        ['training/recordings.py', *arguments(tmp_path, photos, out), '--part', f'{number}/3'],
        tmp_path / f'said{number}') for number in range(1, PARTS + 1)]
    assert [worker.wait(warm.LIMIT) for worker in workers] == [0] * PARTS, [
        path.read_text() for path in tmp_path.glob('said*')]
    return out


def test_parts_of_many_workers_become_the_recording_of_one(tmp_path: Path, photos: Path,
                                                           out: Path) -> None:
    said = [(tmp_path / f'said{number}').read_text() for number in range(1, PARTS + 1)]
    assert 'images 12 asked, 0 from cache, 12 missing; prompts 2 asked' in said[0]
    assert all('images 12 asked' in one or 'images 16 asked' in one for one in said)
    assert 'prompts 0 asked' in said[1] and 'waiting for another process' not in ''.join(said)
    assert 'to 2 prompts and 40 images' in command('merge', out)
    whole = warm.run('training/recordings.py',
                     *arguments(tmp_path, photos, tmp_path / 'whole.safetensors'))
    assert 'images 40 asked, 0 from cache, 40 missing' in whole.stdout, whole.stderr
    assert out.read_bytes() == (tmp_path / 'whole.safetensors').read_bytes()
    assert recording.read(out).part == ''
    assert '40 different images, 0 of them new' in command('import', out)  # cached by `whole`
    # A part is a recording, too.
    assert '12 different images, 0 of' in command('import', Part(1, PARTS).file(out))


def test_parts_that_are_missing_or_damaged_are_named(tmp_path: Path, out: Path) -> None:
    second, third = (Part(number, PARTS).file(out) for number in (2, 3))
    kept = second.read_bytes()
    for content in (kept[:len(kept) // 2], b''):
        second.write_bytes(content)
        said = command('merge', out)
        assert said.startswith(f'failed recordings: recording {second}: expected a safetensors')
        assert 'damaged, cut off' in said and '\n' not in said
    shutil.copy(third, second)
    assert command('merge', out).startswith(
        f"failed recordings: {second}: expected part '2/3 of ")
    for path in (second, third):
        path.unlink()
    assert command('merge', out) == (
        f'failed recordings: {out}: expected 3 parts beside it, 2 are missing: 2/3, 3/3; run '
        'recordings.py record --part 2/3, or copy them here')
    second.write_bytes(kept)
    shutil.copy(second, Part(2, 4).file(out))
    assert ': expected the parts of one recording beside it, found some of 3 and 4;' in command(
        'merge', out)
    assert 'expected its parts beside it, such as none.1of8.safetensors, found none;' in command(
        'merge', tmp_path / 'none.safetensors')
    assert not out.exists()


def test_part_of_other_images_or_prompts_is_named(tmp_path: Path, photos: Path, out: Path
                                                  ) -> None:
    (tmp_path / 'prompts.txt').write_text(f'{PROMPTS}another')
    assert not command(*arguments(tmp_path, photos, out), '--part', '2/3').startswith('failed')
    second = Part(2, PARTS).file(out)
    said = command('merge', out)
    assert said.startswith(f"failed recordings: {second}: expected part '2/3 of ")
    assert said.endswith('record this part again, of the same images and prompts and with the '
                         'same teacher')


def test_more_parts_than_batches_leave_some_without_images(tmp_path: Path, photos: Path,
                                                           out: Path) -> None:
    files = [str(number) for number in range(10)]
    shares = [Part(number, 5).share(files, 4) for number in range(1, 6)]
    assert sum(map(list, shares), []) == files
    assert [len(share) for share in shares] == [0, 4, 0, 4, 2]
    empty = tmp_path / 'empty.safetensors'
    said = command(*arguments(tmp_path, photos, empty), '--part', '1/16')
    assert 'to 2 prompts and 0 images' in said


@pytest.mark.parametrize('text', ['', '3', '0/3', '4/3', '1/0', 'a/b', '1/2/3', '-1/3'])
def test_part_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match='--part: expected K/N, part K of N, such as 3/8, got'):
        parse(text)
