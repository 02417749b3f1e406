"""The action ~/look_for: goals that go on until the thing is seen."""
from dataclasses import dataclass, field, replace
import time
from typing import Any

import numpy as np
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node
from rclpy.task import Future
from vl2v_msgs.action import Find
from vl2v_ros.memory.memory import Memory
from vl2v_ros.memory.sighting import Seen, Sighting
from vl2v_ros.nodes.remembering.answers import seconds_of, to_sighting, where_of
from vl2v_ros.nodes.remembering.asking import Asker
from vl2v_ros.nodes.remembering.settings import MemoryParameters

MOST_GOALS = 16  # at a time
PERIOD = 0.5  # between two messages of feedback [s]


@dataclass(eq=False)
class Lookout:
    """
    One goal that is waited for.

    query: (D,) float32 unit row.
    needed: cosine from which the thing counts as seen.
    end: when to give up, by time.monotonic [s]; None: never.
    done: the sighting, or why there is none.
    """

    handle: ServerGoalHandle
    query: np.ndarray
    camera: str | None
    needed: float
    end: float | None
    done: Future = field(default_factory=Future)
    compared: int = 0
    best: Sighting | None = None
    told: tuple[float, int] = (0.0, 0)  # time of the last feedback [s], and what it said

    def show(self, sighting: Sighting, row: np.ndarray) -> None:
        """Compare what was just seen."""
        if self.camera is not None and sighting.camera != self.camera or len(row) != len(
                self.query):
            return
        self.compared += 1
        similarity = float(row @ self.query)
        if self.best is None or similarity > self.best.similarity:
            self.best = replace(sighting, similarity=similarity)
        if similarity >= self.needed and not self.done.done():
            self.done.set_result(replace(sighting, similarity=similarity))

    def tick(self) -> None:
        """End it if that is wanted, else say how far it is."""
        now = time.monotonic()
        if self.done.done():
            return
        if self.handle.is_cancel_requested:
            self.done.set_result('the goal was cancelled')
        elif self.end is not None and now > self.end:
            nearest = f'; the most similar one had {self.best.similarity:.3f}' if self.best else ''
            self.done.set_result(f'not seen in time: none of {self.compared} sightings reached '
                                 f'the cosine {self.needed:.3f}{nearest}')
        elif now > self.told[0] + PERIOD and self.compared != self.told[1]:
            self.told = now, self.compared
            feedback = Find.Feedback(compared=self.compared)
            if self.best:
                feedback.best = to_sighting(self.best, with_thumbnail=False)
            self.handle.publish_feedback(feedback)


class Lookouts:
    """The goals of ~/look_for."""

    def __init__(self, node: Node, memory: Memory, asker: Asker) -> None:
        """Offer the action; `settings` must be set before a goal comes."""
        self._node, self._memory, self._asker = node, memory, asker
        self.settings = MemoryParameters()
        self._goals: list[Lookout] = []
        self._count = 0  # of goals, from their acceptance on
        self._server = ActionServer(node, Find, '~/look_for', self._execute,
                                    goal_callback=self._accept, cancel_callback=_may_cancel,
                                    callback_group=asker.group)

    def __len__(self) -> int:
        """Return the number of goals that are waited for."""
        return self._count

    def show(self, seen: Seen, sighting: Sighting) -> None:
        """Compare what was just seen with all goals."""
        if self._goals:
            for goal in list(self._goals):
                goal.show(sighting, seen.vector)

    def tick(self) -> None:
        """End what is over, and send feedback; call it often."""
        for goal in list(self._goals):
            goal.tick()

    def _accept(self, request: Any) -> GoalResponse:
        if self._count >= MOST_GOALS:
            self._node.get_logger().warning(f'look_for: expected at most {MOST_GOALS} goals at a '
                                            'time, one more is rejected; cancel others')
            return GoalResponse.REJECT
        self._count += 1
        return GoalResponse.ACCEPT

    async def _execute(self, handle: ServerGoalHandle) -> Find.Result:
        try:
            found = await self._look(handle)
        except ValueError as error:
            found = str(error)
        finally:
            self._count -= 1
        if isinstance(found, Sighting):
            handle.succeed()
            return Find.Result(found=True, sighting=to_sighting(found))
        self._node.get_logger().info(f'look_for: {found}')
        if handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.abort()
        return Find.Result(message=found)

    async def _look(self, handle: ServerGoalHandle) -> Sighting | str:
        """Return what was seen, or why nothing was; raises ValueError."""
        request = handle.request
        timeout = seconds_of(request.timeout)
        end = time.monotonic() + timeout if timeout else None
        if not -1 <= request.similarity <= 1:
            raise ValueError(f'expected a cosine from -1 to 1, got {request.similarity}')
        usual = (self.settings.alike_similarity if request.image.data
                 else self.settings.found_similarity)
        query = await self._asker.vector(request.text, request.image)
        goal = Lookout(handle, query, request.camera or None, request.similarity or usual, end)
        if request.past and len(self._memory):
            past = self._memory.find(query, 1, where_of(request.camera))
            goal.compared = past.compared
            if past.sightings:
                goal.best = past.sightings[0]
                if goal.best.similarity >= goal.needed:
                    return goal.best
        self._goals.append(goal)
        try:
            await goal.done
        finally:
            self._goals.remove(goal)
        found: Any = goal.done.result()
        return found


def _may_cancel(handle: ServerGoalHandle) -> CancelResponse:
    return CancelResponse.ACCEPT
