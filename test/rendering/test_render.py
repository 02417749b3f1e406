"""Rendering for real, of meshes made here, by the command as a user runs it."""
import filecmp
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.long

SCRIPT = Path(__file__).parents[2] / 'training' / 'render.py'
CORNERS = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
CUBE_FACES = ((1, 2, 4, 3), (5, 7, 8, 6), (1, 5, 6, 2), (3, 4, 8, 7), (1, 3, 7, 5), (2, 6, 8, 4))
PYRAMID = 'v 0 0 0\nv .1 0 0\nv .1 .1 0\nv 0 .1 0\nv .05 .05 .1\n' \
    'f 4 3 2 1\nf 1 2 5\nf 2 3 5\nf 3 4 5\nf 4 1 5\n'


def write_cube(folder: Path) -> None:
    folder.mkdir(parents=True)
    lines = ['mtllib cube.mtl', *(f'v {x / 12} {y / 12} {z / 12}' for x, y, z in CORNERS),
             'vt 0 0', 'vt 1 0', 'vt 1 1', 'vt 0 1', 'usemtl paint',
             *(f'f {a}/1 {b}/2 {c}/3 {d}/4' for a, b, c, d in CUBE_FACES)]
    (folder / 'cube.obj').write_text('\n'.join(lines) + '\n')
    (folder / 'cube.mtl').write_text('newmtl paint\nmap_Kd paint.png\n')
    paint = np.zeros((64, 64, 3), np.uint8)
    paint[:32], paint[32:, :, 2] = (40, 200, 240), 220
    cv2.imwrite(str(folder / 'paint.png'), paint)


@pytest.fixture(scope='module')
def meshes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('meshes')
    write_cube(folder / 'painted cube')
    (folder / 'pirámide').mkdir()
    (folder / 'pirámide' / 'pirámide.obj').write_text(PYRAMID)
    return folder


def render(meshes: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(meshes, out, *options), capture_output=True, text=True)


def command(meshes: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, str(SCRIPT), '--meshes', str(meshes), '--out', str(out),
            '--size', '96', '--count', '3', '--heaps', '1', '--heap-size', '160', '120',
            '--workers', '1', *options]


@pytest.fixture(scope='module')
def dataset(meshes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('dataset') / 'out'
    done = render(meshes, out, '--shards', '8', '--workers', '2')
    assert done.returncode == 0, done.stderr
    assert 'pirámide: no texture, rendered grey' in done.stderr
    return out


def files(folder: Path) -> dict[str, Path]:
    """Return the files by their names, without what is hidden: a killed run leaves some of it."""
    found = {path.relative_to(folder): path for path in sorted(folder.rglob('*'))}
    return {str(name): path for name, path in found.items()
            if path.is_file() and not any(part.startswith('.') for part in name.parts)}


def assert_same(first: Path, second: Path) -> None:
    assert files(first).keys() == files(second).keys()
    different = [name for name, path in files(first).items()
                 if not filecmp.cmp(path, second / name, shallow=False)]
    assert not different


def test_every_class_and_domain_has_its_images(dataset: Path) -> None:
    card = json.loads((dataset / 'dataset.json').read_text())
    assert card['classes'] == ['painted cube', 'pirámide']
    assert card['untextured'] == ['pirámide']
    assert not card['skipped']
    assert set(card['domains']) == {'studio', 'tabletop', 'dim', 'blur', 'toon'}
    for domain in card['domains']:
        for name in card['classes']:
            images = sorted((dataset / 'single' / domain / name).glob('*.jpg'))
            assert len(images) == 3
            assert cv2.imread(str(images[0])).shape == (96, 96, 3)
        assert card['counts'][f'clutter/{domain}'] == 2


@pytest.mark.parametrize('domain', ['studio', 'tabletop', 'dim', 'blur', 'toon'])
def test_clutter_boxes_contain_the_pixels_of_their_object_exactly(dataset: Path, domain: str
                                                                  ) -> None:
    folder = dataset / 'clutter' / domain
    coco = json.loads((folder / 'annotations.json').read_text())
    names = {image['id']: image['file_name'] for image in coco['images']}
    assert coco['annotations']
    for entry in coco['annotations']:
        stem = names[entry['image_id']].removesuffix('.jpg')
        ids = cv2.imread(str(folder / f'{stem}_ids.png'), cv2.IMREAD_UNCHANGED)
        rows, columns = np.nonzero(ids == entry['id_in_mask'])
        left, top, width, height = entry['bbox']
        assert (columns.min(), rows.min()) == (left, top)
        assert (columns.max(), rows.max()) == (left + width - 1, top + height - 1)
        assert len(rows) == entry['area']
        assert 0 < entry['visible'] <= 1
        depth = cv2.imread(str(folder / f'{stem}_depth.png'), cv2.IMREAD_UNCHANGED)
        assert 200 < np.median(depth[rows, columns]) < 1500  # [mm], as far as the cameras stand


def test_single_boxes_surround_the_object(dataset: Path) -> None:
    coco = json.loads((dataset / 'single' / 'studio' / 'annotations.json').read_text())
    names = {entry['id']: entry['name'] for entry in coco['categories']}
    images = {entry['id']: entry['file_name'] for entry in coco['images']}
    checked = 0
    for entry in coco['annotations']:
        if names[entry['category_id']] != 'painted cube':
            continue
        pixels = cv2.imread(str(dataset / 'single' / 'studio' / images[entry['image_id']]))
        painted = (pixels.max(2).astype(int) - pixels.min(2)) > 90  # the backdrop is pale
        rows, columns = np.nonzero(painted)
        left, top, width, height = entry['bbox']
        inside = ((columns >= left - 1) & (columns <= left + width)
                  & (rows >= top - 1) & (rows <= top + height))
        assert inside.all()
        checked += len(rows)
    assert checked


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
        meshes: Path, dataset: Path, tmp_path: Path) -> None:
    assert render(meshes, tmp_path / 'again', '--shards', '8').returncode == 0
    assert_same(dataset, tmp_path / 'again')
    assert render(meshes, tmp_path / 'other', '--seed', '1', '--heaps', '0').returncode == 0
    for path in (tmp_path / 'other').rglob('*.jpg'):
        name = path.relative_to(tmp_path / 'other')
        assert path.read_bytes() != (dataset / name).read_bytes()


