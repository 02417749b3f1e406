"""Write the page of `make bench`, with tables and pictures, from its JSON file."""
from collections.abc import Sequence
import io
from pathlib import Path
import statistics
from typing import Any

from benchmarks import machine, plan
from benchmarks.contenders import OURS, PEER, PEER_TEXT, Setup, SIZES
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from vl2v_ros import frame_profile
from vl2v_ros.files import replacing

COLOURS = {OURS: '#0d6e6a', PEER: '#c06a2b', PEER_TEXT: '#8a8f94'}
COLUMNS = {'latency p50': 'p50 [ms]', 'latency p99': 'p99 [ms]', 'latency mean': 'mean [ms]',
          'jitter mean': 'jitter [ms]', 'missed': 'missed', 'cpu': 'CPU [ms/frame]',
          'memory': 'RAM [MiB]', 'gpu memory': 'GPU [MiB]'}
Figures = dict[str, list[dict[str, float]]]


def values(figures: Figures, name: str, figure: str) -> list[float]:
    """Return a figure of each run of that name, in the order of the runs."""
    return [run[figure] for run in figures.get(name, []) if figure in run]


def spread(found: Sequence[float], digits: int = 3) -> str:
    """Return median and range as text, '' without values."""
    if not found:
        return ''
    middle, low, high = (f'{value:.0f}' if value >= 1000 else f'{value:.{digits}g}' for value in (
        statistics.median(found), min(found), max(found)))
    return middle if low == high else f'{middle} ({low} to {high})'


