"""Images have a thread of their own, which waits for nothing but images."""
from collections.abc import Callable
import threading
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future


class ImageGroup(MutuallyExclusiveCallbackGroup):
    """
    Callbacks that only an ImageExecutor's thread may execute.

    rclpy's executors build what they wait for anew, in Python, for every callback, out of all
    topics, services and timers of a node. For one that a whole camera stream goes through, that
    is a good part of the time of a frame; this leaves the subscriptions of images alone.
    """

    thread: threading.Thread | None = None

    def can_execute(self, entity: Any) -> bool:
        """Tell whether this thread may execute the entity's callback now."""
        return threading.current_thread() is self.thread and super().can_execute(entity)


class ImageExecutor(SingleThreadedExecutor):
    """Executes the callbacks of one group; the rest of the node is left to its own executor."""

    def __init__(self, node: Node, on_failure: Callable[[Exception], None]) -> None:
        """
        Start; `wake` it when the group has a new subscription.

        :param on_failure: told of an error in a callback; the thread has ended then.
        """
        super().__init__(context=node.context)
        self._node, self._on_failure = node, on_failure
        self._closing: Future[None] = Future()
        self.group = ImageGroup()
        self._thread = threading.Thread(target=self._spin, name='images', daemon=True)
        self.group.thread = self._thread
        self._thread.start()

    def get_nodes(self) -> list[Node]:
        """Return the node, which belongs to its own executor all the same."""
        return [self._node]

    def can_execute(self, entity: Any) -> bool:
        """Tell whether this executor may execute the entity's callback now."""
        return entity.callback_group is self.group and super().can_execute(entity)

    def close(self) -> None:
        """Stop, and wait for a callback that is under way."""
        # `shutdown` would destroy what wakes the thread, which may be about to wait for it.
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
