"""Cells on demand: a student's cells are prepared when somebody first wants maps or boxes."""
import threading

from rclpy.impl.rcutils_logger import RcutilsLogger
from vl2v_ros.images.frame import Frame
from vl2v_ros.model.classifier import Classifier
from vl2v_ros.model.where import Where


class CellsOnDemand:
    """
    Prepares cells in a thread of its own, as that takes seconds the first time.

    Until then, and for a student without cells, there are none, and images are labelled as ever.
    """

    def __init__(self, classifier: Classifier, logger: RcutilsLogger) -> None:
        """Prepare nothing yet."""
        self._classifier, self._logger = classifier, logger
        self._thread: threading.Thread | None = None
        self._where: Where | None = None

    def get(self, frame: Frame, size: int) -> Where | None:
        """
        Return what finds labels in images; None, and begin to prepare it, if it is not ready.

        :param frame: an image of the camera that is looked at; cells are prepared for its shape.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._prepare, args=(frame, size),
                                            name='cells', daemon=True)
            self._thread.start()
        return self._where

    def close(self) -> None:
        """Wait until nothing is being prepared."""
        if self._thread:
            self._thread.join()

    def _prepare(self, frame: Frame, size: int) -> None:
        try:
            where = Where(self._classifier, self._classifier.open_cells())
            where.look(frame, size)
            self._where = where
        except (ValueError, RuntimeError) as error:  # of the student, or of OpenVINO
            reason = ' '.join(str(error).split())
            self._logger.error(f'there are no maps and no boxes of its own: {reason}')
