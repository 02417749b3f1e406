"""Executors: for topics at the rate of a camera, in a thread of their own, and for the rest."""
from collections.abc import Callable
import threading
import time
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import (
    ExternalShutdownException,
    MultiThreadedExecutor,
    SingleThreadedExecutor,
)
from rclpy.node import Node
from rclpy.task import Future

PAUSE = 0.001  # in which a thread begins a callback [s]


class ImageGroup(MutuallyExclusiveCallbackGroup):
    """
    Callbacks that only an ImageExecutor's thread may execute.

    For every callback, rclpy's executors build their wait set again, in Python, from all topics,
    services and timers of a node. For a camera stream that is a large part of the time of a
    frame. This group has only the subscriptions to images, or to boxes and depth.
    """

    thread: threading.Thread | None = None

    def can_execute(self, entity: Any) -> bool:
        """Return whether this thread may execute the entity's callback now."""
        return threading.current_thread() is self.thread and super().can_execute(entity)


class PatientExecutor(MultiThreadedExecutor):
    """
    Executes callbacks by several threads, and pauses after each that it gave to one.

    rclpy's own looks for more without a pause, and finds the same callback again until its thread
    has begun it, up to 250 times. That thread waits for Python's lock meanwhile, and so does the
    one that labels images.
    """

    def __init__(self, threads: int) -> None:
        """Start the threads: none has to start while a request waits."""
        super().__init__(threads)
        begun = threading.Barrier(threads)
        for _ in range(threads):
            self._executor.submit(begun.wait)  # one thread each, as none can end before the last

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait for a callback, and let a thread begin it."""
        super().spin_once(timeout_sec)
        time.sleep(PAUSE)


class ImageExecutor(SingleThreadedExecutor):
    """Executes the callbacks of one group; the node's own executor does the others."""

    def __init__(self, node: Node, on_failure: Callable[[Exception], None]) -> None:
        """
        Start the thread; call `wake` when the group has a new subscription.

        :param on_failure: receives an error of a callback, which ends the thread.
        """
        super().__init__(context=node.context)
        self._node, self._on_failure = node, on_failure
        self._closing: Future[None] = Future()
        self.group = ImageGroup()
        self._thread = threading.Thread(target=self._spin, name='images', daemon=True)
        self.group.thread = self._thread
        self._thread.start()

    def get_nodes(self) -> list[Node]:
        """Return the node, which also belongs to its own executor."""
        return [self._node]

    def can_execute(self, entity: Any) -> bool:
        """Return whether this executor may execute the entity's callback now."""
        return entity.callback_group is self.group and super().can_execute(entity)

    def close(self) -> None:
        """Stop, and wait for the running callback."""
        # `shutdown` alone would destroy the guard condition that the thread may be waiting for.
        self._closing.set_result(None)
        self._thread.join()
        self.shutdown()

    def _spin(self) -> None:
        try:
            self.spin_until_future_complete(self._closing)
        except ExternalShutdownException:
            pass
        except Exception as error:  # noqa: BLE001 a node that has gone deaf must not go unseen
            self._on_failure(error)
