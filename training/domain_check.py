"""
Measure how different the domains of a dataset look, independent of the objects in the images.

Each image is described by standardised statistics of colour and gradients, and classified by the
nearest centroid of a domain. Every other class gives the centroids; the remaining classes measure
the accuracy. No network is involved.

python training/domain_check.py --data DATASET/single
"""
import argparse
from collections.abc import Sequence
from pathlib import Path
import sys

import cv2
import numpy as np
from training.data.image_index import Index, read_folders
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.preprocess import resize_on_cpu

SIDE = 224  # images are compared at this size [px]


def statistics(pixels: np.ndarray) -> np.ndarray:
    """
    Describe an image by colour and gradients alone.

    :param pixels: (H, W, 3) uint8 RGB.
    :return: (F,) mean and deviation per channel and of the saturation, quantiles of brightness and
        of the gradient's magnitude, logarithms of the latter and of the Laplacian's variance.
    """
    rgb = pixels.astype(np.float32) / 255
    grey = rgb.mean(-1)
    saturation = rgb.max(-1) - rgb.min(-1)
    slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return np.concatenate([
        rgb.mean((0, 1)), rgb.std((0, 1)), [saturation.mean(), saturation.std()],
        np.quantile(grey, (0.05, 0.5, 0.95)),
        np.log(np.quantile(slope, (0.25, 0.5, 0.75, 0.9, 0.99)) + 1e-3),
        [np.log(cv2.Laplacian(grey, cv2.CV_32F).var() + 1e-6)]])


def confusion(features: np.ndarray, labels: np.ndarray, domains: np.ndarray) -> np.ndarray:
    """
    Classify domains by the nearest centroid.

    :param features: (N, F); labels and domains: (N,).
    :return: (D, D) counts of the test images: row true domain, column predicted domain.
    :raises ValueError: for fewer than 2 domains or classes, or a domain in one half only.
    """
    names, of_class = np.unique(labels, return_inverse=True)
    kinds, of_domain = np.unique(domains, return_inverse=True)
    if len(names) < 2 or len(kinds) < 2:
        raise ValueError(f'expected at least 2 domains of at least 2 classes, got {len(kinds)} '
                         f'and {len(names)}; read a folder of <domain>/<class>/*')
    fit = of_class % 2 == 0
    for half in (fit, ~fit):
        if len(np.unique(of_domain[half])) < len(kinds):
            raise ValueError('expected every domain in both halves of the classes; '
                             'add images or classes to the one that is missing')
    deviation = features[fit].std(0)
    scaled = (features - features[fit].mean(0)) / np.where(deviation > 0, deviation, 1)
    centroids = np.stack([scaled[fit & (of_domain == kind)].mean(0) for kind in range(len(kinds))])
    distances = np.linalg.norm(scaled[~fit, None] - centroids, axis=-1)  # (N, D)
    table = np.zeros((len(kinds), len(kinds)), np.int64)
    np.add.at(table, (of_domain[~fit], distances.argmin(-1)), 1)
    return table


def describe(index: Index) -> np.ndarray:
    """Return the (N, F) statistics of the images of an index."""
    return np.stack([statistics(resize_on_cpu([Frame(index.read(row))], SIDE, 'squash')[0])
                     for row in range(len(index))])


def report(table: np.ndarray, names: Sequence[str]) -> str:
    """Return the confusion as a table in Markdown, and the accuracy."""
    rows = [['domain \\ taken for', *names], ['---'] * (len(names) + 1),
            *([name, *map(str, counts)]
              for name, counts in zip(names, table.tolist(), strict=True))]
    accuracy = np.trace(table) / table.sum()
    return '\n'.join([*(f'| {" | ".join(row)} |' for row in rows), '',
                      f'{accuracy:.1%} of {table.sum()} images in the right one of {len(names)} '
                      f'domains (chance {1 / len(names):.1%})'])


def main() -> None:
    """Print how well the domains of a dataset can be distinguished."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, required=True,
                        help='folder of images, <domain>/<class>/*, or a dataset of render.py')
    options = parser.parse_args()
    root = options.data / 'single' if (options.data / 'single').is_dir() else options.data
    try:
        index = read_folders(root)
        table = confusion(describe(index), index.labels, index.domains)
    except ValueError as error:
        sys.exit(f'domain_check: {error}')
    for line in index.corrupt:
        print(f'skipped {line}', file=sys.stderr)
    print(report(table, [index.domain_names[domain] for domain in np.unique(index.domains)]))


if __name__ == '__main__':
    main()
