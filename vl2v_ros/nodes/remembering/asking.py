"""What is looked for, as a vector: the classifier's services embed a text or a picture."""
from collections.abc import Sequence
import time
from typing import Any

import numpy as np
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage
from vl2v_msgs.srv import EncodeImage, EncodeText
from vl2v_ros.memory.memory import Memory
from vl2v_ros.words.labels import check_texts
from vl2v_ros.words.offline import PLAIN
from vl2v_ros.words.vectors.origin import Origin
from vl2v_ros.words.vocabulary import prompt

PATIENCE = 30.0  # longest wait for an answer [s]; a text tower may have to be loaded
AGAIN = 5.0  # the first request to a service that was just found may get lost [s]
MOST_BYTES = 32 << 20  # of a picture


class Refused(ValueError):
    """What the classifier answers if it cannot embed something."""


class Asker:
    """
    Asks the classifier; its coroutines run in the node's executor.

    group: for callbacks that wait for an answer.
    """

    def __init__(self, node: Node, classifier: str, memory: Memory) -> None:
        """Create the clients of a classifier's services."""
        self._classifier, self._memory = classifier, memory
        # A callback that waits would keep its group waiting, too, and with it the answer.
        self.group = ReentrantCallbackGroup()
        self._texts: Client = node.create_client(
            EncodeText, f'{classifier}/encode_text', callback_group=self.group)
        self._images: Client = node.create_client(
            EncodeImage, f'{classifier}/encode_image', callback_group=self.group)
        self._pending: list[tuple[float, Client, Future]] = []  # of an answer
        self._awaited: list[tuple[float, Client, Future]] = []  # of the service

    async def vector(self, text: str, image: CompressedImage) -> np.ndarray:
        """
        Return the (D,) float32 unit row of a text or a picture.

        :raises ValueError: for neither or both of them, what cannot be embedded, another space
            than the memory's, or a classifier that does not answer.
        """
        if bool(text.strip()) == bool(image.data):
            raise ValueError('expected a text or a picture, got '
                             + ('both' if image.data else 'none'))
        if not image.data:
            return await self._of_text(text)
        if len(image.data) > MOST_BYTES:
            raise ValueError(f'expected a picture of at most {MOST_BYTES} bytes, got '
                             f'{len(image.data)}')
        answer = await self._call(self._images, EncodeImage.Request(compressed=[image]))
        return self._memory.check(answer.vectors, Origin(answer.space, answer.student))

    async def _of_text(self, text: str) -> np.ndarray:
        name, = check_texts((text,), 'text', 'a name')
        prompts = prompts_of(name)
        # Without a text tower only some of them may be known; the last refusal quotes the name.
        for texts in (prompts, *([one] for one in (*prompts, name))):
            try:
                return await self._mean(texts)
            except Refused as error:
                refusal = error
        raise refusal

    async def _mean(self, prompts: Sequence[str]) -> np.ndarray:
        answer = await self._call(self._texts, EncodeText.Request(texts=list(prompts)))
        numbers = np.asarray(answer.vectors, np.float32)
        if not numbers.size or numbers.size % len(prompts):
            raise ValueError(f'expected {len(prompts)} vectors of {self._classifier}, got '
                             f'{numbers.size} numbers')
        rows = numbers.reshape(len(prompts), -1)
        mean = rows.mean(0)
        return self._memory.check(mean / np.linalg.norm(mean), Origin(answer.space))

    async def _call(self, client: Client, request: Any) -> Any:
        """Return a successful response; raises ValueError that says why there is none."""
        for patience in (AGAIN, PATIENCE):
            if not client.service_is_ready() and not await self._ready(client):
                break
            future = client.call_async(request)
            self._pending.append((time.monotonic() + patience, client, future))
            answer = await future
            if answer is not None and not answer.success:
                raise Refused(answer.message)
            if answer is not None:
                return answer
        raise ValueError(f'expected an answer of {client.srv_name}, got none; start a classifier, '
                         'or name it with the parameter `classifier`')

    async def _ready(self, client: Client) -> bool:
        """Wait for a classifier that this node may not know yet, as just after its start."""
        future: Future = Future()
        self._awaited.append((time.monotonic() + AGAIN, client, future))
        return bool(await future)

    def expire(self) -> None:
        """Go on where a service is there, give up on what is not in time; call it often."""
        for entry in [*self._awaited]:
            until, client, future = entry
            ready = client.service_is_ready()
            if ready or until < time.monotonic():
                self._awaited.remove(entry)
                future.set_result(ready)
        for entry in [entry for entry in self._pending
                      if entry[2].done() or entry[0] < time.monotonic()]:
            self._pending.remove(entry)
            _, client, future = entry
            if not future.done():
                client.remove_pending_request(future)
                future.set_result(None)


def prompts_of(name: str) -> list[str]:
    """Return what the text tower reads of a thing."""
    return [prompt(template, name) for template in PLAIN]
