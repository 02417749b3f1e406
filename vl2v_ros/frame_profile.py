"""
The time of each step of a frame, here called stage; measured only while a recorder is set.

The thread that runs the model calls `begin`, and `mark` at the end of each stage. Without a
recorder these calls do nothing, so they stay in the code.
"""
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
import time
from typing import Any

from vl2v_ros.files import replacing, write_json

# In the order of the frame path. `receive` lasts from the image's stamp to the callback, `wait`
# from there to the start of work. A CPU has no `upload`; the last three need a subscriber. `where`
# passes in a thread of its own, beside the others.
STAGES = ('receive', 'wait', 'view', 'resize', 'upload', 'model', 'match', 'message', 'publish',
          'embedding', 'overlay', 'where')
MEANINGS = {'view': 'view or decode', 'match': 'similarity and top-k'}
KEPT = 100_000  # percentiles are those of this many newest times of a stage


class Recorder:
    """Collects the times of one process."""

    def __init__(self) -> None:
        """Start without times."""
        self._times: dict[str, deque[int]] = {stage: deque(maxlen=KEPT) for stage in STAGES}
        self._totals = dict.fromkeys(STAGES, 0)
        self._last = 0  # before the first `begin`, a warm-up is no frame
        self.frames = 0

    def begin(self, received: Sequence[int]) -> None:
        """Begin work on frames that were received at these times [ns]."""
        self._last = time.perf_counter_ns()
        self.frames += len(received)
        for moment in received:
            self.add('wait', self._last - moment)

    def mark(self, stage: str) -> None:
        """End a stage, which began at the last mark."""
        if self._last:
            now = time.perf_counter_ns()
            self.add(stage, now - self._last)
            self._last = now

    def add(self, stage: str, nanoseconds: int) -> None:
        """Add the time of a stage that was measured elsewhere [ns]."""
        self._times[stage].append(nanoseconds)
        self._totals[stage] += nanoseconds

    def summary(self) -> dict[str, Any]:
        """
        Return the measured times as values for JSON.

        Per stage: `mean` per frame, and `p50` and `p99` of single times, in microseconds. Frames
        of several cameras share one pass through the model, so a mean can be below the median.
        """
        found = {}
        for stage, times in self._times.items():
            ordered = sorted(times.copy())  # another thread may append
            if ordered:
                found[stage] = {
                    'mean': self._totals[stage] / max(1, self.frames) / 1e3,
                    'p50': ordered[len(ordered) // 2] / 1e3,
                    'p99': ordered[len(ordered) * 99 // 100] / 1e3}
        return {'unit': 'us', 'frames': self.frames, 'stages': found}


recorder: Recorder | None = None
"""Set it before the first frame to measure; None: nothing is measured."""


def add(stage: str, seconds: float) -> None:
    """Add the time of a stage that another thread measured [s]; for `receive`, by the stamp."""
    if recorder:
        recorder.add(stage, round(1e9 * seconds))


def begin(received: Sequence[int]) -> None:
    """
    Begin work on some frames.

    :param received: when each was received, by `time.perf_counter_ns`.
    """
    if recorder:
        recorder.begin(received)


def mark(stage: str) -> None:
    """End a stage, which began at the last mark."""
    if recorder:
        recorder.mark(stage)


def save(path: Path, picture: bool = False) -> None:
    """Write the times measured so far as JSON, and with `picture` also as a PNG beside it."""
    assert recorder, 'expected a recorder, which is to be set first'
    summary = recorder.summary()
    write_json(path, summary)
    if picture:
        with replacing(path.with_suffix('.png')) as temporary:
            plot({'frame': summary}, temporary)


def plot(profiles: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """
    Write a PNG with a bar of stages for each summary.

    :param profiles: what `summary` returned, by the bar's name.
    """
    from matplotlib.figure import Figure  # takes long to import, and is for those who measure
    figure = Figure((10, 1.2 + 0.45 * len(profiles)), layout='constrained')
    axes = figure.subplots()
    names = list(profiles)
    left = [0.0] * len(names)
    colours = ['#9aa5ad', '#c9d0d4', '#e0b252', '#d98032', '#a8542a', '#2e7d7a', '#0d3b37',
               '#8a9fc4', '#4d6699', '#7a5c99', '#aa6414', '#5f7a3d']
    for stage, colour in zip(STAGES, colours, strict=True):
        widths = [profile['stages'].get(stage, {'mean': 0.0})['mean'] for profile in
                  profiles.values()]
        if any(widths):
            axes.barh(names, widths, left=left, color=colour, label=MEANINGS.get(stage, stage))
            left = [start + width for start, width in zip(left, widths, strict=True)]
    for row, total in enumerate(left):
        axes.text(total, row, f' {total:.0f}', va='center')
    axes.invert_yaxis()
    axes.set_xlabel('time per frame [µs]')
    axes.spines[['top', 'right']].set_visible(False)
    axes.margins(x=0.08)
    figure.legend(loc='outside upper center', ncols=5, frameon=False)
    figure.savefig(path, format='png', dpi=100)
