"""
Teach a label by photos, then name one: python examples/teach_by_photos.py LABEL FOLDER PHOTO.

The labels and what they were taught are kept in taught.yaml, which a node can start with, too. No
ROS is needed.
"""
from pathlib import Path
import sys

from vl2v_ros import Labeller
from vl2v_ros.files import share
from vl2v_ros.images.folders import image_paths
from vl2v_ros.words.vocabulary_file import save

KEPT = Path('taught.yaml')


def main(label: str, folder: str, photo: str) -> None:
    """Teach the label by the images of the folder, and print what the photo shows."""
    labeller = Labeller.open()
    words = KEPT if KEPT.exists() else share() / 'config/vocabularies/household.yaml'
    file = labeller.teach(words, label, image_paths(Path(folder)))
    save(file, KEPT, labeller.origin)
    prediction = labeller.label(photo, labeller.vocabulary(file))
    print(f'{prediction.labels[0]} {prediction.similarities[0]:.2f}')


if __name__ == '__main__':
    main(*(sys.argv[1:] or sys.exit(__doc__)))
