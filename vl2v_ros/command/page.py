"""The page that `vl2v_classify --html` writes: one file that fetches nothing and runs nothing."""
import base64
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
import heapq
from pathlib import Path

import jinja2
from vl2v_ros.command.bags import seconds
from vl2v_ros.command.timeline import chart, clock, Track
from vl2v_ros.files import shown
from vl2v_ros.images.sources import Picture
from vl2v_ros.memory import thumbnail
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.words.explain import Reason

TEMPLATES = Path(__file__).parent / 'templates'
MOST_PICTURES = 300  # on a page
SIDE = 160  # the longer one of a picture [px]
MOST_LABELS = 10  # of a picture
MOST_CHARTS = 50  # videos and bags with a timeline
MOST_ROWS = 100  # of labels, of inputs, and of what was skipped
COLOURS = 8  # of the most frequent labels; the others share one
GOLDEN = (5 ** 0.5 - 1) / 2


@dataclass(frozen=True)
class Card:
    """
    A picture of the page.

    jpeg: the picture, made small.
    file, topic, stamp, recorded: where it comes from, as in a `Picture`.
    prediction: without its embedding.
    nearest: label -> its prompt that is nearest to the picture; '' -> that of the background.
    """

    jpeg: bytes
    file: str
    topic: str
    stamp: int | None
    recorded: int | None
    prediction: Prediction
    nearest: Mapping[str, Reason]

    @property
    def address(self) -> str:
        """The address of the picture, which is the picture itself."""
        return f'data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}'

    @property
    def rows(self) -> list[tuple[str, float, float]]:
        """Label, score and similarity of its first labels."""
        found = self.prediction
        return list(zip(found.labels, found.scores, found.similarities, strict=True))[:MOST_LABELS]


class Cards:
    """
    At most MOST_PICTURES of many pictures, evenly spread over them, however many come.

    Picture n stays while n * GOLDEN, modulo 1, is among the smallest. The gaps between those that
    stay are then of three sizes at most (three-gap theorem), also among the pictures of each
    camera where several take turns.
    """

    def __init__(self) -> None:
        """
        Begin without pictures.

        count: number of those that came.
        """
        self.count = 0
        self._heap: list[tuple[float, int, Card]] = []  # first the one that goes next

    def offer(self, make: Callable[[], Card]) -> None:
        """Take the next picture, which is made only if it stays."""
        place = -(self.count * GOLDEN % 1)
        if len(self._heap) < MOST_PICTURES:
            heapq.heappush(self._heap, (place, self.count, make()))
        elif place > self._heap[0][0]:
            heapq.heapreplace(self._heap, (place, self.count, make()))
        self.count += 1

    def all(self) -> list[Card]:
        """Return those that stayed, in the order in which they came."""
        return [card for _, _, card in sorted(self._heap, key=lambda entry: entry[1])]


class Page:
    """What a run saw; it takes the same memory however long a video or a bag is."""

    def __init__(self) -> None:
        """Begin an empty page."""
        self._cards = Cards()
        self._tracks: dict[str, dict[str, Track]] = {}  # file -> topic -> track
        self._counts: Counter[str] = Counter()  # of pictures by their first label; '' is unknown
        self._skipped: list[str] = []
        self._skips = 0

    def skip(self, what: str) -> None:
        """Add what could not be read, and why."""
        self._skips += 1
        if self._skips <= MOST_ROWS:
            self._skipped.append(shown(what))

    def add(self, picture: Picture, prediction: Prediction, explain: Callable[[], Sequence[Reason]]
            ) -> None:
        """
        Add a picture; of videos and bags only one whose first label is new is shown.

        :param explain: returns what `reasons` says of it.
        """
        label = '' if prediction.unknown else prediction.labels[0]
        self._counts[label] += 1
        if picture.recorded is not None:
            tracks = self._tracks.setdefault(shown(picture.file), {})
            if not tracks.setdefault(picture.topic, Track()).add(label, picture.recorded):
                return
        self._cards.offer(lambda: _card(picture, prediction, explain()))

    def write(self, path: Path, inputs: Sequence[Path], labels: int, threshold: float) -> None:
        """
        Write the page.

        :param inputs: what was read.
        :param labels: number of labels of the vocabulary.
        :param threshold: cosine below which a picture is unknown.
        """
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True,
            undefined=jinja2.StrictUndefined, lstrip_blocks=True)
        ranked = [(label, count) for label, count in self._counts.most_common() if label]
        colours = {'': 'unknown', **{label: f'c{number}' for number, (label, _)
                                     in enumerate(ranked[:COLOURS])}}
        charts = {file: chart(tracks) for file, tracks in self._tracks.items()}
        page = environment.get_template('page.html').render(
            clock=clock, seconds=seconds, inputs=[shown(path) for path in inputs], labels=labels,
            threshold=threshold, counts=self._counts, ranked=ranked, colours=colours,
            charts=charts, cards=self._cards.all(), changes=self._cards.count, side=SIDE,
            skipped=self._skipped, skips=self._skips, most_pictures=MOST_PICTURES,
            most_rows=MOST_ROWS, most_charts=MOST_CHARTS)
        # A label may hold what is no letter, half of a pair.
        path.write_text(page, encoding='utf-8', errors='backslashreplace')


def _card(picture: Picture, prediction: Prediction, why: Sequence[Reason]) -> Card:
    nearest: dict[str, Reason] = {}
    for reason in why:  # of each label the most similar comes first
        nearest.setdefault(reason.label, reason)
    return Card(thumbnail.draw(picture.frame, None, SIDE), shown(picture.file), picture.topic,
                picture.stamp, picture.recorded, replace(prediction, embedding=None), nearest)