def quotients(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Divide run by run, as both were measured one after the other."""
    return [first / second for first, second in zip(above, below, strict=False) if second]


def targets(result: dict[str, Any]) -> list[tuple[str, list[float], str, bool]]:
    """Return the targets: name, the value of each turn, the bound, whether it is reached."""
    figures: Figures = result['figures']
    main, peer = Setup(OURS, plan.MAIN), Setup(PEER, plan.MAIN)
    component = result.get('component', {}).get('milliseconds', {})

    def cpu(name: str, setup: Setup, rate: float) -> list[float]:
        return values(figures, f'{name}: {setup} @ {rate:g} Hz', 'cpu')

    rows = [
        ("model with preprocessing: peer's time / ours",
         quotients(component.get('ViT-B/32', {}).get('1', []),
                   component.get('student', {}).get('1', [])), 40.0, 1),
        ("highest rate at 1280x720: ours / peer's",
         quotients(values(figures, f'{main}, highest', 'highest rate'),
                   values(figures, f'{peer}, highest', 'highest rate')), 15.0, 1),
        ("p50 latency at 5 Hz, 1280x720: peer's / ours",
         quotients(values(figures, f'{peer} @ 5 Hz', 'latency p50'),
                   values(figures, f'{main} @ 5 Hz', 'latency p50')), 12.0, 1),
        ('frames missed at 1920x1080, 30 Hz, over 60 s (10 s if quick)',
         values(figures, f'endurance: {plan.LARGEST} @ 30 Hz', 'missed'), 0.0, -1),
        ("p50 of the image hop: ours / bare subscriber's",
         quotients(values(figures, 'image hop, vl2v_ros', 'image hop p50'),
                   values(figures, 'image hop, bare subscriber', 'image hop p50')), 1.2, -1),
        ('CPU per frame: 10,000 labels / 10 labels',
         quotients(cpu('labels', plan.LABELS[-1], plan.GROWTH_RATE),
                   cpu('labels', plan.LABELS[0], plan.GROWTH_RATE)), 1.1, -1),
        ('CPU: eight cameras at 5 Hz / one at 40 Hz',
         quotients(cpu('cameras', plan.CAMERAS[-1], plan.CAMERA_RATE),
                   cpu('one camera', plan.CAMERAS[0], plan.ONE_CAMERA_RATE)), 1.0, -1),
        ('the same, all eight with a common trigger',
         quotients(cpu('cameras', plan.TRIGGERED[-1], plan.CAMERA_RATE),
                   cpu('one camera', plan.CAMERAS[0], plan.ONE_CAMERA_RATE)), 1.0, -1),
        ('start to first label [s]', values(figures, 'first label', 'first label'), 3.0, -1)]
    return [(name, found, f'{"at least" if sign > 0 else "at most"} {bound:g}',
             bool(found) and sign * statistics.median(found) >= sign * bound)
            for name, found, bound, sign in rows]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ['---'] + ['---:'] * (len(head) - 1), *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def page(result: dict[str, Any], stem: str) -> str:
    """Return the page; its pictures are called `stem`_*.png."""
    figures: Figures = result['figures']
    setups = [setup for setup in plan.streams()
              if any(name.startswith(f'{setup} ') for name in figures)]
    used = [name for name in COLUMNS if any(name in run for runs in figures.values()
                                            for run in runs)]
    rates = [[str(setup), f'{rate:g}', *(spread(values(figures, f'{setup} @ {rate:g} Hz', name))
                                         for name in used)]
             for setup in setups for rate in plan.RATES if f'{setup} @ {rate:g} Hz' in figures]
    highest = [[str(setup), spread(values(figures, f'{setup}, highest', 'highest rate')),
                *(spread(values(figures, f'{setup}, highest', name))
                  for name in ('latency p50', 'cpu'))] for setup in setups]
    growth = [[name, spread(values(figures, name, 'cpu')),
               spread(values(figures, name, 'latency p50'))]
              for name in sorted(figures, key=_natural)
              if name.split(':')[0] in ('labels', 'cameras', 'one camera')]
    text = [[name, spread(times)] for name, times in result.get('text', {}).items()]
    parts = [
        '# `make bench`', machine.sentence(result['machine']) + '.',
        'Median of the repeated runs, with their range in brackets. ' + _MEANING,
        table(['target', 'measured', 'wanted', 'reached'],
              [[name, spread(found), bound, 'yes' if reached else
                'no' if found else 'not measured']
               for name, found, bound, reached in targets(result)]),
        'Time from start to first label with an empty cache: '
        f'{spread(values(figures, "first label, nothing cached", "first label"))} s.',
        '## Highest rate with under 5 % of the frames missed',
        table(['setup', 'highest rate [Hz]', 'latency p50 there [ms]', 'CPU [ms/frame]'], highest),
        f'![Highest rate by size of the image]({stem}_highest.png)', '## Fixed rates',
        table(['setup', 'rate [Hz]', *(COLUMNS[name] for name in used)], rates),
        f'![Latency by rate]({stem}_latency.png)', '## Where the time of a frame goes',
        f'![Stages]({stem}_stages.png)', _STAGES,
        '## From frames in memory to labels, without ROS', _COMPONENT,
        result.get('component', {}).get('table', 'Not measured.'), '## How cost grows',
        table(['labels at 30 Hz, or cameras', 'CPU [ms/frame]', 'latency p50 [ms]'], growth),
        f'![Growth]({stem}_growth.png)', '## Encoding a list',
        table(['text', 'ms per label'], text), '## Noted while measuring',
        '\n'.join(f'- {note}' for note in result['notes']) or 'Nothing.']
    return '\n\n'.join(parts) + '\n'


_MEANING = (
    'Latency is the time from the stamp of an image until a third process receives its answer. '
    'Missed frames have no answer. Jitter is the difference between one interval of answers and '
    'the next. CPU is the time of all threads of the node. Memory is resident memory. The peer is '
    "`benchmarks/nodes/peer_node.py`: open_clip's ViT-B/32 in a node of the usual kind.")
_STAGES = (
    'Means at 30 Hz, as `classifier_node --profile FILE.json` writes them. The stage receive '
    'lasts from the stamp of the image to the callback; it includes the time to send the image.')
_COMPONENT = (
    '`benchmarks/component.py`: 1280x720, medians of the rounds. The ViTs run as '
    'common nodes run them, with PIL and in eager PyTorch; in the rows "our runtime" they have '
    'the resize, the engine and the precision that the student has.')


def _natural(name: str) -> tuple[str, ...]:
    return tuple(part.rjust(8, '0') if part.isdigit() else part for part in name.split())


def write_page(result: dict[str, Any], path: Path) -> None:
    """Write the page and the pictures beside the JSON file `path`."""
    pictures = {'latency': _latency, 'highest': _highest, 'growth': _growth}
    for name, draw in pictures.items():
        figure = Figure((10, 3.6), layout='constrained')
        draw(figure, result['figures'])
        _save(figure, path.with_name(f'{path.stem}_{name}.png'))
    if result['profiles']:
        with replacing(path.with_name(f'{path.stem}_stages.png')) as temporary:
            frame_profile.plot(result['profiles'], temporary)
    with replacing(path.with_suffix('.md')) as temporary:
        temporary.write_text(page(result, path.stem))


def _save(figure: Figure, path: Path) -> None:
    for axes in figure.axes:
        axes.spines[['top', 'right']].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format='png', dpi=100)
    with replacing(path) as temporary:
        temporary.write_bytes(picture.getvalue())


def _line(axes: Axes, places: Sequence[float], runs: Sequence[Sequence[float]], **style: Any
          ) -> None:
    """Draw medians with their range."""
    there = [(place, found) for place, found in zip(places, runs, strict=True) if found]
    middles = [statistics.median(found) for _, found in there]
    lengths = [[middle - min(found) for middle, (_, found) in zip(middles, there, strict=True)],
               [max(found) - middle for middle, (_, found) in zip(middles, there, strict=True)]]
    axes.errorbar([place for place, _ in there], middles, lengths, marker='o', capsize=3, **style)


def _latency(figure: Figure, figures: Figures) -> None:
    for axes, transport in zip(figure.subplots(1, 2, sharey=True), ('raw', 'compressed'),
                               strict=True):
        for program in (OURS, PEER):
            for size, line in zip(SIZES, (':', '-', '--'), strict=True):
                setup = Setup(program, size, transport)
                runs = [values(figures, f'{setup} @ {rate:g} Hz', 'latency p50')
                        for rate in plan.RATES]
                if any(runs):
                    _line(axes, plan.RATES, runs, color=COLOURS[program], linestyle=line,
                          label=f'{program}, {size}')
        axes.set(xlabel='rate [Hz]', yscale='log', title=transport)
    figure.axes[0].set_ylabel('latency p50 [ms]')
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc='outside right center',
                  frameon=False)


def _highest(figure: Figure, figures: Figures) -> None:
    axes = figure.subplots()
    groups = [(size, transport) for transport in ('raw', 'compressed') for size in SIZES]
    for offset, program in ((-0.2, OURS), (0.2, PEER)):
        found = [values(figures, f'{Setup(program, *group)}, highest', 'highest rate')
                 for group in groups]
        heights = [statistics.median(rates) if rates else 0.0 for rates in found]
        bars = axes.bar([place + offset for place in range(len(groups))], heights, 0.38,
                        color=COLOURS[program], label=program)
        axes.bar_label(bars, [f'{height:.0f}' if height else '' for height in heights])
    axes.set_xticks(range(len(groups)), [f'{size}\n{transport}' for size, transport in groups])
    axes.set_ylabel('highest rate, under 5 % missed [Hz]')
    axes.legend(frameon=False)


def _growth(figure: Figure, figures: Figures) -> None:
    labels, cameras, sizes = figure.subplots(1, 3, sharey=True)
    _line(labels, [setup.labels for setup in plan.LABELS],
          [values(figures, f'labels: {setup} @ {plan.GROWTH_RATE:g} Hz', 'cpu')
           for setup in plan.LABELS], color=COLOURS[OURS])
    labels.set(xscale='log', xlabel='labels', ylabel='CPU [ms/frame]')
    _line(cameras, [setup.cameras for setup in plan.CAMERAS],
          [values(figures, f'cameras: {setup} @ {plan.CAMERA_RATE:g} Hz', 'cpu')
           for setup in plan.CAMERAS], color=COLOURS[OURS], label='5 Hz each')
    _line(cameras, [setup.cameras for setup in plan.TRIGGERED],
          [values(figures, f'cameras: {setup} @ {plan.CAMERA_RATE:g} Hz', 'cpu')
           for setup in plan.TRIGGERED], color=COLOURS[OURS], linestyle='--',
          label='with a common trigger')
    _line(cameras, [1], [values(figures, f'one camera: {plan.CAMERAS[0]} @ 40 Hz', 'cpu')],
          color='#c06a2b', label='one at 40 Hz')
    cameras.set(xlabel='cameras')
    cameras.legend(frameon=False)
    for transport, line in (('raw', '-'), ('compressed', '--')):
        _line(sizes, [width * height / 1e6 for width, height in SIZES.values()],
              [values(figures, f'{Setup(OURS, size, transport)} @ 30 Hz', 'cpu')
               for size in SIZES], color=COLOURS[OURS], linestyle=line, label=transport)
    sizes.set(xlabel='image size [million pixels]', ylim=(0, None))
    sizes.legend(frameon=False)
