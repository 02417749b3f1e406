"""Remember what the cameras saw, and find it again by a text or a picture."""
from collections.abc import Callable, Sequence
import os
from pathlib import Path
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import Header
from vl2v_msgs.srv import Find
from vl2v_ros.memory.memory import Memory
from vl2v_ros.memory.sighting import Seen
from vl2v_ros.nodes.parameters import changed, declare
from vl2v_ros.nodes.program import begin, parser, read, refusing, until_stopped
from vl2v_ros.nodes.remembering.answers import number_of, to_sighting, where_of
from vl2v_ros.nodes.remembering.asking import Asker
from vl2v_ros.nodes.remembering.gathering import Gathering
from vl2v_ros.nodes.remembering.looking import Lookouts
from vl2v_ros.nodes.remembering.settings import MemoryParameters
from vl2v_ros.words.vectors.origin import Origin

TICK, SAVE, STATUS = 0.1, 0.4, 1.0  # periods of the timers [s]


def default_file() -> Path:
    """Return $XDG_DATA_HOME/vl2v_ros/memory.sqlite, by default below ~/.local/share."""
    return Path(os.environ.get('XDG_DATA_HOME') or Path.home() / '.local/share') / (
        'vl2v_ros/memory.sqlite')


class MemoryNode(Node):
    """
    Keeps what the classifier's embeddings show, and answers ~/find and ~/look_for.

    One thread does everything, so that nothing needs a lock; only the classifier's answers are
    waited for, as coroutines.
    """

    def __init__(self, **kwargs: Any) -> None:
        """
        Open the file, and listen.

        :raises ValueError: for an invalid parameter, or a file that is no memory.
        :raises rclpy.exceptions.ParameterException: for a parameter out of range.
        """
        super().__init__('memory', **kwargs)
        settings = self._settings = declare(self, MemoryParameters)
        self._path = Path(settings.file).expanduser() if settings.file else default_file()
        self.memory = Memory(self._path, settings.limit, settings.max_age, settings.alike)
        self._problem = ''  # why the file could not be written the last time
        try:
            self._asker = Asker(self, settings.classifier, self.memory)
            self._cameras = [Gathering(self, name, settings, self._remember)
                             for name in settings.cameras or ('',)]
        except NameValidationException as error:
            raise ValueError('parameter cameras or classifier: ' + ' '.join(str(error).split())
                             ) from error
        self._lookouts = Lookouts(self, self.memory, self._asker)
        self._lookouts.settings = settings
        self.add_on_set_parameters_callback(self._on_parameters)
        self.create_service(Find, '~/find', self._on_find, callback_group=self._asker.group)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        for period, callback in ((TICK, self._on_tick), (SAVE, self._on_save),
                                 (STATUS, self._on_status)):
            # By the steady clock, as simulated time may stand still.
            self.create_timer(period, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.get_logger().info(f'remembers in {self._path}: {len(self.memory)} sightings')

    def _remember(self, origin: Origin, seen: list[Seen], thumbnail: Callable[[Seen], bytes]
                  ) -> None:
        sightings = self.memory.see(origin, seen, thumbnail)
        for one, sighting in zip(seen, sightings, strict=True):
            self._lookouts.show(one, sighting)

    def _on_tick(self) -> None:
        for camera in self._cameras:
            camera.tick()
        self._lookouts.tick()
        self._asker.expire()

    def _on_save(self) -> None:
        try:
            self.memory.save()
            if self._problem:
                self.get_logger().info(f'{self._path} can be written again')
            self._problem = ''
        except OSError as error:
            self._problem = str(error)
            self.get_logger().error(f'{error}; {self.memory.unsaved} sightings wait',
                                    throttle_duration_sec=30.0)

    async def _on_find(self, request: Find.Request, response: Find.Response) -> Find.Response:
        try:
            k = number_of(request.k)
            where = where_of(request.camera, request.after, request.before)
            query = await self._asker.vector(request.text, request.image)
            start = time.perf_counter()
            found = self.memory.find(query, k, where)
            response.sightings = [to_sighting(sighting) for sighting in found.sightings]
            response.compared, response.success = found.compared, True
            response.seconds = time.perf_counter() - start
            if not found.compared:
                response.message = 'nothing was seen there and then'
        except ValueError as error:
            response.message = str(error)
            self.get_logger().warning(f'find: {error}')
        return response

    def _on_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        if any(parameter.value is None for parameter in parameters):
            return SetParametersResult(successful=False, reason='expected a value, got none')
        self._settings = self._lookouts.settings = changed(self._settings, parameters)
        return SetParametersResult(successful=True)

    def _on_status(self) -> None:
        for camera in self._cameras:
            camera.follow()
        level, message = self._judge()
        memory, cameras = self.memory, self._cameras
        values = {
            'file': self._path, 'sightings': len(memory), 'limit': memory.limit,
            'not yet on the disk': memory.unsaved, 'lost for want of a disk': memory.lost,
            'space': memory.origin.space if memory.origin else 'none yet',
            'student': memory.origin.student if memory.origin else 'none yet',
            'received': sum(camera.received for camera in cameras),
            'refused': sum(camera.refused for camera in cameras),
            'last refusal': next((camera.refusal for camera in cameras if camera.refusal), 'none'),
            'looked for': len(self._lookouts)}
        self._diagnostics.publish(DiagnosticArray(
            header=Header(stamp=self.get_clock().now().to_msg()), status=[DiagnosticStatus(
                name=f'{self.get_fully_qualified_name()}: memory', level=level, message=message,
                hardware_id=str(self._path), values=[
                    KeyValue(key=key, value=str(value)) for key, value in values.items()])]))

    def _judge(self) -> tuple[bytes, str]:
        """Return level and message of the node's status."""
        if self._problem:
            return DiagnosticStatus.ERROR, self._problem
        for camera in self._cameras:
            if camera.refused and camera.refused == camera.received:
                return DiagnosticStatus.ERROR, f'nothing is remembered: {camera.refusal}'
            if not camera.heard():
                return DiagnosticStatus.WARN, (
                    f'nobody publishes {self._settings.classifier}/'
                    'embedding; start a classifier, or name it with the parameter `classifier`')
        return DiagnosticStatus.OK, f'{len(self.memory)} sightings'


def main(args: list[str] | None = None) -> None:
    """Run the node until it is stopped; exit with 1 if it cannot start."""
    read(parser('memory_node', __doc__), args)
    begin('memory_node', args)
    node = None
    with until_stopped():
        try:
            with refusing('memory_node', ParameterException, ValueError):
                node = MemoryNode()
            rclpy.spin(node)
        finally:
            if node:
                node.memory.close()


if __name__ == '__main__':
    main()
