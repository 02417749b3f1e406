"""The files of a dataset: atomic writes, COCO annotations, WebDataset shards, the card."""
from collections import Counter
from collections.abc import Mapping, Sequence
import json
from pathlib import Path
import re
from typing import Any

import cv2
import numpy
from training.rendering.domains import DOMAINS
from training.rendering.engine import mujoco
from training.rendering.meshes import Mesh
from vl2v_ros.files import replacing

YCB = re.compile(r'\d{3}(-[a-z])?_')
YCB_CREDIT = {
    'attribution': 'renders of the YCB Object and Model Set (B. Calli, A. Singh, A. Walsman, '
                   'S. Srinivasa, P. Abbeel, A. M. Dollar: The YCB Object and Model Set, 2015)',
    'licence': 'CC BY 4.0'}
UNKNOWN_CREDIT = {'attribution': 'not stated', 'licence': 'not stated'}
CREDIT_FILE = 'credit.json'  # beside the meshes: {"attribution": ..., "licence": ...}


def write(path: Path, data: bytes) -> None:
    """Write a file, completely or not at all; raises OSError."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_dataset(out: Path, records: Sequence[Mapping[str, Any]], skipped: Mapping[str, str],
                  meshes: Sequence[Mesh], settings: Mapping[str, Any], source: Path,
                  shards: Sequence[str] = ()) -> dict[str, Any]:
    """
    Write the annotations of each kind and domain, and dataset.json; return the latter.

    :param records: one per image, as `render.py` makes them.
    :param shards: names of the shards, where some were written.
    """
    names = [mesh.name for mesh in meshes]
    for kind in ('single', 'clutter'):
        for domain in settings['domains']:
            chosen = [record for record in records
                      if record['kind'] == kind and record['domain'] == domain]
            if chosen:
                coco = to_coco(chosen, names, f'{kind}/{domain}')
                write(out / kind / domain / 'annotations.json', _dump(coco))
    counts = Counter(f'{record["kind"]}/{record["domain"]}' for record in records)
    card = {
        **settings, 'domains': {name: DOMAINS[name].description for name in settings['domains']},
        'classes': names, 'counts': dict(counts), **({'shards': [*shards]} if shards else {}),
        'skipped': dict(skipped),
        'untextured': [mesh.name for mesh in meshes if mesh.texture is None],
        'versions': {module.__name__: module.__version__ for module in (mujoco, numpy, cv2)},
        **credit_of(source, names)}
    write(out / 'dataset.json', _dump(card))
    return card


def credit_of(source: Path, names: Sequence[str]) -> dict[str, str]:
    """Return licence and attribution of meshes: from credit.json beside them, or known for YCB."""
    path = source / CREDIT_FILE
    if path.is_file():
        return {**UNKNOWN_CREDIT, **json.loads(path.read_text())}
    return YCB_CREDIT if all(YCB.match(name) for name in names) else UNKNOWN_CREDIT


def to_coco(records: Sequence[Mapping[str, Any]], names: Sequence[str], folder: str
            ) -> dict[str, Any]:
    """
    Return records as COCO's object detection format.

    bbox is left, top, width, height [px]; `visible` is the part of the object's pixels in the
    picture that nothing covers; `id_in_mask` is its value in *_ids.png.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, record in enumerate(records, 1):
        images.append({'id': number, 'file_name': str(record['file'])[len(folder) + 1:],
                       'width': record['width'], 'height': record['height']})
        for entry in record['objects']:
            annotation = {'id': len(annotations) + 1, 'image_id': number, 'iscrowd': 0,
                          'category_id': names.index(entry['class']) + 1, 'bbox': entry['box'],
                          'area': entry.get('area', entry['box'][2] * entry['box'][3]),
                          'visible': entry['visible']}
            annotations.append(annotation | ({'id_in_mask': entry['id']} if 'id' in entry else {}))
    return {'images': images, 'annotations': annotations,
            'categories': [{'id': index, 'name': name} for index, name in enumerate(names, 1)]}


def write_shards(out: Path, records: Sequence[Mapping[str, object]], per_shard: int) -> list[str]:
    """
    Write `shards/<kind>-NNNNNN.tar` for WebDataset: the image, and its record as JSON.

    :return: their names.
    """
    import webdataset
    written: list[str] = []
    (out / 'shards').mkdir(exist_ok=True)
    for kind in ('single', 'clutter'):
        chosen = [record for record in records if record['kind'] == kind]
        if not chosen:
            continue
        pattern = str(out / 'shards' / f'{kind}-%06d.tar')
        with webdataset.ShardWriter(pattern, maxcount=per_shard, mtime=0, verbose=0,
                                    post=lambda path: written.append(Path(path).name)) as sink:
            for record in chosen:
                sink.write({'__key__': str(record['file'])[:-len('.jpg')].replace('.', '_'),
                            'jpg': (out / str(record['file'])).read_bytes(), 'json': record})
    return written


def _dump(value: object) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()
