"""Asks the nodes of a robot, one thing at a time, and says in a sentence what went wrong."""
from collections.abc import Sequence
from datetime import datetime, timezone
import threading
from typing import Any

from builtin_interfaces.msg import Time
import rclpy
from rclpy.client import Client
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.task import Future
from sensor_msgs.msg import Image
from vl2v_msgs.msg import LabelArray, Sighting
from vl2v_msgs.srv import ClassifyImage, Find, SetVocabulary, Teach

FOUND, HEARD = 5.0, 5.0  # longest wait for a node, and for a message of it [s]
ANSWERED = 60.0  # longest wait for an answer; a text tower may have to be loaded [s]
OPERATIONS = {'replace': SetVocabulary.Request.REPLACE, 'add': SetVocabulary.Request.ADD,
              'remove': SetVocabulary.Request.REMOVE, 'reset': SetVocabulary.Request.RESET}
MOST_LABELS = 100  # in an answer


class Robot:
    """
    A robot's classifier and memory, as functions that return what JSON can hold.

    Each waits for its answer, and for the one before it; all raise ValueError with one sentence.
    """

    def __init__(self, node: Node, classifier: str, memory: str) -> None:
        """Store the names of the two nodes; `node` is spun here alone."""
        self._node, self._classifier, self._memory = node, classifier, memory
        self._busy = threading.Lock()
        self._clients: dict[str, Client] = {}

    def set_vocabulary(self, operation: str, labels: Sequence[str], descriptions: Sequence[str]
                       ) -> dict[str, Any]:
        """Change the labels."""
        answer = self._call(SetVocabulary, f'{self._classifier}/set_vocabulary',
                            SetVocabulary.Request(operation=OPERATIONS[operation],
                                                  labels=list(labels),
                                                  descriptions=list(descriptions)))
        return {'message': answer.message, 'version': answer.version, 'labels': len(answer.labels),
                'first_labels': list(answer.labels[:MOST_LABELS])}

    def what_do_you_see(self, camera: str) -> dict[str, Any]:
        """Return the labels of the newest image."""
        said = self._hear(LabelArray, f'{self._classifier}/{_inside(camera)}labels')
        return {'seen_at': _time(said.header.stamp), **_labels(said)}

    def why(self, camera: str) -> dict[str, Any]:
        """Return the labels of the newest image, and how near each sentence is to it."""
        image = self._hear(Image, f'{_inside(camera)}image')
        answer = self._call(ClassifyImage, f'{self._classifier}/classify',
                            ClassifyImage.Request(image=image))
        return {'seen_at': _time(image.header.stamp), **_labels(answer.result), 'reasons': [
            {'label': match.label or '(background: unknown)', 'sentence': match.prompt,
             'similarity': round(match.similarity, 4)} for match in answer.matches]}

    def teach(self, label: str, frames: int, camera: str) -> dict[str, Any]:
        """Teach a label by the next images of a camera."""
        answer = self._call(Teach, f'{self._classifier}/teach', Teach.Request(
            label=label, frames=frames, camera=camera, text_weight=-1.0))
        return {'message': answer.message, 'version': answer.version, 'examples': answer.count}

    def find(self, text: str, count: int, camera: str, last_seconds: float
             ) -> tuple[dict[str, Any], list[bytes]]:
        """Find what was seen; return facts, and thumbnails as JPEG in the same order."""
        request = Find.Request(text=text, k=count, camera=camera)
        if last_seconds:
            now = self._node.get_clock().now().nanoseconds
            since = max(1, now - round(last_seconds * 1e9))
            request.after = Time(sec=since // 10 ** 9, nanosec=since % 10 ** 9)
        answer = self._call(Find, f'{self._memory}/find', request)
        return ({'compared': answer.compared, 'sightings': [
            _sighting(one) for one in answer.sightings]},
            [bytes(one.thumbnail.data) for one in answer.sightings])

    def _call(self, kind: type, name: str, request: Any) -> Any:
        with self._busy:
            if name not in self._clients:
                self._clients[name] = self._node.create_client(kind, name)
            client = self._clients[name]
            if not client.wait_for_service(timeout_sec=FOUND):
                raise ValueError(f'nobody offers {client.srv_name}; start the node, or name it '
                                 'with --classifier or --memory')
            # The first request to a service that was just found may get lost.
            for patience in (HEARD, ANSWERED):
                future = client.call_async(request)
                rclpy.spin_until_future_complete(self._node, future, timeout_sec=patience)
                if future.done():
                    break
                client.remove_pending_request(future)
            answer: Any = future.result() if future.done() else None
        if answer is None:
            raise ValueError(f'{client.srv_name} does not answer within {ANSWERED:g} s')
        if not answer.success:
            raise ValueError(answer.message)
        return answer

    def _hear(self, kind: type, topic: str) -> Any:
        with self._busy:
            heard: Future[Any] = Future()
            subscription = self._node.create_subscription(kind, topic, heard.set_result,
                                                          qos_profile_sensor_data)
            try:
                rclpy.spin_until_future_complete(self._node, heard, timeout_sec=HEARD)
                known = self._node.count_publishers(topic)
            finally:
                self._node.destroy_subscription(subscription)
        if not heard.done():
            what = 'no message came' if known else 'nobody publishes'
            raise ValueError(f'{what} on {self._node.resolve_topic_name(topic)} within '
                             f'{HEARD:g} s; is the camera running, and the classifier active?')
        return heard.result()


def _inside(camera: str) -> str:
    if camera and not camera.replace('_', '').isalnum():
        raise ValueError(f'expected the name of a camera, got {camera!r:.80}')
    return f'{camera}/' if camera else ''


def _time(stamp: Time) -> str:
    """Return a stamp as people and programs read it, in UTC."""
    return datetime.fromtimestamp(stamp.sec + stamp.nanosec * 1e-9, timezone.utc).isoformat(
        timespec='milliseconds')


def _labels(said: LabelArray) -> dict[str, Any]:
    return {'unknown': said.unknown, 'labels': [
        {'label': one.label, 'score': round(one.score, 4), 'similarity': round(one.similarity, 4)}
        for one in said.labels[:MOST_LABELS]]}


def _sighting(one: Sighting) -> dict[str, Any]:
    facts: dict[str, Any] = {
        'similarity': round(one.similarity, 4), 'first_seen': _time(one.first_seen),
        'last_seen': _time(one.last_seen), 'images': one.count, 'camera': one.camera}
    if one.box.size_x and one.box.size_y:
        centre = one.box.center.position
        facts['box_px'] = {'x': round(centre.x), 'y': round(centre.y),
                           'width': round(one.box.size_x), 'height': round(one.box.size_y)}
    if one.position_header.frame_id:
        facts['position_m'] = {'frame': one.position_header.frame_id, 'x': one.position.x,
                               'y': one.position.y, 'z': one.position.z}
    return facts
