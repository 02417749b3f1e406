"""~/teach and ~/forget: labels that are learned from what the user shows."""
from collections.abc import Callable, Sequence
import time

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from vl2v_msgs.srv import Forget, Teach
from vl2v_ros.nodes.loaded import Loaded, Running
from vl2v_ros.nodes.services.encode import NOT_ACTIVE, Parts
from vl2v_ros.nodes.services.pictures import asked_of, embed, MOST_PICTURES
from vl2v_ros.nodes.topics.camera_topics import CameraTopics
from vl2v_ros.words.vectors.teaching import forgotten, taught
from vl2v_ros.words.vocabulary_file import VocabularyFile

UNCHANGED = 'the vocabulary is unchanged'


class TeachServices:
    """The two services of a node; each has a thread of its own while it works."""

    def __init__(self, node: Node, cameras: Sequence[CameraTopics], parts: Callable[[], Parts],
                 text_weight: Callable[[], float]) -> None:
        """
        Offer them.

        :param parts: returns what is loaded and what runs, None where nothing is.
        :param text_weight: returns the parameter of that name.
        """
        self._cameras = {camera.name: camera for camera in cameras}
        self._parts, self._text_weight, self._logger = parts, text_weight, node.get_logger()
        node.create_service(Teach, '~/teach', self._on_teach,
                            callback_group=MutuallyExclusiveCallbackGroup())
        node.create_service(Forget, '~/forget', self._on_forget,
                            callback_group=MutuallyExclusiveCallbackGroup())

    def _on_teach(self, request: Teach.Request, response: Teach.Response) -> Teach.Response:
        start, (loaded, running) = time.monotonic(), self._parts()
        try:
            if loaded is None or running is None:
                raise ValueError(NOT_ACTIVE)
            response.message, response.count = self._teach(loaded, running, request)
            response.success = True
        except ValueError as error:
            response.message = f'{error}; {UNCHANGED}'
            self._logger.warning(f'teach: {response.message}')
        if loaded:
            response.version = loaded.keeper.current.version
        response.seconds = time.monotonic() - start
        return response

    def _teach(self, loaded: Loaded, running: Running, request: Teach.Request
               ) -> tuple[str, int]:
        """Return what was done, and how many examples the label has."""
        rows, weight = self._shown(running, request), request.text_weight
        count = 0

        def make(file: VocabularyFile) -> VocabularyFile:
            nonlocal count
            file, label = taught(file, request.label, rows, self._text_weight() if weight < 0
                                 else weight, request.replace)
            count = len(file.examples[label].rows)
            return file
        said = loaded.keeper.apply(make)
        return f'{request.label!r} has {count} example(s); {said}', count

    def _shown(self, running: Running, request: Teach.Request) -> np.ndarray:
        """Return (N, D) embeddings of what is shown; raises ValueError."""
        if not request.frames:
            return embed(running.worker, asked_of(request), must_show=True)
        if request.images or request.compressed or request.regions:
            raise ValueError('expected pictures or a number of frames, got both')
        if request.frames > MOST_PICTURES:
            raise ValueError(f'frames: expected at most {MOST_PICTURES}, got {request.frames}')
        camera = self._cameras.get(request.camera)
        if camera is None:
            raise ValueError(f'camera: expected one of {[*self._cameras]}, got '
                             f'{request.camera!r:.80}')
        return camera.embeddings.take(request.frames)

    def _on_forget(self, request: Forget.Request, response: Forget.Response) -> Forget.Response:
        loaded, _ = self._parts()
        try:
            if loaded is None:
                raise ValueError('the node is not configured; configure it first')
            response.message = loaded.keeper.apply(lambda file: forgotten(file, request.labels))
            response.success = True
        except ValueError as error:
            response.message = f'{error}; {UNCHANGED}'
            self._logger.warning(f'forget: {response.message}')
        if loaded:
            response.version = loaded.keeper.current.version
            response.labels = list(loaded.keeper.current.labels)
        return response
