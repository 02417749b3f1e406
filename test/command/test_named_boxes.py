"""vl2v_classify --boxes: boxes of a detector in, COCO JSON and pictures out."""
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
import pytest
from support import shapes
from support.classify_command import LABELS, refused, run
from vl2v_ros.command.classify import main
from vl2v_ros.drawing.overlay import BAR

SIDE = 120


@pytest.fixture(scope='module')
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw four shapes side by side, and what a detector says of them."""
    folder, rng = tmp_path_factory.mktemp('scene'), np.random.default_rng(0)
    (folder / 'sub').mkdir()
    pixels = np.hstack([shapes.draw(label, SIDE, SIDE, rng, (0, 0)) for label in LABELS])
    Image.fromarray(pixels).save(folder / 'sub' / 'scene.png')
    Image.fromarray(pixels).save(folder / 'other.png')
    (folder / 'boxes.json').write_text(json.dumps(found()))
    return folder


def found() -> dict[str, Any]:
    boxes = [[SIDE * column, 0, SIDE, SIDE] for column in range(4)] + [[5, 5, 2, 2]]
    return {
        'images': [{'id': 7, 'file_name': 'sub/scene.png', 'width': 4 * SIDE, 'height': SIDE}],
        'annotations': [{'id': 30 + number, 'image_id': 7, 'category_id': 99, 'bbox': box}
                        for number, box in enumerate(boxes)]}


@pytest.fixture
def options(scene: Path, shapes_student: Path) -> list[object]:
    return [scene, '--recursive', '--boxes', scene / 'boxes.json', '--labels', ', '.join(LABELS),
            '--checkpoint', shapes_student]


def test_boxes_are_named_written_and_drawn(options: list[object], tmp_path: Path) -> None:
    out, drawn = tmp_path / 'detections.json', tmp_path / 'drawn'
    done = run(*options, '--unknown-threshold', -1, '--out', out, '--draw', drawn)
    assert f'wrote {out}: 4 of 5 boxes named in 1 pictures' in done.stdout
    assert 'other.png: no boxes' in done.stderr
    coco = json.loads(out.read_text())
    assert coco['images'] == found()['images']
    names = {entry['id']: entry['name'] for entry in coco['categories']}
    assert sorted(names.values()) == sorted(LABELS)
    assert [(entry['id'], names[entry['category_id']]) for entry in coco['annotations']] == [
        (30 + number, label) for number, label in enumerate(LABELS)]
    for entry, given in zip(coco['annotations'], found()['annotations'], strict=False):
        assert entry['bbox'] == given['bbox'] and entry['image_id'] == 7
        assert 0 < entry['score'] <= 1 and entry['area'] == SIDE * SIDE
    picture = cv2.imread(str(drawn / 'sub' / 'scene.png'))[..., ::-1]
    assert picture.shape == (SIDE, 4 * SIDE, 3)
    assert (picture[60:, SIDE] == BAR).all()
    assert not (drawn / 'other.png').exists()


def test_boxes_are_printed(options: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    main([str(word) for word in (*options, '--unknown-threshold', 1)])
    said = capsys.readouterr().out.splitlines()
    assert ['unknown (nearest: ' in line for line in said] == [True] * 4 + [False]
    assert said[4].endswith('5, 5, 2 x 2 px  shows too little')


@pytest.mark.parametrize('change, reason', [
    ({'images': [], 'annotations': []}, 'expected images, found none'),
    ({'annotations': None}, 'TypeError'),
    ({'annotations': [{'image_id': 7, 'bbox': [0, 0, float('nan'), 5]}]}, 'numbers of pixels'),
    ({'annotations': [{'image_id': 8, 'bbox': [0, 0, 5, 5]}]}, 'KeyError'),
    ({'images': [{'id': 7, 'file_name': '../x.png', 'width': 9, 'height': 9}]}, '../x.png'),
    ({'images': [{'id': 7, 'file_name': 'x.png', 'width': 9, 'height': 9}]},
     'expected pictures that it names (x.png) among the inputs, found none'),
    ({'images': [{'id': 7, 'file_name': 'scene.png', 'width': 9, 'height': 9}]},
     'expected a picture of 9 x 9 px, as')])
def test_other_files_are_refused_in_one_line(
        options: list[object], tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    path, out = tmp_path / 'boxes.json', tmp_path / 'out.json'
    path.write_text(json.dumps(found() | change))
    assert reason in refused(*options, '--boxes', path, '--out', out)
    assert not out.exists()


def test_what_is_no_coco_file_or_would_be_replaced_is_refused(
        options: list[object], scene: Path, tmp_path: Path) -> None:
    (tmp_path / 'list.json').write_text('[1]')
    assert "expected COCO's images and annotations" in refused(
        *options, '--boxes', tmp_path / 'list.json')
    assert 'ends with .json' in refused(*options, '--out', tmp_path / 'x.csv')
    assert 'would be replaced' in refused(*options, '--out', scene / 'boxes.json')
    assert 'another folder than that of the pictures' in refused(*options, '--draw', scene)
    assert '--draw: expected --boxes' in refused(*options[:2], *options[4:], '--draw', tmp_path)
    for option in ('--plot', '--html'):
        assert '--draw draws boxes' in refused(*options, option, tmp_path / 'x.png')
    assert not list(tmp_path.glob('x.*'))
