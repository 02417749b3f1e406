"""Small valid files of every kind that is read, which the fuzzing begins from."""
from collections.abc import Callable
import io
import json
from pathlib import Path
import shutil
import tarfile

import cv2
import numpy as np
from PIL import Image as PillowImage
from rosbags.rosbag2 import StoragePlugin
from support import image_bags, offline_student, tiny_data, uneven_video
from vl2v_ros.words import recording
from vl2v_ros.words.recording import Recording

ROOT = Path(__file__).parents[2]
PYRAMID = ('mtllib a.mtl\nv 0 0 0\nv .1 0 0\nv 0 .1 0\nv 0 0 .1\nvt 0 0\nvt 1 0\nvt 0 1\n'
           'vn 0 0 1\nusemtl m\nf 1/1/1 3/3/1 2/2/1\nf 1/1 2/2 4/3\nf 2//1 3//1 4//1\nf 3 1 4\n')


def picture(height: int = 24, width: int = 32) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB of a gradient with some noise."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows * 255 // height, columns * 255 // width, rows + columns], axis=2)
    return (pixels + np.random.default_rng(0).integers(0, 9, pixels.shape)).astype(np.uint8)


def images(folder: Path) -> None:
    pixels = picture()
    for ending in ('.jpg', '.png', '.bmp', '.tif', '.webp'):
        (folder / f'plain{ending}').write_bytes(cv2.imencode(ending, pixels)[1].tobytes())
    (folder / 'deep.png').write_bytes(cv2.imencode('.png', pixels.astype(np.uint16) * 257)[1])
    (folder / 'deep.tif').write_bytes(cv2.imencode('.tif', pixels.astype(np.float32))[1])
    (folder / 'grey.jpg').write_bytes(cv2.imencode('.jpg', pixels[..., 0])[1])
    (folder / 'alpha.webp').write_bytes(cv2.imencode('.webp', np.dstack(
        [pixels, pixels[..., :1]]), [cv2.IMWRITE_WEBP_QUALITY, 101])[1])
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # turned
    one = PillowImage.fromarray(pixels)
    one.save(folder / 'turned.jpg', exif=exif, progressive=True)
    one.save(folder / 'two.mpo', format='MPO', save_all=True, append_images=[one])
    (folder / 'two.mpo').rename(folder / 'two.jpg')
    one.convert('P').save(folder / 'palette.png', transparency=0)
    one.convert('1').save(folder / 'bits.tif', compression='group4')
    one.save(folder / 'lzw.tiff', compression='tiff_lzw')
    one.convert('P').save(folder / 'palette.bmp')


def videos(folder: Path) -> None:
    for ending, code in (('.mp4', 'mp4v'), ('.avi', 'MJPG'), ('.mkv', 'mp4v'), ('.webm', 'VP80')):
        writer = cv2.VideoWriter(str(folder / f'plain{ending}'), cv2.VideoWriter_fourcc(*code), 10,
                                 (32, 24))
        for number in range(6):
            writer.write(np.roll(picture(), number, axis=1))
        writer.release()
    uneven_video.write(folder / 'uneven.mkv', 32, 24)


def bags(folder: Path) -> None:
    messages = [(topic, image_bags.START + number * 10 ** 8, make(picture(8, 10), number))
                for number in range(3) for topic, make in (
                    ('/raw', image_bags.raw), ('/jpeg', image_bags.compressed),
                    ('/said', lambda pixels, stamp: image_bags.text('none')))]
    for name, storage in (('mcap', StoragePlugin.MCAP), ('sqlite', StoragePlugin.SQLITE3)):
        image_bags.write(folder / name, messages, storage)
    (folder / 'alone').mkdir()
    shutil.copy(next((folder / 'mcap').glob('*.mcap')), folder / 'alone' / 'alone.mcap')


def words(folder: Path) -> None:
    (folder / 'words.yaml').write_text(
        'labels:\n  mug: A cup with a handle.\n  "yes": [One., Two.]\n  red apple:\n'
        '    descriptions: [Round and red.]\n    synonyms: [apple, pomme]\ntemplate: a {label}\n'
        'background:\n- an empty table\n')
    (folder / 'list.yaml').write_text('labels: [mug, banana, "12"]\n')


def recipes(folder: Path) -> None:
    for path in (ROOT / 'config/distill').glob('*.yaml'):
        shutil.copy(path, folder)


