"""Labeller: a student with its text tower; the way to use this package without ROS."""
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from vl2v_ros.files import share
from vl2v_ros.images.frame import BLANK, Frame
from vl2v_ros.images.sources import read_image
from vl2v_ros.model import checkpoint
from vl2v_ros.model.classifier import Classifier
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.words.cached_text import CachedText, default_cache_dir, open_text_tower
from vl2v_ros.words.labels import check_labels
from vl2v_ros.words.vectors.examples import scale_of, TEXT_WEIGHT
from vl2v_ros.words.vectors.origin import Origin
from vl2v_ros.words.vectors.teaching import taught
from vl2v_ros.words.vocabulary import build, Vocabulary
from vl2v_ros.words.vocabulary_file import parse, VocabularyFile

Image = Frame | np.ndarray | Path | str


class Labeller:
    """
    Labels images; the labels may change from one image to the next.

    The student is loaded with the first image. The text tower is loaded with the first prompt
    that is neither recorded beside the checkpoint nor cached. It is not thread-safe.

    spec: the student's specification in the checkpoint.
    encoder: the text tower, with its recording and cache of prompts.
    """

    def __init__(self, student: checkpoint.StoredStudent, encoder: CachedText,
                 device: str = 'auto', half: bool = True) -> None:
        """Store the parts; use `open` to make a Labeller."""
        self.spec, self.encoder = student.spec, encoder
        self._student, self._device, self._half = student, device, half
        self._named: tuple[object, Vocabulary] | None = None

    @classmethod
    def open(cls, path: Path | str | None = None, device: str = 'auto', half: bool = True,
             cache_dir: Path | None = None) -> 'Labeller':
        """
        Read a checkpoint's header.

        :param path: student, *.safetensors; by default the one in the package.
        :param device: 'auto' (CUDA if present, else CPU), 'cpu', 'cuda', 'cuda:N'; or, with
            the student's ONNX file beside it, 'onnx:cpu', 'onnx:cuda' or 'onnx:tensorrt'.
        :param half: compute in half precision, on a CPU where that is faster and precise enough.
        :param cache_dir: cache of prompts and of how a CPU runs a student; by default that of
            this user.
        :raises ValueError: for a file that is no student.
        """
        path = share() / 'models/student.safetensors' if path is None else Path(path)
        cache_dir = cache_dir or default_cache_dir()
        student = checkpoint.open_stored(path, cache_dir / 'graphs')
        return cls(student, open_text_tower(student.spec.text_tower, student.spec.width,
                                            path.parent, cache_dir), device, half)

    @cached_property
    def origin(self) -> Origin:
        """Where the embeddings of images come from."""
        return Origin(self.encoder.identity, self._student.digest)

    @cached_property
    def classifier(self) -> Classifier:
        """The student, ready to run; raises ValueError for a device that is not there."""
        return Classifier(self._student, self._device, self._half)

    def vocabulary(self, words: Sequence[str] | VocabularyFile | Path | str) -> Vocabulary:
        """
        Encode labels.

        :param words: labels; or the path of a vocabulary file (*.yaml), or its parsed content.
        :raises ValueError: for invalid labels, or labels that cannot be encoded here.
        """
        file = self._file(words)
        return build(file.all_entries, self.encoder, 1, file.templates or self.spec.templates,
                     file.background, self.spec.presence, file.examples, self.example_scale)

    @property
    def example_scale(self) -> float:
        """How much examples count against texts, see `scale_of`."""
        return scale_of(self.spec.unknown_threshold)

    def teach(self, words: Sequence[str] | VocabularyFile | Path | str, label: str,
              images: Sequence[Image], text_weight: float = TEXT_WEIGHT) -> VocabularyFile:
        """
        Teach a label by showing it.

        :param words: labels, a vocabulary file (*.yaml) or its content, such as this returned
            before; a label that it lacks is added.
        :param images: what shows it, one or more.
        :param text_weight: how much its text counts against the examples, in [0, 1].
        :return: for `vocabulary`, and for vocabulary_file.save to keep it.
        :raises ValueError: for an image that cannot be read or shows nothing, and as `vocabulary`
            does for invalid words.
        """
        frames = [_frame(image) for image in images]
        for number, frame in enumerate(frames, 1):
            if frame.is_blank():
                raise ValueError(f'picture {number}: {BLANK}')
        rows = self.classifier.embed(frames) if frames else np.empty((0, self.spec.width))
        return taught(self._file(words), label, rows, text_weight)[0]

    def _file(self, words: Sequence[str] | VocabularyFile | Path | str) -> VocabularyFile:
        """Return the content of words, with its examples."""
        if isinstance(words, (str, Path)):
            words = parse(str(words))
        file = words if isinstance(words, VocabularyFile) else VocabularyFile(check_labels(words))
        return file if file.examples else file.read_examples(self.origin)

    def label(self, image: Image, words: Vocabulary | Sequence[str] | Path | str, top_k: int = 5
              ) -> Prediction:
        """
        Label one image.

        :param image: a file, or (H, W, 3) uint8 RGB pixels.
        :param words: labels, a vocabulary file (*.yaml), or what `vocabulary` returned.
        :raises ValueError: for an image that cannot be read, or as `vocabulary` does.
        """
        return self.classifier.classify([_frame(image)], self._known(words), top_k)[0]

    def embed(self, images: Sequence[Image]) -> np.ndarray:
        """Return (B, D) float32 unit rows, in the space of the prompts; raises ValueError."""
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
    if isinstance(image, np.ndarray):
        return Frame(image)
    try:
        return read_image(Path(image))
    except ValueError as error:
        raise ValueError(f'{image}: {error}') from error
