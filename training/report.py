"""
Report of an evaluation: one HTML file that needs no network, with tables and figures.

Figures are inline SVG with real text. What they draw in INK becomes the page's text colour, so
that they can be read on a light and on a dark page.
"""
import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
import io
import math
from numbers import Integral, Real
from pathlib import Path
import re
import warnings
import xml.etree.ElementTree as ElementTree

import cv2
import jinja2
from markupsafe import Markup
import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
import numpy as np
from vl2v_ros.checkpoint import replacing

TEMPLATES = Path(__file__).parent / 'templates'
MOST_LABELS = 60  # in the confusion matrix; of more, those with most mistakes
MOST_PAIRS = 10  # of labels mixed up, as a table
PICTURE = 224  # longer side of a mistake's picture, at most [px]

INK = '#010203'
BLUE, ORANGE = '#3d85d6', '#dd7a2b'
STYLE = {
    **dict.fromkeys(('text.color', 'axes.edgecolor', 'axes.labelcolor', 'xtick.color',
                     'ytick.color', 'grid.color'), INK),
    'axes.facecolor': 'none', 'figure.facecolor': 'none', 'savefig.facecolor': 'none',
    'axes.axisbelow': True, 'axes.spines.right': False, 'axes.spines.top': False,
    'axes.titlesize': 10, 'axes.labelsize': 9, 'font.size': 9, 'grid.alpha': 0.2,
    'xtick.labelsize': 8, 'ytick.labelsize': 8, 'legend.frameon': False,
    'font.family': 'sans-serif', 'svg.fonttype': 'none', 'svg.hashsalt': 'report',
    'text.parse_math': False,  # a label may have dollar signs
}
FADING = LinearSegmentedColormap.from_list('fading', [BLUE + '00', BLUE + 'ff'])


@dataclass(frozen=True)
class Mistake:
    """
    An image that was taken for something else.

    image: (H, W, 3) uint8 RGB. truth, taken_for: labels. score: of `taken_for`, in [0, 1].
    name: of the image.
    """

    image: np.ndarray
    truth: str
    taken_for: str
    score: float
    name: str


