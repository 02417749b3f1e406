"""The thread that looks where labels are in images, beside the one that labels them."""
from collections.abc import Callable, Hashable
import threading
import time

from vl2v_ros import frame_profile
from vl2v_ros.nodes.worker import Newest

Look = Callable[[], None]


class Looker:
    """
    Takes one look after another, until it is closed; the newest of each camera.

    A look takes longer than a label, and would delay it. After each one it rests for as long as
    the look took: the robot's other programs need the processor too.
    """

    def __init__(self, on_failure: Callable[[Exception], None]) -> None:
        """
        Start the thread.

        :param on_failure: receives an error of a look, which ends the thread.
        """
        self._on_failure = on_failure
        self._box: Newest[Look] = Newest()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name='looker', daemon=True)
        self._thread.start()

    def submit(self, camera: Hashable, look: Look) -> None:
        """Take a look soon; it replaces one of the same camera that waits."""
        self._box.put(camera, look)

    def close(self) -> None:
        """Forget the looks that wait, and end the current one."""
        self._closing.set()
        self._box.close()
        self._thread.join()

    def _run(self) -> None:
        try:
            while looks := self._box.take():
                for look in looks.values():
                    start = time.monotonic()
                    look()
                    took = time.monotonic() - start
                    frame_profile.add('where', took)
                    if self._closing.wait(took):
                        return
        except Exception as error:  # noqa: BLE001 whatever it is, it must not go unseen
            self._on_failure(error)
