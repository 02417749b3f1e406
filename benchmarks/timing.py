"""Figures from the stamps of sent frames and received answers, in the terms of ros2_benchmark."""
from collections.abc import Mapping, Sequence
from itertools import pairwise
import statistics

MISSED = 0.05  # share of the frames that may be missed at the highest rate


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which a share in [0, 1] of the ordered values lies."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def summarise(sent: Sequence[int], received: Mapping[int, int]) -> dict[str, float]:
    """
    Return the figures of a run of one camera.

    Jitter is the difference between one interval of answers and the next (ros2_benchmark's
    frame-to-frame jitter).

    :param sent: stamp of each frame [ns], at least two.
    :param received: when each answer came [ns], by the stamp of its frame.
    """
    answered = [stamp for stamp in sent if stamp in received]
    latencies = sorted((received[stamp] - stamp) / 1e6 for stamp in answered)
    seconds = (sent[-1] - sent[0]) / 1e9
    found = {'sent': len(sent), 'missed': len(sent) - len(answered),
             'rate sent': (len(sent) - 1) / seconds}
    if not answered:
        return found
    times = sorted(received[stamp] / 1e6 for stamp in answered)
    intervals = [later - earlier for earlier, later in pairwise(times)]
    jitters = [abs(later - earlier) for earlier, later in pairwise(intervals)] or [0.0]
    return found | {
        'rate answered': (len(answered) - 1) / ((times[-1] - times[0]) / 1e3 or 1e-9),
        'latency mean': statistics.fmean(latencies), 'latency p50': percentile(latencies, 0.5),
        'latency p99': percentile(latencies, 0.99), 'latency max': latencies[-1],
        'jitter mean': statistics.fmean(jitters), 'jitter max': max(jitters)}
