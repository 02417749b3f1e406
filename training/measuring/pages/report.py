"""Report of an evaluation: one HTML file that needs no network, with tables and figures."""
import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
import re

import cv2
import jinja2
from matplotlib.figure import Figure
import numpy as np
from training.measuring.pages import charts
from vl2v_ros.files import replacing

TEMPLATES = Path(__file__).parent / 'templates'
MOST_PAIRS = 10  # of labels mixed up, as a table
PICTURE = 224  # longer side of a mistake's picture, at most [px]


@dataclass(frozen=True)
class Mistake:
    """
    An image with a wrong prediction.

    image: (H, W, 3) uint8 RGB. truth, taken_for: true and predicted label. score: of `taken_for`,
    in [0, 1]. name: name of the image.
    """

    image: np.ndarray
    truth: str
    taken_for: str
    score: float
    name: str


@dataclass(frozen=True, eq=False)
class Report:
    """
    The content of a report; an empty part is left out.

    facts: name -> text, such as command, recipe, seed, backbone, time.
    table: a row per evaluated set, column -> value.
    per_domain: domain -> accuracy in [0, 1].
    confusion: (C, C) counts of images, row truth, column prediction.
    labels: C names.
    mistakes: in the order of the page, such as the most confident first.
    losses: term -> (step, value) pairs.
    reliability: per bin mean confidence and accuracy in [0, 1], and count of images.
    ece: expected calibration error, in [0, 1].
    """

    title: str
    facts: Mapping[str, str]
    table: Sequence[Mapping[str, object]]
    per_domain: Mapping[str, float]
    confusion: np.ndarray
    labels: Sequence[str]
    mistakes: Sequence[Mistake]
    losses: Mapping[str, Sequence[tuple[int, float]]]
    reliability: Sequence[tuple[float, float, int]]
    ece: float

    def __post_init__(self) -> None:
        """Check shapes, and that accuracies are not in percent."""
        count = len(self.labels)
        assert self.confusion.shape == (count, count), (self.confusion.shape, count)
        assert not any(part > 1 for part in (*self.per_domain.values(), self.ece)), self.per_domain


def write(report: Report, path: Path) -> None:
    """Write the report atomically, as HTML."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True,
                                     undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     lstrip_blocks=True)
    columns = _columns(report.table)
    page = environment.get_template('report.html').render(
        report=report, columns=columns, numeric=_numeric(report.table, columns),
        rows=[[_text(row.get(column)) for column in columns] for row in report.table],
        figures={name: charts.svg(figure, name) for name, figure in figures(report).items()},
        most=charts.MOST_LABELS, pairs=mixed_up(report.confusion, report.labels)[:MOST_PAIRS],
        pictures=[_jpeg(mistake.image) for mistake in report.mistakes])
    with replacing(path) as temporary:
        # File names need not be valid text.
        temporary.write_text(page, encoding='utf-8', errors='backslashreplace')


def markdown_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows (column -> value) as a table in Markdown; '' for none."""
    if not rows:
        return ''
    columns = _columns(rows)
    numeric = _numeric(rows, columns)
    lines = [columns, ['---:' if column in numeric else '---' for column in columns],
             *([_text(row.get(column)) for column in columns] for row in rows)]
    return '\n'.join(f'| {" | ".join(map(_markdown, line))} |' for line in lines)


def around(path: Path, heading: str) -> tuple[str, str]:
    """
    Return the part of a page up to the first mark of a heading, and the part from its last one.

    :raises ValueError: for a page without the marks.
    """
    page = path.read_text(encoding='utf-8')
    first, last = f'<!-- {heading} -->\n', f'<!-- end of {heading} -->'
    if first not in page or last not in page:
        raise ValueError(f'{path}: expected the lines {first.strip()} and {last}, between which '
                         'the table is written; add them')
    before, rest = page.split(first, 1)
    return before + first, last + rest.split(last, 1)[1]


def insert(path: Path, heading: str, block: str) -> None:
    """Replace the part of a page between the marks of a heading; raises ValueError as around."""
    before, after = around(path, heading)
    with replacing(path) as temporary:
        temporary.write_text(f'{before}{block}\n{after}', encoding='utf-8')


def _markdown(text: str) -> str:
    return ' '.join(re.sub(r'([\\|<*`])', r'\\\1', text).split())


def _columns(rows: Sequence[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row))


def _numeric(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> set[str]:
    """Return the columns of numbers only."""
    values = {column: [row[column] for row in rows if row.get(column) is not None]
              for column in columns}
    return {column for column, found in values.items()
            if found and all(isinstance(value, Real) for value in found)}


def _text(value: object) -> str:
    """Return a value as text, floats with 1 to 3 digits after the point."""
    if value is None:
        return ''
    if isinstance(value, Integral) or not isinstance(value, Real):
        return str(value)
    size = abs(float(value))
    if 0 < size < 0.0005:
        return f'{value:.1e}'
    return f'{value:.{1 if size >= 10 else 2 if size >= 1 else 3}f}'


def mixed_up(confusion: np.ndarray, labels: Sequence[str]) -> list[tuple[str, str, int, float]]:
    """
    List the pairs of labels that are confused, the most frequent first.

    :param confusion: (C, C) counts, row truth.
    :return: truth, taken for, count, part of the images of that truth.
    """
    wrong = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-wrong, axis=None, kind='stable')[:np.count_nonzero(wrong)]
    return [(labels[row], labels[column], int(wrong[row, column]),
             float(wrong[row, column] / confusion[row].sum()))
            for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True)]


def figures(report: Report) -> dict[str, Figure]:
    """Return the figures of the parts that are not empty, by name."""
    with charts.drawing():
        found = {}
        if report.per_domain:
            found['domains'] = charts.draw_domains(report.per_domain)
        if report.confusion.any():
            found['confusion'] = charts.draw_confusion(report.confusion, report.labels)
        losses = {term: curve for term, curve in report.losses.items() if len(curve)}
        if losses:
            found['losses'] = charts.draw_losses(losses)
        bins = [one for one in report.reliability if one[2] > 0]
        if bins:
            found['reliability'] = charts.draw_reliability(bins, len(report.reliability))
        return found


def _jpeg(image: np.ndarray) -> str:
    """Return (H, W, 3) uint8 RGB as the address of a picture that is in the page itself."""
    assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8, image.shape
    shrink = min(1, PICTURE / max(image.shape))
    size = [max(1, round(side * shrink)) for side in image.shape[1::-1]]
    pixels = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if shrink < 1 else image
    _, data = cv2.imencode('.jpg', cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR),
                           [cv2.IMWRITE_JPEG_QUALITY, 88])
    return f'data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}'
