"""
Find the images most like one of them: python examples/use_embedding.py IMAGE FOLDER.

Embeddings are unit vectors in CLIP's space: a dot product is the cosine similarity, of two images
or of an image and a text. No ROS is needed.
"""
from pathlib import Path
import sys

import numpy as np
from vl2v_ros import Labeller
from vl2v_ros.images.folders import image_paths


def main(image: str, folder: str) -> None:
    """Print the five nearest images with their cosines, then the image's with a text."""
    labeller = Labeller.open()
    paths = image_paths(Path(folder))
    [wanted] = labeller.embed([image])  # (D,)
    rows = np.concatenate([labeller.embed([path]) for path in paths])  # (N, D)
    similarities = rows @ wanted  # (N,)
    for number in similarities.argsort()[::-1][:5]:
        print(f'{similarities[number]:.2f} {paths[number].name}')
    [banana] = labeller.encoder.encode(['a photo of a banana']).rows  # (D,)
    print(f'{wanted @ banana:.2f} a photo of a banana')


if __name__ == '__main__':
    main(*(sys.argv[1:] or sys.exit(__doc__)))
