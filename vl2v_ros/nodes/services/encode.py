"""~/encode_text and ~/encode_image: texts and images as vectors of one space, on demand."""
from collections.abc import Callable
from typing import TypeAlias

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from vl2v_msgs.srv import EncodeImage, EncodeText
from vl2v_ros.nodes.loaded import Loaded, Running
from vl2v_ros.nodes.messages import float_array
from vl2v_ros.nodes.services.pictures import asked_of, embed
from vl2v_ros.words.labels import check_text

Parts: TypeAlias = tuple[Loaded | None, Running | None]
MOST_TEXTS = 1000  # of a request
NOT_ACTIVE = 'the node is not active; activate it first'


class EncodeServices:
    """The two services of a node; each has a thread of its own while it works."""

    def __init__(self, node: Node, parts: Callable[[], Parts]) -> None:
        """
        Offer them.

        :param parts: returns what is loaded and what runs, None where nothing is.
        """
        self._parts = parts
        node.create_service(EncodeText, '~/encode_text', self._on_text,
                            callback_group=MutuallyExclusiveCallbackGroup())
        node.create_service(EncodeImage, '~/encode_image', self._on_image,
                            callback_group=MutuallyExclusiveCallbackGroup())

    def _on_text(self, request: EncodeText.Request, response: EncodeText.Response
                 ) -> EncodeText.Response:
        loaded, _ = self._parts()
        try:
            if loaded is None:
                raise ValueError('the node is not configured; configure it first')
            if not 0 < len(request.texts) <= MOST_TEXTS:
                raise ValueError(f'texts: expected 1 to {MOST_TEXTS}, got {len(request.texts)}')
            texts = [check_text(text, f'text {number}', 'a sentence')
                     for number, text in enumerate(request.texts, 1)]
            response.vectors = float_array(loaded.encoder.encode(texts).rows)
            response.space, response.success = loaded.origin.space, True
        except ValueError as error:
            response.message = str(error)
        return response

    def _on_image(self, request: EncodeImage.Request, response: EncodeImage.Response
                  ) -> EncodeImage.Response:
        loaded, running = self._parts()
        try:
            if loaded is None or running is None:
                raise ValueError(NOT_ACTIVE)
            response.vectors = float_array(embed(running.worker, asked_of(request)))
            response.space, response.student = loaded.origin
            response.success = True
        except ValueError as error:
            response.message = str(error)
        return response
