"""When what was seen: the first labels of a video, or of a topic of a bag, as bands of time."""
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vl2v_ros.command.outputs import LONGEST
from vl2v_ros.images.videos import SECOND

MOST_BANDS = 400  # of a track
MILLISECOND, MINUTE, HOUR, DAY = SECOND // 1000, 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
STEPS = [unit * number for unit, numbers in (
    (MILLISECOND, (1, 2, 5, 10, 20, 50, 100, 200, 500)), (SECOND, (1, 2, 5, 10, 15, 30)),
    (MINUTE, (1, 2, 5, 10, 15, 30)), (HOUR, (1, 2, 3, 6, 12)), (DAY, (1,))) for number in numbers]
MOST_STEPS = 6  # along an axis


@dataclass
class Band:
    """How long a first label stayed: from `begin` to `end` [ns]; the label '' is unknown."""

    label: str
    begin: int
    end: int


class Track:
    """
    The bands of one video or topic, at most MOST_BANDS however long it is.

    Each picture lasts until the next one; before a pause of more than LONGEST, as long as the one
    before it did. The last one does so, too.

    bands: in the order of time, with gaps where there are pauses.
    joined: whether short ones became parts of others, since there were too many.
    """

    def __init__(self) -> None:
        """Begin without bands."""
        self.bands: list[Band] = []
        self.joined = False
        self._last = self._step = 0  # time of the last picture, how long one lasts [ns]
        self._label: str | None = None

    def add(self, label: str, time: int) -> bool:
        """
        Add a picture; return whether its label is another than that of the picture before.

        :param label: its first label, '' for unknown.
        :param time: of its recording [ns]; one before that of the last picture counts as that.
        """
        time = max(time, self._last) if self.bands else time
        paused = not self.bands or time - self._last > LONGEST
        if not paused:
            self._step = time - self._last or self._step
            self.bands[-1].end = time
        changed = label != self._label
        if changed or paused:
            self.bands.append(Band(label, time, time))
            if len(self.bands) > MOST_BANDS:
                *before, now = self.bands
                width = max(1, 4 * (now.end - before[0].begin) // MOST_BANDS)
                self.bands, self.joined = [*joined(before, width), now], True
        self.bands[-1].end = time + self._step
        self._label, self._last = label, time
        return changed


def joined(bands: Sequence[Band], width: int) -> list[Band]:
    """
    Return bands of which those shorter than `width` [ns] are joined until they are as long.

    What is joined has the label that it shows longest. Bands and pauses as long as `width` stay;
    of bands that take n times `width` remain 2 n + 1 at most.
    """
    found: list[Band] = []
    group: list[Band] = []
    for band in bands:
        if group and max(band.end - band.begin, band.begin - group[-1].end,
                         group[-1].end - group[0].begin) >= width:
            _close(group, found)
            group = []
        group.append(band)
    _close(group, found)
    return found


def _close(group: Sequence[Band], found: list[Band]) -> None:
    """Add a group as one band, or to the last one, if that is the same."""
    lasted: Counter[str] = Counter()
    for band in group:
        lasted[band.label] += band.end - band.begin
    label, begin = lasted.most_common(1)[0][0], group[0].begin
    if found and (found[-1].label, found[-1].end) == (label, begin):
        found[-1].end = group[-1].end
    else:
        found.append(Band(label, begin, group[-1].end))


@dataclass(frozen=True)
class Chart:
    """
    The timeline of one input.

    begin, end: of its time axis [ns].
    tracks: topic -> track; that of a video is ''.
    """

    begin: int
    end: int
    tracks: Mapping[str, Track]

    @property
    def span(self) -> int:
        """How long it is, at least 1 [ns]."""
        return max(1, self.end - self.begin)

    def ticks(self) -> list[int]:
        """Return the times after the begin that the axis names [ns], none at its very end."""
        step = next((step for step in STEPS if MOST_STEPS * step >= self.span),
                    -(-self.span // (MOST_STEPS * DAY)) * DAY)
        return [tick for tick in range(0, self.span, step) if tick < 0.93 * self.span]


def chart(tracks: Mapping[str, Track]) -> Chart:
    """Return the timeline of tracks with at least one picture each; a video begins at 0."""
    begin = 0 if '' in tracks else min(track.bands[0].begin for track in tracks.values())
    return Chart(begin, max(track.bands[-1].end for track in tracks.values()), tracks)


def clock(time: int) -> str:
    """Return a duration [ns] as 1:02:03.5: hours, if there are any, minutes and seconds."""
    seconds, thousandths = divmod(round(max(0, time) / MILLISECOND), 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f'{hours}:{minutes:02}' if hours else f'{minutes}'
    return f'{text}:{seconds:02}' + f'.{thousandths:03}'.rstrip('0').rstrip('.')
