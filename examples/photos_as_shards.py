"""
Pack photos for training: python examples/photos_as_shards.py PHOTOS DATASET 1000.

PHOTOS has <domain>/<class>/* or <class>/*; each shard holds 1000 of all kinds. Copy DATASET to a
bucket, and train from there with --data.shards --data.images s3://bucket/prefix.
"""
from collections import Counter
from pathlib import Path
import sys

import numpy as np
from training.data.image_index import read_folders
from vl2v_ros.files import write_json
import webdataset


def main(photos: str, dataset: str, per_shard: str) -> None:
    """Write DATASET/shards/*.tar, and dataset.json, which names them."""
    index, out, names = read_folders(Path(photos)), Path(dataset), list[str]()
    domains = [index.domain_names[number] for number in index.domains]
    (out / 'shards').mkdir(parents=True, exist_ok=True)
    with webdataset.ShardWriter(str(out / 'shards/single-%06d.tar'), int(per_shard), verbose=0,
                                post=lambda path: names.append(Path(path).name)) as shards:
        for row in np.random.default_rng(0).permutation(len(index)):
            file, label = index.files[row], index.class_names[index.labels[row]]
            shards.write({'__key__': f'{row:09d}', 'jpg': (index.root / file).read_bytes(),
                          'json': {'file': file, 'kind': 'single', 'domain': domains[row],
                                   'objects': [{'class': label}]}})
    write_json(out / 'dataset.json', {
        'classes': index.class_names, 'domains': index.domain_names, 'shards': names,
        'counts': {f'single/{name}': count for name, count in Counter(domains).items()}})
    print(f'{len(index)} images in {len(names)} shards, {len(index.corrupt)} left out')


if __name__ == '__main__':
    main(*(sys.argv[1:] or sys.exit(__doc__)))
