"""Draw images, and beside each its similarities to labels and their prompts."""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
import warnings

import cv2
import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from vl2v_ros.drawing.text import files
from vl2v_ros.images.frame import Frame, to_rgb
from vl2v_ros.model.prediction import Prediction
from vl2v_ros.words.explain import Reason

MOST_IMAGES = 12  # one below the other, in one picture
MOST_PIXELS = 512  # of an image's longer side in the picture [px]
BAR, UNKNOWN, MARK, GREY = '#26807899', '#aa641499', '#0d3b37', '#777777'  # as the overlay's
STYLE = {
    'font.size': 9, 'axes.titlesize': 10, 'axes.spines.right': False, 'axes.spines.top': False,
    'axes.axisbelow': True,
    'text.parse_math': False,  # a label may have dollar signs
}


@dataclass(frozen=True)
class Explanation:
    """One image, its prediction, and the similarities of all prompts of the predicted labels."""

    title: str
    frame: Frame
    prediction: Prediction
    reasons: Sequence[Reason]


def plot(explanations: Sequence[Explanation], threshold: float, path: Path, font: str = ''
         ) -> None:
    """
    Write a PNG: a bar for each label, as long as its similarity, with a mark for each prompt.

    The text below a bar is the prompt that is nearest to the image.

    :param explanations: 1 to MOST_IMAGES.
    :param threshold: cosine below which an image is unknown, drawn as a dashed line.
    :param font: font file that is tried first; '' for none.
    """
    assert 1 <= len(explanations) <= MOST_IMAGES, len(explanations)
    heights = [max(2.2, 0.7 + 0.48 * len(_groups(one))) for one in explanations]  # [inch]
    style = {**STYLE, 'font.family': _families(explanations, font)}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings('ignore', r'(?s)Glyph .* missing from font')
        figure = Figure((9.6, sum(heights)),
                        layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06))
        grid = figure.subplots(len(explanations), 2, squeeze=False,
                               width_ratios=(1, 2.8), height_ratios=heights)
        for (left, right), explanation in zip(grid, explanations, strict=True):
            _draw_image(left, explanation)
            _draw_bars(right, explanation, threshold)
        figure.savefig(path, format='png', dpi=100)


def _families(explanations: Sequence[Explanation], font: str) -> list[str]:
    """Return the names of the fonts that the texts need, as far as matplotlib can draw them."""
    texts = [text for one in explanations for text in (
        one.title, *one.prediction.labels, *(reason.prompt for reason in one.reasons))]
    names = ['DejaVu Sans']
    for file in files(texts, font):
        try:
            font_manager.fontManager.addfont(file)
            name = font_manager.FontProperties(fname=file).get_name()
            names.insert(0 if file == font else len(names), name)
        except RuntimeError:  # a font of coloured pictures
            pass
    return names


def _groups(explanation: Explanation) -> list[tuple[str, float, Sequence[Reason]]]:
    """Return name, similarity and prompts of each bar; for the background its best similarity."""
    prediction = explanation.prediction
    groups: list[tuple[str, float, Sequence[Reason]]] = [
        (label, similarity, [reason for reason in explanation.reasons if reason.label == label])
        for label, similarity in zip(prediction.labels, prediction.similarities, strict=True)]
    background = [reason for reason in explanation.reasons if not reason.label]
    if background:
        groups.append(('(background)', background[0].similarity, background))
    return groups


def _draw_image(axes: Axes, explanation: Explanation) -> None:
    rgb = to_rgb(explanation.frame)
    factor = MOST_PIXELS / max(rgb.shape[:2])
    if factor < 1:
        rgb = cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    axes.imshow(rgb)
    axes.set_axis_off()
    axes.set_title(_short(explanation.title, 32), loc='left')


def _draw_bars(axes: Axes, explanation: Explanation, threshold: float) -> None:
    groups, prediction = _groups(explanation), explanation.prediction
    named = len(prediction.labels)
    for row, (name, similarity, group) in enumerate(groups):
        colour = UNKNOWN if row == 0 and prediction.unknown else BAR
        axes.barh(row, similarity, 0.4, color=colour if row < named else GREY + '99')
        axes.plot([reason.similarity for reason in group], [row] * len(group), '|', color=MARK,
                  markersize=11, markeredgewidth=1.2)
        score = f'   score {prediction.scores[row]:.2f}' if row < named else ''
        axes.annotate(f'{similarity:.2f}{score}', (1, row), (0, 0), textcoords='offset points',
                      xycoords=('axes fraction', 'data'), va='center', ha='right', fontsize=8)
        if group:
            axes.annotate(_short(group[0].prompt, 110), (0, row + 0.4), (3, 0),
                          textcoords='offset points', xycoords=('axes fraction', 'data'),
                          va='center', fontsize=7, color=GREY, clip_on=True)
    axes.axvline(threshold, color=GREY, linestyle='--', linewidth=1)
    ends = [threshold, *(reason.similarity for reason in explanation.reasons),
            *(similarity for _, similarity, _ in groups)]
    low, high = min(0.0, *ends), max(0.1, *ends)
    room = high - low
    axes.set(xlim=(low - 0.03 * room, high + 0.4 * room), ylim=(len(groups) - 0.3, -0.5),
             xlabel='similarity (bar: label, marks: its prompts, dashed: unknown below)')
    axes.set_yticks(range(len(groups)), [_short(name, 22) for name, _, _ in groups])
    axes.tick_params('y', length=0)
    best = _short(prediction.labels[0], 40)
    axes.set_title(f'unknown (nearest: {best})' if prediction.unknown else best, loc='left')


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f'{text[:longest - 1]}\N{HORIZONTAL ELLIPSIS}'
