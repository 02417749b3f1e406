"""
Label the images of a folder: python examples/label_folder.py FOLDER 'banana, mug, power drill'.

Without labels, with everyday things. No ROS is needed.
"""
from pathlib import Path
import sys

from vl2v_ros import Labeller
from vl2v_ros.files import share
from vl2v_ros.images.folders import image_paths


def main(folder: str, labels: str = '') -> None:
    """Print a line per image: its best label, how similar it is, and the file."""
    labeller = Labeller.open()  # the student that ships
    words = labeller.vocabulary(labels or share() / 'config/vocabularies/everyday.yaml')
    for path in image_paths(Path(folder)):
        prediction = labeller.label(path, words)
        label = 'unknown' if prediction.unknown else prediction.labels[0]
        print(f'{label:20} {prediction.similarities[0]:.2f} {path.name}')


if __name__ == '__main__':
    main(*(sys.argv[1:] or sys.exit(__doc__)))
