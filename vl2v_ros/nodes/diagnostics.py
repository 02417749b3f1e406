"""What the classifier says about itself on /diagnostics, once a second."""
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from vl2v_ros.nodes.camera_topics import CameraTopics
from vl2v_ros.nodes.parameters import ClassifierParameters
from vl2v_ros.nodes.vocabularies import Vocabularies


class Rates:
    """Turns growing counts into rates between two calls."""

    def __init__(self) -> None:
        """Begin with no history."""
        self._last: dict[str, tuple[float, int]] = {}

    def rate(self, key: str, count: int, now: float) -> float:
        """Return the growth of a count since the last call [1/s]; `now` [s]."""
        then, before = self._last.get(key, (now, count))
        self._last[key] = now, count
        return max(0, count - before) / (now - then) if now > then else 0.0


def camera_status(node_name: str, camera: CameraTopics, dropped: int, rate: float,
                  facts: Mapping[str, object]) -> DiagnosticStatus:
    """
    Describe one camera.

    :param rate: answers per second [Hz].
    :param facts: what holds for the whole node, such as its device.
    """
    counts = camera.counts
    silence, losses = camera.silence(), camera.losses()
    level, message = DiagnosticStatus.OK, f'{rate:.1f} Hz'
    if silence:
        level, message = DiagnosticStatus.WARN, silence
    elif counts.refused and not counts.answered:
        level, message = DiagnosticStatus.ERROR, f'no usable image: {counts.refusal}'
    elif losses:
        level, message = DiagnosticStatus.WARN, f'{message}; {losses}'
    stamps = list(counts.latencies)  # a thread appends
    latencies = [1000 * value for value in stamps if value is not None]
    none = 'no usable stamps' if stamps else 'none'
    values = {
        'rate [Hz]': f'{rate:.1f}',
        'latency mean [ms]': f'{sum(latencies) / len(latencies):.1f}' if latencies else none,
        'latency max [ms]': f'{max(latencies):.1f}' if latencies else none,
        'received': counts.received,
        'lost on the way': counts.lost,
        'answered': counts.answered,
        'dropped for newer ones': dropped,
        'refused': counts.refused,
        'last refusal': counts.refusal or 'none',
        **facts,
    }
    return DiagnosticStatus(
        name=f'{node_name}: {camera.name or "camera"}', level=level, message=message,
        hardware_id=camera.topics['raw'], values=_key_values(values))


def node_status(node_name: str, state: str, problem: str, parameters: ClassifierParameters
                ) -> DiagnosticStatus:
    """
    Describe the node itself, whatever state it is in.

    :param state: with what to do, if it labels nothing.
    :param problem: why it could not be configured, '' if it could.
    """
    values = {name: getattr(parameters, name) for name in
              ('top_k', 'max_rate', 'unknown_threshold', 'score_threshold')}
    return DiagnosticStatus(
        name=f'{node_name}: node',
        level=DiagnosticStatus.ERROR if problem else DiagnosticStatus.OK,
        message=f'{state}: {problem}' if problem else state, values=_key_values(values))


def vocabulary_status(node_name: str, vocabularies: Vocabularies) -> DiagnosticStatus:
    """Describe the vocabulary in force, and why it is not what was asked for."""
    vocabulary, problems = vocabularies.in_force, list(vocabularies.problems.values())
    values = {
        'version': vocabulary.version,
        'labels': len(vocabulary.labels),
        'labels with descriptions': sum(map(bool, vocabulary.descriptions)),
        'background prompts': len(vocabulary.background),
        'prompts': vocabulary.note or f'all {len(vocabulary.prompts)} are in use',
        'descriptions asked for': vocabularies.enrichment,
        'kept in': vocabularies.persist or 'no file',
    }
    return DiagnosticStatus(
        name=f'{node_name}: vocabulary',
        level=DiagnosticStatus.WARN if problems else DiagnosticStatus.OK,
        message='; '.join(problems) or f'{len(vocabulary.labels)} labels',
        values=_key_values(values))


def _key_values(values: Mapping[str, object]) -> list[KeyValue]:
    return [KeyValue(key=key, value=str(value)) for key, value in values.items()]