@dataclass(frozen=True, eq=False)
class Report:
    """
    What a report shows; an empty part is left out.

    facts: name -> text, such as command, recipe, seed, backbone, time.
    table: a row per evaluated set, column -> value.
    per_domain: domain -> accuracy in [0, 1].
    confusion: (C, C) counts of images, row truth, column what they were taken for.
    labels: C names.
    mistakes: in the order they are shown; the most confident ones first, say.
    losses: term -> (step, value) of each note.
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
        figures={name: _svg(figure, name) for name, figure in figures(report).items()},
        most=MOST_LABELS, pairs=mixed_up(report.confusion, report.labels)[:MOST_PAIRS],
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
    size = abs(value)
    if 0 < size < 0.0005:
        return f'{value:.1e}'
    return f'{value:.{1 if size >= 10 else 2 if size >= 1 else 3}f}'


def mixed_up(confusion: np.ndarray, labels: Sequence[str]) -> list[tuple[str, str, int, float]]:
    """
    List what was taken for what, most often first.

    :param confusion: (C, C) counts, row truth.
    :return: truth, taken for, count, part of the images of that truth.
    """
    wrong = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-wrong, axis=None, kind='stable')[:np.count_nonzero(wrong)]
    return [(labels[row], labels[column], int(wrong[row, column]),
             float(wrong[row, column] / confusion[row].sum()))
            for row, column in zip(*np.unravel_index(order, wrong.shape))]


def figures(report: Report) -> dict[str, Figure]:
    """Return the figures of the parts that are not empty, by name."""
    with _drawing():
        found = {}
        if report.per_domain:
            found['domains'] = _draw_domains(report.per_domain)
        if report.confusion.any():
            found['confusion'] = _draw_confusion(report.confusion, report.labels)
        losses = {term: curve for term, curve in report.losses.items() if len(curve)}
        if losses:
            found['losses'] = _draw_losses(losses)
        bins = [one for one in report.reliability if one[2] > 0]
        if bins:
            found['reliability'] = _draw_reliability(bins, len(report.reliability))
        return found


@contextmanager
def _drawing() -> Iterator[None]:
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # The browser draws the text, with its own fonts.
        warnings.filterwarnings('ignore', r'(?s)Glyph .* missing from font')
        yield


def _draw_domains(per_domain: Mapping[str, float]) -> Figure:
    figure = Figure((6, 0.5 + 0.3 * len(per_domain)))
    axes = figure.add_axes((0, 0, 1, 1))
    rows, values = range(len(per_domain)), [100 * part for part in per_domain.values()]
    axes.barh(rows, values, 0.65, color=BLUE)
    for row, value in zip(rows, values):
        if not math.isnan(value):  # a domain without images
            axes.text(value + 1, row, f'{value:.1f}', va='center')
    axes.set(xlim=(0, 100), ylim=(len(values) - 0.5, -0.5), xlabel='accuracy [%]')
    axes.set_yticks(rows, [_printable(domain) for domain in per_domain])
    axes.tick_params('y', length=0)
    axes.grid(axis='x')
    return figure


def _draw_confusion(confusion: np.ndarray, labels: Sequence[str]) -> Figure:
    """Each label has the same room, however many there are; the page scrolls."""
    wrong = confusion.sum(1) - np.diag(confusion)
    shown = np.sort(np.argsort(-wrong, kind='stable')[:MOST_LABELS])
    counts, names = confusion[np.ix_(shown, shown)], [_printable(labels[row]) for row in shown]
    shares = 100 * counts / np.maximum(confusion.sum(1)[shown, None], 1)
    few = len(shown) <= 15
    side = len(shown) * (0.36 if few else 0.17)  # [inch]
    figure = Figure((side, side))
    axes = figure.add_axes((0, 0, 1, 1))
    # The square root, so that few mistakes can be seen too.
    cells = axes.imshow(shares, FADING, PowerNorm(0.5, 0, 100), interpolation='nearest')
    if few:
        for row, column in zip(*np.nonzero(counts)):
            axes.text(column, row, f'{counts[row, column]:g}', ha='center', va='center',
                      fontsize=8)
    axes.set_xticks(range(len(shown)), names, rotation=90)
    axes.set_yticks(range(len(shown)), names)
    axes.set_xticks(np.arange(-0.5, len(shown)), minor=True)
    axes.set_yticks(np.arange(-0.5, len(shown)), minor=True)
    axes.grid(which='minor', linewidth=0.5)
    axes.tick_params(which='both', length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel='taken for', ylabel='truth')
    bar = figure.add_axes((1 + 0.2 / side, 1 - 1.6 / side, 0.12 / side, 1.6 / side))
    figure.colorbar(cells, bar, label='part of the row [%]', ticks=(0, 5, 20, 50, 100))
    return figure


def _draw_losses(losses: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    across = min(3, len(losses))
    down = math.ceil(len(losses) / across)
    figure = Figure((3.1 * across, 2.3 * down), layout='constrained')
    for number, (term, curve) in enumerate(losses.items()):
        steps, values = np.array(curve, float).T
        axes = figure.add_subplot(down, across, number + 1)
        axes.plot(steps, values, color=BLUE, linewidth=1.2,
                  marker='.' if len(curve) < 30 else '')
        finite = values[np.isfinite(values)]
        if len(finite) and finite.min() > 0 and finite.max() > 20 * finite.min():
            _logarithmic(axes)
        axes.set(title=_printable(term), xlabel='step', ylabel='loss')
        axes.locator_params('x', nbins=4)
        axes.grid()
    return figure


def _draw_reliability(bins: Sequence[tuple[float, float, int]], count: int) -> Figure:
    confidence, accuracy, images = np.array(bins, float).T
    figure = Figure((4.4, 4.8), layout='constrained')
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3.2, 1))
    upper.plot((0, 100), (0, 100), '--', color=INK, alpha=0.5, linewidth=1, label='calibrated')
    upper.plot(100 * confidence, 100 * accuracy, 'o-', color=ORANGE, markersize=5, label='student')
    upper.set(ylim=(0, 102), ylabel='accuracy [%]')
    upper.legend(loc='upper left')
    lower.bar(100 * confidence, images, 60 / count, color=BLUE)
    lower.set(xlim=(0, 102), xlabel='confidence, the score of the best label [%]',
              ylabel='images')
    if images.max() > 100 * images.min():
        _logarithmic(lower)
        lower.set_ylim(bottom=images.min() / 2)
    for axes in (upper, lower):
        axes.grid()
    return figure


def _printable(text: str) -> str:
    """Return a text that SVG can hold."""
    return ''.join(letter if letter.isprintable() else '?' for letter in text)


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale('log')
    axes.yaxis.set_major_formatter('{x:g}')
    axes.yaxis.set_minor_formatter('')


def _svg(figure: Figure, name: str) -> Markup:
    """Return a figure as an inline <svg>, its ids told from those of the others."""
    buffer = io.BytesIO()
    with _drawing():
        figure.savefig(buffer, format='svg', bbox_inches='tight', metadata={'Date': None})
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        element.tag = element.tag.partition('}')[2]
        attributes = {key.rpartition('}')[2]: value for key, value in element.attrib.items()}
        element.attrib.clear()
        for key, value in attributes.items():
            if key == 'id':
                value = f'{name}-{value}'
            elif value.startswith('#'):
                value = f'#{name}-{value[1:]}'
            element.set(key, value.replace('url(#', f'url(#{name}-').replace(INK, 'currentColor'))
    root.remove(root.find('metadata'))
    root.set('role', 'img')
    root.set('aria-label', name)
    return Markup(ElementTree.tostring(root, encoding='unicode'))


def _jpeg(image: np.ndarray) -> str:
    """Return (H, W, 3) uint8 RGB as the address of a picture that is in the page itself."""
    assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8, image.shape
    shrink = min(1, PICTURE / max(image.shape))
    size = [max(1, round(side * shrink)) for side in image.shape[1::-1]]
    pixels = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if shrink < 1 else image
    _, data = cv2.imencode('.jpg', cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR),
                           [cv2.IMWRITE_JPEG_QUALITY, 88])
    return f'data:image/jpeg;base64,{base64.b64encode(data).decode()}'
