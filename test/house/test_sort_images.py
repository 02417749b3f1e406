"""Images sorted into a data set by what a teacher calls them."""
import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from training.sort_images import main, sort_images
from vl2v_ros.words.recording import Recording, write
import yaml

NAMES = ['mug', 'apple', 'fork']
AXES = np.eye(3, 4, dtype=np.float16)  # prompt rows; an image's row is near that of its name


def picture(path: Path, number: int) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((8, 8, 3), number, np.uint8))
    return hashlib.sha256(path.read_bytes()).digest()


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    """Write images of two sources, names, and a recording; one image has no answer."""
    digests, rows = [], []
    for number, (source, name) in enumerate([('shop', 0), ('shop', 0), ('shop', 1), ('home', 0),
                                             ('home', 1), ('home', 2), ('home', 2)]):
        row = AXES[name] * 0.8 + np.float16(0.6) * np.eye(4, dtype=np.float16)[3]
        digests.append(picture(tmp_path / 'images' / source / f'{number}.png', number))
        rows.append(row)
    picture(tmp_path / 'images/home/unanswered.png', 99)
    (tmp_path / 'names.yaml').write_text(yaml.safe_dump(NAMES))
    prompts = ('a photo of a mug', 'a photo of a apple', 'a photo of a fork')  # as in recordings
    path = tmp_path / 'answers.safetensors'
    write(Recording('them/all', 8, 'ours', prompts, tuple(NAMES), AXES,
                    np.frombuffer(b''.join(digests), np.uint8).reshape(-1, 32), np.array(rows)),
          path)
    return path


def sort(answers: Path, **options: object) -> tuple[dict[str, int], set[str]]:
    """Return how many images each name has, and where they are."""
    out = answers.parent / 'sorted'
    counts = sort_images(answers, answers.parent / 'images', answers.parent / 'names.yaml', out,
                         **options)
    return counts, {str(path.relative_to(out)) for path in out.rglob('*.png')}


def test_each_goes_to_its_first_name_below_its_source(answers: Path) -> None:
    counts, files = sort(answers, least=2)
    assert counts == {'mug': 3, 'apple': 2}  # forks are in one source only
    assert files == {'shop/mug/0.png', 'shop/mug/1.png', 'shop/apple/2.png', 'home/mug/3.png',
                     'home/apple/4.png'}
    copy, original = answers.parent / 'sorted/home/mug/3.png', answers.parent / 'images/home/3.png'
    assert copy.read_bytes() == original.read_bytes() and not copy.is_symlink()


def test_rare_names_and_sources_can_be_left_out(answers: Path) -> None:
    assert sort(answers, least=2, domains=1, without=('shop',)) == (
        {'fork': 2}, {'home/fork/5.png', 'home/fork/6.png'})


@pytest.mark.parametrize(('changes', 'said'), [
    ({'least': 4}, r'expected a name with 4 images in 2 domains, found none; .*'
                   r'mug \(3\), apple \(2\)'),
    ({'template': 'the {label}'}, "no answer to 'the {label}' for mug, apple, fork; leave them"),
    ({'without': ('shop', 'home')}, 'found none in')])
def test_what_does_not_fit_is_said_and_nothing_written(
        answers: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        sort(answers, **changes)
    assert not (answers.parent / 'sorted').exists()


def test_a_folder_that_is_there_is_left_alone(answers: Path, monkeypatch: pytest.MonkeyPatch
                                              ) -> None:
    (answers.parent / 'sorted').mkdir()
    monkeypatch.setattr('sys.argv', [
        'sort_images', str(answers), '--images', str(answers.parent / 'images'), '--names',
        str(answers.parent / 'names.yaml'), '--out', str(answers.parent / 'sorted')])
    with pytest.raises(SystemExit, match='sort_images: --out: expected a new folder'):
        main()
