"""The parts of a configured classifier, and the threads of an active one."""
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
import time

import numpy as np
from rclpy.impl.rcutils_logger import RcutilsLogger
from vl2v_ros.images.frame import Frame
from vl2v_ros.labeller import Labeller
from vl2v_ros.model.classifier import Classifier
from vl2v_ros.nodes.cells_on_demand import CellsOnDemand
from vl2v_ros.nodes.image_executor import ImageExecutor
from vl2v_ros.nodes.parameters import ClassifierParameters
from vl2v_ros.nodes.topics.looker import Looker
from vl2v_ros.nodes.vocabulary_keeper import cache_dir, VocabularyKeeper
from vl2v_ros.nodes.worker import Worker
from vl2v_ros.words.cached_text import CachedText
from vl2v_ros.words.vectors.origin import Origin
from vl2v_ros.words.vocabulary import Vocabulary

WARM_UP_SIZES = ((480, 640), (1080, 1920))  # (H, W) [px]


@dataclass(frozen=True, eq=False)
class Loaded:
    """
    A student that is ready to run, and its vocabulary.

    encoder, origin: as of `Labeller`.
    """

    classifier: Classifier
    encoder: CachedText
    origin: Origin
    keeper: VocabularyKeeper
    cells: CellsOnDemand

    def close(self) -> None:
        """Cancel a request for descriptions, and wait for cells that are being prepared."""
        self.keeper.close()
        self.cells.close()


@dataclass(frozen=True, eq=False)
class Running:
    """
    The threads that receive images, label them, and look where labels are in them.

    boxes: receives boxes and depth.
    """

    worker: Worker
    images: ImageExecutor
    boxes: ImageExecutor
    looker: Looker


def open_student(parameters: ClassifierParameters, logger: RcutilsLogger) -> Labeller:
    """Load the student of the parameter `checkpoint`; raises ValueError."""
    if not parameters.checkpoint:
        raise ValueError('expected a student: set the parameter checkpoint to a *.safetensors '
                         'file')
    path = Path(parameters.checkpoint).expanduser()
    labeller = Labeller.open(path, parameters.device, parameters.half, cache_dir(parameters))
    spec = labeller.spec
    logger.info(f'student {path}: {spec.backbone}, {spec.image_size} px, width {spec.width}, '
                f'teacher: {spec.teacher or "not named"}')
    logger.info(f'runs on {labeller.classifier.runtime.description}')
    return labeller


def load(labeller: Labeller, parameters: Callable[[], ClassifierParameters],
         versions: Iterator[int], announce: Callable[[Vocabulary], None],
         logger: RcutilsLogger) -> Loaded:
    """
    Encode the vocabulary, and warm up.

    :param parameters: returns the current parameters.
    :param versions: numbers of vocabularies, each used once.
    :param announce: receives each vocabulary that becomes the current one.
    :raises ValueError: for an invalid vocabulary.
    """
    keeper = VocabularyKeeper(parameters, labeller.encoder, labeller.spec, versions, announce,
                              logger, labeller.origin)
    start, classifier = time.monotonic(), labeller.classifier
    for height, width in WARM_UP_SIZES:
        frame = Frame(np.zeros((height, width, 3), np.uint8))
        for batch in range(1, len(parameters().cameras) + 1):
            classifier.classify([frame] * batch, keeper.current)
    logger.info(f'warmed up in {time.monotonic() - start:.2f} s')
    return Loaded(classifier, labeller.encoder, labeller.origin, keeper,
                  CellsOnDemand(classifier, logger))