def tables(folder: Path) -> None:
    """Write the smaller YAML and CSV files of training."""
    (folder / 'split.yaml').write_text('id: [mug, banana]\nood: [apple]\n')
    (folder / 'names.yaml').write_text('n01: mug\nn02: red apple\n')
    (folder / 'classes.yaml').write_text('[mug, banana, red apple]\n')
    (folder / 'sets.yaml').write_text('shops: {images: photos, names: config/names/ycb.yaml}\n')
    (folder / 'facts.yaml').write_text('mug:\n' + ''.join(f'  {key}: [one, two]\n' for key in (
        'names', 'kinds', 'colours', 'shapes', 'materials', 'uses', 'looks')))
    (folder / 'study.yaml').write_text(
        'base: config/distill/mini.yaml\narms: {one: {batch: 8}, two: {loss: {cls: 1}}}\n'
        'columns: {accuracy: [table, all, top1]}\nseeds: [0, 1]\n'
        'plot: {size: {one: 1, two: 2}}\n')
    (folder / 'captions.csv').write_text('file,caption\na/b/0.png,"a mug, red"\na/b/1.png,two\n')
    (folder / 'sequence.csv').write_text('stamp,photo\n0,a.jpg\n0.5,b.jpg\n1.25,c.jpg\n')
    (folder / 'prompts.txt').write_text('a photo of a mug\tmug\na mug\n')
    (folder / 'labels.txt').write_text('mug\nred apple\n')


def students(folder: Path) -> None:
    offline_student.write(folder / 'plain')
    from support.tiny_models import student
    from vl2v_ros.model import checkpoint
    from vl2v_ros.model.runtime.openvino_graph import convert, write
    one = student()
    (folder / 'eight').mkdir()
    checkpoint.save(one, folder / 'eight' / 'student.safetensors', int8=write(convert(one)))


def towers(folder: Path) -> None:
    from support.tiny_models import write_tower
    write_tower(folder)


def recordings(folder: Path) -> None:
    rows = np.eye(4, 8, dtype=np.float16)
    recording.write(Recording('a/b', 32, 'ours', ('a mug', 'a cup', 'it'), ('mug', 'cup', ''),
                              rows[:3], np.arange(64, dtype=np.uint8).reshape(2, 32), rows[2:]),
                    folder / 'both.safetensors')
    np.savez(folder / 'prompts.npz', embeddings=rows, prompts=list('abcd'), names=list('abcd'))
    np.savez_compressed(folder / 'files.npz', embeddings=rows, files=list('abcd'))


def coco(folder: Path) -> None:
    tiny_data.write_scenes(folder, [['red_circle', 'blue_square'], ['green_star'], []])
    shutil.copy(folder / 'day' / '0.png', folder / 'day' / 'other.png')


def shards(folder: Path) -> None:
    jpeg = cv2.imencode('.jpg', picture())[1].tobytes()
    (folder / 'shards').mkdir()
    with tarfile.open(folder / 'shards' / 'single-000000.tar', 'w') as tar:
        for number in range(2):
            record = {'file': f'{number}.jpg', 'kind': 'single', 'domain': 'day', 'objects': [
                {'class': 'mug', 'box': [0, 0, 8, 8], 'visible': 1.0}]}
            for ending, data in (('jpg', jpeg), ('json', json.dumps(record).encode())):
                entry = tarfile.TarInfo(f'{number}.{ending}')
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    (folder / 'dataset.json').write_text(json.dumps({
        'classes': ['mug', 'cup'], 'domains': ['day'], 'counts': {'single': 2}}))


def meshes(folder: Path) -> None:
    (folder / 'a').mkdir()
    (folder / 'a' / 'a.obj').write_text(PYRAMID)
    (folder / 'a' / 'a.mtl').write_text('newmtl m\nKd 1 1 1\nmap_Kd a.png\n')
    (folder / 'a' / 'a.png').write_bytes(cv2.imencode('.png', picture(8, 8))[1].tobytes())


def archives(folder: Path) -> None:
    with tarfile.open(folder / 'a.tgz', 'w:gz') as tar:
        for name, text in (('google_16k/a.obj', PYRAMID), ('google_16k/a.mtl', 'newmtl m\n')):
            entry = tarfile.TarInfo(f'mug/{name}')
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))


def caches(folder: Path) -> None:
    """Write the caches of prompts and of image embeddings."""
    from support.tiny_models import GivenText
    from training.teachers.embedding_cache import open_store
    from vl2v_ros.words.cached_text import CachedText
    rows = np.eye(3, 8, dtype=np.float32)
    known = GivenText(dict(zip('abc', rows, strict=True)))
    CachedText('a/b', 8, lambda: known, folder).encode(tuple('abc'))
    store = open_store(folder / 'embeddings', 'a/b', 8)
    with store.writing():
        store.append([bytes([number]) * 16 for number in range(3)], rows)


SEEDS: tuple[Callable[[Path], None], ...] = (
    images, videos, bags, words, recipes, tables, students, towers, recordings, coco, shards,
    meshes, archives, caches)
