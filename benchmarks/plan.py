"""What `make bench` measures, as data: which setups, at which rates, how long and how often."""
from collections.abc import Mapping
from dataclasses import dataclass, replace

from benchmarks.contenders import BARE, OURS, PEER, PEER_TEXT, Setup, SIZES

RATES = (5.0, 15.0, 30.0, 60.0)  # [Hz]
MAIN = '1280x720'
LARGEST, BARE_LARGEST = Setup(OURS, '1920x1080'), Setup(BARE, '1920x1080')
HOP_RATE = 30.0  # [Hz]
GROWTH_RATE = 30.0  # of the growth with labels [Hz]
LABELS = [Setup(OURS, MAIN, labels=count) for count in (10, 100, 1_000, 10_000)]
CAMERA_RATE = 5.0  # of each of several cameras [Hz]
CAMERAS = [Setup(OURS, MAIN, cameras=count) for count in (1, 2, 4, 8)]
TRIGGERED = [replace(setup, together=True) for setup in CAMERAS[1:]]
ONE_CAMERA_RATE = CAMERA_RATE * CAMERAS[-1].cameras


def all_sizes(program: str) -> list[Setup]:
    """Return a program's setups with one camera."""
    return [Setup(program, size, transport) for size in SIZES
            for transport in ('raw', 'compressed')]


def repeats(setup: Setup, most: int) -> int:
    """Return how often a setup is measured at all rates; `most` if it is used in ratios."""
    if setup.size == MAIN and setup.transport == 'raw' and setup.program != PEER_TEXT:
        return most
    return min(2, most) if setup.program == OURS else 1


def streams() -> list[Setup]:
    """Return the setups for the fixed rates and the highest rate, ours and the peer's in turn."""
    ours, peers = all_sizes(OURS), all_sizes(PEER)
    pairs = [setup for pair in zip(ours, peers, strict=True) for setup in pair]
    return [*pairs, Setup(PEER_TEXT, MAIN)]


@dataclass(frozen=True)
class Plan:
    """
    What one run measures.

    streams: the setups for the fixed rates and the highest rate, each with its fixed rates [Hz].
    labels, cameras, triggered: the setups for the growth of cost.
    profiled: by name, a setup whose stages are measured, and its rate [Hz].
    precision: largest ratio of a rate that is too high / the highest rate found.
    frames: the number of frames that a rate is judged by; at least two seconds of them.
    hop, profile, endurance: durations [s].
    text: whether the time of encoding text is measured.
    component: arguments of `component.py`.
    """

    streams: Mapping[Setup, tuple[float, ...]]
    labels: list[Setup]
    cameras: list[Setup]
    triggered: list[Setup]
    profiled: Mapping[str, tuple[Setup, float]]
    precision: float = 1.05
    frames: int = 100  # so that a queue of ten frames holds less than may be missed
    hop: float = 10.0
    profile: float = 5.0
    endurance: float = 60.0
    text: bool = True
    component: tuple[str, ...] = ()


FULL = Plan(
    dict.fromkeys(streams(), RATES), LABELS, CAMERAS, TRIGGERED,
    {str(setup): (setup, GROWTH_RATE) for setup in streams() if setup.program == OURS}
    | {f'{setup} @ {rate:g} Hz': (setup, rate) for setup, rate in (
        (CAMERAS[0], ONE_CAMERA_RATE), (CAMERAS[-1], CAMERA_RATE), (TRIGGERED[-1], CAMERA_RATE))})
_OURS, _PEER = Setup(OURS, MAIN), Setup(PEER, MAIN)
# The figures that the ratios are made of, as exact as three minutes allow.
QUICK = Plan(
    {_OURS: (5.0, 30.0), _PEER: (5.0,)}, [LABELS[0], LABELS[-1]], CAMERAS[-1:], TRIGGERED[-1:],
    {str(_OURS): (_OURS, GROWTH_RATE)}, precision=1.2, frames=50, hop=3.0, profile=2.0,
    endurance=10.0, text=False,
    component=('--batches', '1', '--rounds', '3', '--only', 'student', 'ViT-B/32'))


def seconds(rate: float) -> float:
    """Return the duration of a measurement at a fixed rate [Hz], in [s]."""
    return max(2.0, 15 / rate)
