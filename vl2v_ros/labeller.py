"""Labeller: a student with its words, the front door to all of this without ROS."""
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from vl2v_ros.files import share
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.sources import read_image
from vl2v_ros.model import checkpoint
from vl2v_ros.model.classifier import Classifier
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.words.cached_text import CachedText, default_cache_dir, open_text_tower
from vl2v_ros.words.labels import check_labels
from vl2v_ros.words.vocabulary import build, Vocabulary
from vl2v_ros.words.vocabulary_file import parse, VocabularyFile

Image = Frame | np.ndarray | Path | str


class Labeller:
    """
    Names what images show, in words that may change from one image to the next.

    The student is loaded with the first image, its text tower with the first word that is neither
    recorded beside the checkpoint nor in the cache. Not thread-safe, as runtimes are not.

    spec: what the checkpoint says of the student.
    encoder: its text tower, with the prompts that need none.
    """

    def __init__(self, student: checkpoint.StoredStudent, encoder: CachedText,
                 device: str = 'auto', half: bool = True) -> None:
        """Remember what is used; see `open` for the usual way."""
        self.spec, self.encoder = student.spec, encoder
        self._student, self._device, self._half = student, device, half
        self._named: tuple[object, Vocabulary] | None = None

    @classmethod
    def open(cls, path: Path | str | None = None, device: str = 'auto', half: bool = True,
             cache_dir: Path | None = None) -> 'Labeller':
        """
        Read a checkpoint's header.

        :param path: student, *.safetensors; by default the one that ships.
        :param device: 'auto' (CUDA, else CPU), 'cpu', 'cuda' or 'cuda:N'.
        :param half: compute in half precision where that is faster.
        :param cache_dir: of prompts and converted students; by default that of this user.
        :raises ValueError: for a file that is no student.
        """
        path = share() / 'models/student.safetensors' if path is None else Path(path)
        cache_dir = cache_dir or default_cache_dir()
        student = checkpoint.open_stored(path, cache_dir / 'graphs')
        return cls(student, open_text_tower(student.spec.text_tower, student.spec.width,
                                            path.parent, cache_dir), device, half)

    @cached_property
    def classifier(self) -> Classifier:
        """The student, ready to run; raises ValueError for a device that is not there."""
        return Classifier(self._student, self._device, self._half)

    def vocabulary(self, words: Sequence[str] | VocabularyFile | Path | str) -> Vocabulary:
        """
        Encode labels.

        :param words: labels; or a *.yaml file of them, or its content.
        :raises ValueError: for words that are of no use, or that cannot be encoded here.
        """
        if isinstance(words, (str, Path)):
            words = parse(str(words))
        file = words if isinstance(words, VocabularyFile) else VocabularyFile(check_labels(words))
        return build(file.entries, self.encoder, 1, file.templates or self.spec.templates,
                     file.background)

    def label(self, image: Image, words: Vocabulary | Sequence[str] | Path | str, top_k: int = 5
              ) -> Prediction:
        """
        Name what one image shows.

        :param image: a file, or (H, W, 3) uint8 RGB pixels.
        :param words: labels, a *.yaml file of them, or what `vocabulary` returned.
        :raises ValueError: for an image that cannot be read, or as `vocabulary` does.
        """
        return self.classifier.classify([_frame(image)], self._known(words), top_k)[0]

    def embed(self, images: Sequence[Image]) -> np.ndarray:
        """Return (B, D) float32 unit rows, in the same space as `encoder`'s; raises ValueError."""
        return self.classifier.embed([_frame(image) for image in images])

    def _known(self, words: Vocabulary | Sequence[str] | Path | str) -> Vocabulary:
        """Encode words, unless they are the last ones."""
        if isinstance(words, Vocabulary):
            return words
        key = str(words) if isinstance(words, (str, Path)) else tuple(words)
        if self._named is None or self._named[0] != key:
            self._named = key, self.vocabulary(words)
        return self._named[1]


def _frame(image: Image) -> Frame:
    if isinstance(image, Frame):
        return image
    return Frame(image) if isinstance(image, np.ndarray) else read_image(Path(image))
