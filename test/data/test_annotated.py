"""Annotated scenes: crops around boxes, and what is present."""
import json
from pathlib import Path

import numpy as np
from PIL import Image
import pytest
from support.image_folders import write_coco, write_image
from training.data import coco, images
from vl2v_ros.images.encodings import decode
from vl2v_ros.images.frame import to_rgb

# COCO

BOXES = {'0.png': [('cup', [4, 5, 20, 10], {'visible': 0.9}),
                   ('tea pot', [10.5, 2.2, 12.0, 9.9], {})],
         '1.png': [('cup', [30, 20, 20, 20], {'visible': 0.05}),
                   ('cup', [0, 0, 40, 30], {'iscrowd': 1}),
                   ('tea pot', [0, 0, 40, 7], {}), ('cup', [25, 15, 30, 30], {'visible': 0.3})],
         '2.png': []}
NAMES = ('tea pot', 'cup', 'unused')


def test_crops_are_exact(tmp_path: Path) -> None:
    write_coco(tmp_path / 'dim', BOXES, NAMES)
    index = coco.read_crops(tmp_path, margin=0)
    assert index.class_names == ('cup', 'tea pot', 'unused')
    assert index.domain_names == ('dim',)
    assert index.files == ('dim/0.png', 'dim/0.png', 'dim/1.png')
    assert [index.class_names[label] for label in index.labels] == ['cup', 'tea pot', 'cup']
    assert index.boxes.tolist() == [[4, 5, 20, 10], [10, 2, 13, 11], [25, 15, 15, 15]]
    first, second = write_image(tmp_path / 'a.png', 0), write_image(tmp_path / 'b.png', 1)
    assert (index.read(0) == first[5:15, 4:24]).all()
    assert (index.read(1) == first[2:13, 10:23]).all()
    assert (index.read(2) == second[15:30, 25:40]).all()
    assert index.name(0) == 'dim/0.png@4,5,20,10'


def test_margin_grows_boxes_within_the_picture(tmp_path: Path) -> None:
    write_coco(tmp_path, {'0.png': [('cup', [10, 5, 20, 10], {}), ('cup', [0, 20, 20, 10], {})]},
               ['cup'])
    index = coco.read_crops(tmp_path, margin=0.1)
    assert index.boxes.tolist() == [[8, 4, 24, 12], [0, 19, 22, 11]]
    assert index.read(1).shape == (11, 22, 3)


@pytest.mark.parametrize('turn', range(1, 9))
@pytest.mark.parametrize('counted', ['stored', 'seen'])
def test_boxes_show_the_same_whichever_way_a_photo_lies(tmp_path: Path, turn: int, counted: str
                                                        ) -> None:
    stored = np.zeros((30, 40, 3), np.uint8)
    stored[5:15, 4:24] = 200  # the object
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(stored).save(tmp_path / '0.png', exif=exif)
    seen = to_rgb(decode((tmp_path / '0.png').read_bytes()))
    rows, columns = np.nonzero((seen if counted == 'seen' else stored)[..., 0])
    box = [int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
    size = (seen if counted == 'seen' else stored).shape[1::-1]
    if counted == 'seen' and size == (40, 30) and turn > 1:
        pytest.skip('which is meant cannot be told: it counts as stored')
    (tmp_path / 'annotations.json').write_text(json.dumps({
        'images': [{'id': 0, 'file_name': '0.png', 'width': size[0], 'height': size[1]}],
        'categories': [{'id': 0, 'name': 'cup'}],
        'annotations': [{'image_id': 0, 'category_id': 0, 'bbox': box}]}))
    index = coco.read_crops(tmp_path, margin=0)
    assert index.read(0).shape[:2] == ((10, 20) if turn < 5 else (20, 10))
    assert (index.read(0) == 200).all()


def test_no_object_left_is_said(tmp_path: Path) -> None:
    write_coco(tmp_path, {'0.png': [('cup', [1, 1, 9, 9], {'visible': 0.2})]}, ['cup'])
    with pytest.raises(ValueError, match='none of its 1 objects is 8 px large and 30% visible'):
        coco.read_crops(tmp_path)


def test_corrupt_picture_takes_all_its_crops_along(tmp_path: Path) -> None:
    write_coco(tmp_path, BOXES, NAMES)
    (tmp_path / '0.png').write_bytes(b'')
    index = coco.read_crops(tmp_path)
    assert index.files == ('1.png',)
    [corrupt] = index.corrupt
    assert corrupt.startswith('0.png: expected a BMP, JPEG, PNG, TIFF or WebP image, got 0 bytes')


def test_scenes_tell_what_is_present(tmp_path: Path) -> None:
    write_coco(tmp_path / 'a', BOXES, NAMES)
    write_coco(tmp_path / 'b', {'9.png': [('fork', [1, 1, 9, 9], {})]}, ['fork'])
    index = coco.read_scenes(tmp_path, least_visible=0.1)
    assert index.class_names == ('cup', 'fork', 'tea pot', 'unused')
    assert index.labels.tolist() == [[True, False, True, False], [True, False, True, False],
                                     [False] * 4, [False, True, False, False]]
    assert images.Images(index, 16)[3].label.tolist() == [False, True, False, False]
    seen_well = coco.read_scenes(tmp_path / 'a', least_visible=0.5)
    assert seen_well.labels[1].tolist() == [False, True, False]  # both cups are mostly covered


@pytest.mark.parametrize('content', ['', '[]', '{"images": []}',
                                     '{"images": [{}], "categories": [], "annotations": []}',
                                     '[' * 100_000, *(
    json.dumps({'images': [{'id': 1, 'file_name': 'a.png', 'width': width, 'height': 9}],
                'categories': [{'id': 1, 'name': name}],
                'annotations': [{'image_id': 1, 'category_id': 1, 'bbox': box, 'visible': seen}]})
    for width, name, box, seen in ((9, 'cup', None, 1), (9, 'cup', ['x'] * 4, 1),
                                   (9, 'cup', [float('nan')] * 4, 1), ([], 'cup', [0] * 4, 1),
                                   (9, 5, [0] * 4, 1), (9, 'cup', [0] * 4, {})))])
def test_other_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / 'annotations.json').write_text(content)
    with pytest.raises(ValueError, match="expected COCO's images, annotations and categories"):
        coco.read_crops(tmp_path)
