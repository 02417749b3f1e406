"""The photos that the demo plays, and the words that name them."""
from collections.abc import Sequence
import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
from vl2v_ros.images.frame import Frame
from vl2v_ros.model import checkpoint
from vl2v_ros.words import cached_text, vocabulary, vocabulary_file
from vl2v_ros.words.labels import check_labels
from vl2v_ros.words.vocabulary import Vocabulary

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / 'data' / 'photos_sample'
RATE = 30  # [Hz]


@dataclass(frozen=True)
class Shown:
    """
    A photo of the sequence.

    stamp: from when on it is shown [s].
    labels: those of everyday.yaml that are right.
    kind: that of the demo's second list that is right.
    photo: its path in the dataset.
    """

    stamp: float
    labels: tuple[str, ...]
    kind: str
    photo: str


def read_list() -> list[Shown]:
    """Return what the list beside the video says."""
    with (SAMPLE / 'sequence.csv').open(encoding='utf-8') as file:
        return [Shown(float(row['stamp']), tuple(filter(None, (row['label'], row['also']))),
                      row['kind'], row['photo']) for row in csv.DictReader(file)]


def truth() -> list[Shown]:
    """Return what is shown in each frame; each photo stays for a second."""
    return [shown for shown in read_list() for _ in range(RATE)]


def read_frames() -> list[Frame]:
    """Decode the video."""
    video = cv2.VideoCapture(str(SAMPLE / 'sequence.mp4'))
    frames = []
    while (pixels := video.read()[1]) is not None:
        frames.append(Frame(pixels, 'bgr'))
    return frames


def everyday() -> list[str]:
    """Return the labels of the demo's first list."""
    return list(vocabulary_file.parse(str(ROOT / 'config/vocabularies/everyday.yaml')).entries)


def build_words(student: Path, labels: Sequence[str], cache: Path) -> Vocabulary:
    """Build a vocabulary as the node does, without a network where the student needs none."""
    spec = checkpoint.load(student).spec
    tower = cached_text.open_text_tower(spec.text_tower, spec.width, student.parent, cache)
    return vocabulary.build(check_labels(labels), tower, 1, spec.templates)
