"""
Charts of an evaluation, as inline SVG with real text.

The colour INK becomes the text colour of the page, so that charts are readable on a light and on a
dark page.
"""
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
import io
import math
import warnings
import xml.etree.ElementTree as ElementTree

from markupsafe import Markup
import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
import numpy as np

MOST_LABELS = 60  # in the confusion matrix; of more, those with most mistakes
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


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in STYLE within the block."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # The browser draws the text, with its own fonts.
        warnings.filterwarnings('ignore', r'(?s)Glyph .* missing from font')
        yield


def draw_domains(per_domain: Mapping[str, float]) -> Figure:
    """Draw accuracy [%] by domain."""
    figure = Figure((6, 0.5 + 0.3 * len(per_domain)))
    axes = figure.add_axes((0, 0, 1, 1))
    rows, values = range(len(per_domain)), [100 * part for part in per_domain.values()]
    axes.barh(rows, values, 0.65, color=BLUE)
    for row, value in zip(rows, values, strict=True):
        if not math.isnan(value):  # a domain without images
            axes.text(value + 1, row, f'{value:.1f}', va='center')
    axes.set(xlim=(0, 100), ylim=(len(values) - 0.5, -0.5), xlabel='accuracy [%]')
    axes.set_yticks(rows, [_printable(domain) for domain in per_domain])
    axes.tick_params('y', length=0)
    axes.grid(axis='x')
    return figure


def draw_confusion(confusion: np.ndarray, labels: Sequence[str]) -> Figure:
    """Draw (C, C) counts, row truth; each label has the same room, so that the page scrolls."""
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
        for row, column in zip(*np.nonzero(counts), strict=True):
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


def draw_losses(losses: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """Draw each term over the steps."""
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


def draw_reliability(
        bins: Sequence[tuple[float, float, int]], count: int,
        words: tuple[str, str, str] = (
            'accuracy', 'confidence, the score of the best label', 'images')) -> Figure:
    """Draw accuracy over confidence [%]; bins hold both and the count of images."""
    confidence, accuracy, images = np.array(bins, float).T
    figure = Figure((4.4, 4.8), layout='constrained')
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3.2, 1))
    upper.plot((0, 100), (0, 100), '--', color=INK, alpha=0.5, linewidth=1, label='calibrated')
    upper.plot(100 * confidence, 100 * accuracy, 'o-', color=ORANGE, markersize=5, label='student')
    upper.set(ylim=(0, 102), ylabel=f'{words[0]} [%]')
    upper.legend(loc='upper left')
    lower.bar(100 * confidence, images, 60 / count, color=BLUE)
    lower.set(xlim=(0, 102), xlabel=f'{words[1]} [%]', ylabel=words[2])
    if images.max() > 100 * images.min():
        _logarithmic(lower)
        lower.set_ylim(bottom=images.min() / 2)
    for axes in (upper, lower):
        axes.grid()
    return figure


def draw_sweep(curves: Mapping[str, Sequence[tuple[float, Sequence[float]]]], name: str) -> Figure:
    """Draw accuracy [%] over a number, mean and deviation of (number, [accuracy]) by title."""
    figure = Figure((6, 3.6), layout='constrained')
    axes = figure.subplots()
    for title, points in curves.items():
        numbers, parts = zip(*sorted(points), strict=True)
        values = 100 * np.array(parts)
        axes.errorbar(numbers, values.mean(1), values.std(1, ddof=1) if values.shape[1] > 1 else 0,
                      marker='o', markersize=4, linewidth=1.4, capsize=3, label=title)
    axes.set(xlabel=name, ylabel='accuracy [%]')
    axes.grid()
    figure.legend(loc='outside right center')
    return figure


def draw_eigenvalues(spectra: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Draw eigenvalues over their numbers: a panel per title, a line per name in it."""
    figure = Figure((0.6 + 2.9 * len(spectra), 3.1), layout='constrained')
    panels = figure.subplots(1, len(spectra), sharey=True, squeeze=False)[0]
    for axes, (title, lines) in zip(panels, spectra.items(), strict=True):
        for (name, values), style, color in zip(lines.items(), ('o-', 's--'), (BLUE, ORANGE),
                                                strict=False):
            axes.plot(range(1, len(values) + 1), values, style, color=color, markersize=4,
                      linewidth=1.2, label=_printable(name))
        axes.set(title=_printable(title), xlabel='number', xticks=range(1, len(values) + 1))
        axes.grid()
    _logarithmic(panels[0])
    panels[0].set(ylabel='eigenvalue, as a part of the sum of all')
    panels[0].set_ylim(bottom=max(panels[0].get_ylim()[0], 1e-4))  # rounding leaves 1e-17 for 0
    panels[-1].legend(loc='upper right')
    return figure


def draw_errors(lines: Mapping[str, Sequence[float | None]], distances: Sequence[float]) -> Figure:
    """Draw errors [mm] over distances [m], a line per title; None leaves a gap."""
    figure = Figure((7, 3.4), layout='constrained')
    axes = figure.subplots()
    for title, values in lines.items():
        axes.plot(distances, np.array(values, float), 'o-', markersize=4, linewidth=1.4,
                  label=title)
    axes.set(xlabel='distance [m]', ylabel='median error [mm]', xlim=(0, None), ylim=(0, None))
    axes.grid()
    figure.legend(loc='outside right center')
    return figure


def _printable(text: str) -> str:
    """Return a text that SVG can hold."""
    return ''.join(letter if letter.isprintable() else '?' for letter in text)


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale('log')
    axes.yaxis.set_major_formatter('{x:g}')
    axes.yaxis.set_minor_formatter('')


def svg(figure: Figure, name: str) -> Markup:
    """Return a figure as an inline <svg>, with ids that differ from those of other figures."""
    buffer = io.BytesIO()
    with drawing():
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
    metadata = root.find('metadata')
    assert metadata is not None, 'expected an SVG as matplotlib writes it'
    root.remove(metadata)
    root.set('role', 'img')
    root.set('aria-label', name)
    return Markup(ElementTree.tostring(root, encoding='unicode'))