def test_a_killed_run_goes_on_to_the_same_dataset(meshes: Path, dataset: Path, tmp_path: Path
                                                  ) -> None:
    out = tmp_path / 'out'
    process = subprocess.Popen(
        command(meshes, out, '--shards', '8', '--workers', '2'), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((out / 'single').rglob('*.jpg')):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    written = list(out.rglob('*.jpg'))
    assert len(written) < len(list(dataset.rglob('*.jpg')))
    assert all(cv2.imread(str(path)) is not None for path in written)  # none is half a file
    assert render(meshes, out, '--shards', '8').returncode == 0
    assert_same(dataset, out)


def test_every_other_heap_of_a_split_shows_its_id_objects_only(meshes: Path, tmp_path: Path
                                                               ) -> None:
    split = tmp_path / 'split.yaml'
    split.write_text('id: [painted cube]\nood: [pirámide]\n')
    out = tmp_path / 'out'
    done = render(meshes, out, '--split', str(split), '--count', '0', '--heaps', '2', '--domains',
                  'studio', 'dim', '--workers', '2')
    assert done.returncode == 0, done.stderr
    both = {'painted cube', 'pirámide'}
    for domain in ('studio', 'dim'):
        assert shown(out / 'clutter' / domain) == {'00000': {'painted cube'}, '00001': both}
    done = render(meshes, out, '--split', str(split), '--objects', 'pirámide')
    assert 'expected --objects or --split, got both' in done.stderr
    # Or some heaps, the last ones, at a size of their own.
    more = tmp_path / 'more'
    done = render(meshes, more, '--split', str(split), '--count', '0', '--heaps', '3', '--mixed',
                  '1', '--domains', 'studio', '--heap-size', '96', '64')
    assert done.returncode == 0, done.stderr
    assert shown(more / 'clutter/studio') == {
        '00000': {'painted cube'}, '00001': {'painted cube'}, '00002': both}
    assert cv2.imread(str(more / 'clutter/studio/00000_base.jpg')).shape == (64, 96, 3)
    for options in (['--split', str(split), '--mixed', '2'], ['--mixed', '1']):
        done = render(meshes, tmp_path / 'none', *options)
        assert 'render: expected --mixed from 0 to the 1 of --heaps, beside' in done.stderr


def shown(folder: Path) -> dict[str, set[str]]:
    """Return number of a heap -> names of the objects that its pictures show."""
    content = json.loads((folder / 'annotations.json').read_text())
    names = {entry['id']: entry['name'] for entry in content['categories']}
    found: dict[str, set[str]] = {image['file_name'][:5]: set() for image in content['images']}
    for image in content['images']:
        found[image['file_name'][:5]] |= {
            names[entry['category_id']] for entry in content['annotations']
            if entry['image_id'] == image['id']}
    return found


def test_what_cannot_be_read_is_named_and_the_rest_is_rendered(meshes: Path, tmp_path: Path
                                                               ) -> None:
    folder = tmp_path / 'meshes'
    shutil.copytree(meshes, folder)
    (folder / 'broken').mkdir()
    (folder / 'broken' / 'a.obj').write_text(PYRAMID + 'f 1 2 99\n')
    (folder / 'no picture').mkdir()
    (folder / 'no picture' / 'a.obj').write_text(PYRAMID)
    (folder / 'no picture' / 'a.png').write_bytes(b'')
    done = render(folder, tmp_path / 'out', '--domains', 'studio')
    assert done.returncode == 0
    assert 'skipped broken: ' in done.stdout
    assert 'skipped no picture: ' in done.stdout
    card = json.loads((tmp_path / 'out' / 'dataset.json').read_text())
    assert set(card['skipped']) == {'broken', 'no picture'}
    assert card['counts']['single/studio'] == 6


def test_a_folder_without_a_mesh_that_can_be_read_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / 'meshes'
    (folder / 'broken').mkdir(parents=True)
    (folder / 'broken' / 'a.obj').write_text(PYRAMID + 'f 1 2 99\n')
    done = render(folder, tmp_path / 'out')
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert f'expected a mesh that can be read, found none in {folder} (broken: ' in done.stderr


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    done = render(tmp_path, tmp_path / 'out')
    assert done.returncode == 1
    assert 'expected meshes' in done.stderr


def test_a_folder_keeps_to_its_settings(meshes: Path, dataset: Path) -> None:
    done = render(meshes, dataset, '--seed', '5')
    assert done.returncode == 1
    assert 'seed 0 instead of 5' in done.stderr


def test_a_full_disk_stops_the_run_and_leaves_whole_files(meshes: Path, tmp_path: Path) -> None:
    disk = tmp_path / 'disk'
    disk.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=100k', 'tmpfs', disk]).returncode:
        pytest.skip('a small disk can be made by root only')
    try:
        done = render(meshes, disk / 'out', '--heaps', '0')
        assert done.returncode == 1
        assert 'No space left' in done.stderr
        assert 'the same command resumes' in done.stderr
        images = list(disk.rglob('*.jpg'))
        assert images
        assert all(cv2.imread(str(path)) is not None for path in images)
    finally:
        subprocess.run(['umount', disk], check=True)


def test_an_object_modelled_far_from_its_origin_is_found(tmp_path: Path) -> None:
    folder = tmp_path / 'meshes' / 'far pyramid'
    folder.mkdir(parents=True)
    lines = [f'v {float(x) + 0.7} {float(y) - 0.4} {float(z) + 1.1}' if kind == 'v'
             else ' '.join((kind, x, y, z, *rest))
             for kind, x, y, z, *rest in map(str.split, PYRAMID.splitlines())]
    (folder / 'far.obj').write_text('\n'.join(lines) + '\n')
    done = render(tmp_path / 'meshes', tmp_path / 'out', '--heaps', '0')
    assert done.returncode == 0, done.stderr
    assert 'skipped' not in done.stdout
    boxes = [entry['bbox'] for path in (tmp_path / 'out').rglob('annotations.json')
             for entry in json.loads(path.read_text())['annotations']]
    centres = np.array([(left + width / 2, top + height / 2)
                        for left, top, width, height in boxes])
    assert len(centres) == 15
    assert np.abs(centres.mean(0) - 48).max() < 16  # around the middle of the pictures [px]


def test_without_opengl_it_is_said_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, '-c', 'from OpenGL import platform\nplatform.PLATFORM.EGL = None\n'
         'import training.render'],  # as PyOpenGL has it where the library is missing
        capture_output=True, text=True, cwd=SCRIPT.parents[1],
        env=os.environ | {'PYOPENGL_PLATFORM': 'egl'})
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith('ImportError: rendering: expected OpenGL without a screen: apt-get ')
