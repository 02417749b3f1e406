"""An executor for images alone, in a thread of its own."""
from collections.abc import Callable
import threading
from typing import Any, cast

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.subscription import Subscription
from rclpy.task import Future


class ImageGroup(MutuallyExclusiveCallbackGroup):
    """
    Callbacks that only an ImageExecutor's thread may execute.

    For every callback, rclpy's executors build their wait set again, twice, in Python, from all
    topics, services, timers and events of a node. For a camera stream that is a large part of the
    time of a frame. This group has only the image subscriptions.
    """

    thread: threading.Thread | None = None

    def can_execute(self, entity: Any) -> bool:
        """Return whether this thread may execute the entity's callback now."""
        return threading.current_thread() is self.thread and super().can_execute(entity)


class _Images:
    """
    A node as an executor sees it, with the subscriptions of one group alone.

    An executor walks through all entities of its nodes several times per callback; a node with
    eight cameras has over a hundred, most of them events of publishers. Image subscriptions have
    no events (see CameraTopics).
    """

    timers = clients = services = guards = waitables = ()

    def __init__(self, node: Node, group: ImageGroup) -> None:
        self._node, self._group = node, group

    @property
    def subscriptions(self) -> list[Subscription]:
        return [one for one in self._node.subscriptions if one.callback_group is self._group]


class ImageExecutor(SingleThreadedExecutor):
    """Executes the callbacks of one group; the node's own executor does the others."""

    def __init__(self, node: Node, on_failure: Callable[[Exception], None]) -> None:
        """
        Start the thread; call `wake` when the group has a new subscription.

        :param on_failure: receives an error of a callback, which ends the thread.
        """
        super().__init__(context=node.context)
        self._on_failure = on_failure
        self._closing: Future[None] = Future()
        self.group = ImageGroup()
        self._seen = cast(Node, _Images(node, self.group))
        self._thread = threading.Thread(target=self._spin, name='images', daemon=True)
        self.group.thread = self._thread
        self._thread.start()

    def get_nodes(self) -> list[Node]:
        """Return the group's part of the node, which also belongs to its own executor."""
        return [self._seen]

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
