"""What `make bench` measures, as data: which setups, at which rates, how often."""
from dataclasses import replace

from benchmarks.contenders import BARE, OURS, PEER, PEER_TEXT, Setup, SIZES

RATES = (5.0, 15.0, 30.0, 60.0)  # [Hz]
MAIN = '1280x720'
LARGEST, BARE_LARGEST = Setup(OURS, '1920x1080'), Setup(BARE, '1920x1080')
ENDURANCE = 60.0  # at 30 Hz [s]
HOP_RATE, HOP_SECONDS = 30.0, 10.0
PROFILE_SECONDS = 5.0
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


def seconds(rate: float) -> float:
    """Return the duration of a measurement at a fixed rate [Hz], in [s]."""
    return max(2.0, 15 / rate)
