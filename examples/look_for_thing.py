"""Look for a thing until it is seen, with py_trees: python examples/look_for_thing.py padlock."""
import sys
from typing import Any

from py_trees.behaviour import Behaviour
from py_trees.common import Status
import rclpy
from rclpy.action import ActionClient
from vl2v_msgs.action import Find


class LookFor(Behaviour):
    """Runs until memory_node has seen the thing; a tree that interrupts it cancels the goal."""

    def initialise(self) -> None:
        self.sent = client.send_goal_async(Find.Goal(text=self.name))
        self.done: Any = None

    def update(self) -> Status:
        if self.sent.done() and not self.done:
            self.done = self.sent.result().get_result_async()
        if not self.done or not self.done.done():
            return Status.RUNNING
        return Status.SUCCESS if self.done.result().result.found else Status.FAILURE

    def terminate(self, new_status: Status) -> None:
        if new_status == Status.INVALID and self.sent.done():
            self.sent.result().cancel_goal_async()


rclpy.init()
node = rclpy.create_node('look_for_thing')
client: Any = ActionClient(node, Find, '/memory/look_for')
client.wait_for_server()
leaf = LookFor(' '.join(sys.argv[1:]))
while leaf.status not in (Status.SUCCESS, Status.FAILURE):
    leaf.tick_once()
    rclpy.spin_once(node, timeout_sec=0.1)
print(f'{leaf.name}: {leaf.status.name}', leaf.done.result().result.message)
