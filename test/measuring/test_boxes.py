"""Boxes of COCO annotations, named as the node names those of a detector."""
import json
from pathlib import Path
import sys

import numpy as np
import pytest
from support import shapes
from support.tiny_data import write_png
from training import naming
import yaml

SIDE = 120
# Class, what is shown, and visible part; the third is not what its class says.
OBJECTS = (('a', 'red circle', 1.0), ('b', 'blue square', 0.9), ('a', 'blue square', 0.8),
           ('b', 'blue square', 0.2))


@pytest.fixture
def scene(tmp_path: Path, cache_dir: Path) -> Path:
    """Write one picture with four boxes, one of which is hidden, and the names of two classes."""
    rng, annotations = np.random.default_rng(1), []
    picture = np.full((200, 4 * SIDE, 3), 90, np.uint8)
    for number, (name, label, visible) in enumerate(OBJECTS):
        picture[40:40 + SIDE, number * SIDE:(number + 1) * SIDE] = shapes.draw(
            label, SIDE, SIDE, rng, (0, 0))
        annotations.append({'id': number + 1, 'image_id': 1, 'category_id': 'ab'.index(name) + 1,
                            'bbox': [number * SIDE, 40, SIDE, SIDE], 'visible': visible})
    write_png(tmp_path / 'scene/studio/0.png', picture)
    (tmp_path / 'scene/studio/annotations.json').write_text(json.dumps({
        'images': [{'id': 1, 'file_name': '0.png', 'width': 4 * SIDE, 'height': 200}],
        'annotations': annotations,
        'categories': [{'id': 1, 'name': 'a'}, {'id': 2, 'name': 'b'}]}))
    (tmp_path / 'names.yaml').write_text(yaml.safe_dump({'a': 'red circle', 'b': 'blue square'}))
    return tmp_path


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, 'argv', ['naming.py', 'boxes', *map(str, arguments)])
    naming.main()


@pytest.mark.long
def test_boxes_are_named(scene: Path, shapes_student: Path, monkeypatch: pytest.MonkeyPatch
                         ) -> None:
    command(monkeypatch, '--checkpoint', shapes_student, '--out', scene / 'out', '--images',
            scene / 'scene', '--names', scene / 'names.yaml', '--margin', '0')
    result = json.loads((scene / 'out/result.json').read_text())
    studio, mean = result['table']
    assert (studio['domain'], studio['boxes']) == ('studio', 3)
    assert studio['first name is right [%]'] == pytest.approx(200 / 3)
    assert mean['first name is right [%]'] == studio['first name is right [%]']


def test_a_class_without_a_name_is_refused(
        scene: Path, shapes_student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (scene / 'names.yaml').write_text('a: red circle')
    with pytest.raises(SystemExit, match='expected a name of each class, found none of b'):
        command(monkeypatch, '--checkpoint', shapes_student, '--out', scene / 'out', '--images',
                scene / 'scene', '--names', scene / 'names.yaml')
